"""What a run asks of a namespace and of nodes, counted from its manifests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from bench.launch.kubernetes.manifests import Manifests
from bench.launch.kubernetes.preflight.facts import amount
from bench.launch.kubernetes.yaml import plain

__all__ = ["Claims", "Demand", "demand_of"]

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Claims:
    """Volume claims that a run makes: by itself, or through its pods.

    Attributes:
        count: At a time.
        storage_class: Of each.
        each_bytes: Of each.
    """

    count: int
    storage_class: str
    each_bytes: Decimal


@dataclass(frozen=True, slots=True)
class Demand:
    """What a run asks for.

    Attributes:
        num_pods: Measuring pods at a time.
        pod: Spec of a measuring pod, plain.
        prepare_pod: Spec of the preparing pod, plain.
        requests: Of one measuring pod, by resource.
        limits: Of one measuring pod, by resource.
        claims: None where it makes none.
        counts: Objects that the run has in the end, by the key of a quota.
    """

    num_pods: int
    pod: JsonObject
    prepare_pod: JsonObject
    requests: Mapping[str, Decimal]
    limits: Mapping[str, Decimal]
    claims: Claims | None
    counts: Mapping[str, int]

    def of_quota(self, key: str) -> Decimal | None:
        """Return how much of a quota's resource the run takes; None where it takes none.

        Args:
            key: As in a ResourceQuota: "requests.cpu", "count/jobs.batch",
                "fast.storageclass.storage.k8s.io/requests.storage".
        """
        if key in self.counts:
            return Decimal(self.counts[key])
        storage_class, found, what = key.partition(".storageclass.storage.k8s.io/")
        if found:
            if self.claims is None or self.claims.storage_class != storage_class:
                return None
            return self._of_claims(what)
        if key in ("requests.storage", "persistentvolumeclaims"):
            return self._of_claims(key)
        kind, dot, name = key.partition(".")
        each = self.limits if (kind, dot) == ("limits", ".") else self.requests
        name = name if dot and kind in ("requests", "limits") else key
        return each[name] * self.num_pods if name in each else None

    def _of_claims(self, what: str) -> Decimal | None:
        if self.claims is None:
            return None
        if what == "persistentvolumeclaims":
            return Decimal(self.claims.count)
        return self.claims.each_bytes * self.claims.count


def _amounts(pod: JsonObject, kind: str) -> dict[str, Decimal]:
    (container,) = pod["containers"]
    return {name: amount(text) for name, text in container["resources"][kind].items()}


def _claims(manifests: Manifests, *, claim_exists: bool) -> Claims | None:
    bp = manifests.blueprint
    storage = bp.plan.storage
    if storage.ephemeral is not None:
        ephemeral = storage.ephemeral
        return Claims(bp.plan.settings.nodes, ephemeral.storage_class_name, Decimal(ephemeral.size))
    if not bp.creates_claim or claim_exists or storage.pvc is None:
        return None
    return Claims(1, storage.pvc.storage_class_name or "", Decimal(storage.pvc.size or 0))


def demand_of(manifests: Manifests, *, claim_exists: bool) -> Demand:
    """Return what a run asks for.

    Args:
        manifests: Of the run.
        claim_exists: The claim that would be created and kept is there from an earlier run.
    """
    settings, cluster = manifests.blueprint.plan.settings, manifests.blueprint.cluster
    pod = plain(manifests.measure(0))["spec"]["template"]["spec"]
    prepare = plain(manifests.anchor)["spec"]["template"]["spec"]
    claims = _claims(manifests, claim_exists=claim_exists)
    num_jobs = 1 + settings.repeats
    counts = {
        "pods": settings.nodes,  # ended ones do not count
        "count/pods": 1 + settings.nodes * settings.repeats,
        "count/jobs.batch": num_jobs,
        "configmaps": 3,
        "count/configmaps": 3,
        "services": 1,
        "count/services": 1,
    }
    if claims is not None:
        counts["count/persistentvolumeclaims"] = claims.count
    if manifests.claim_template is not None:
        counts["count/resourceclaimtemplates.resource.k8s.io"] = 1
        devices = settings.nodes * settings.gpus_per_node
        counts[f"{cluster.device_class_name}.deviceclass.resource.k8s.io/devices"] = devices
    return Demand(
        num_pods=settings.nodes,
        pod=pod,
        prepare_pod=prepare,
        requests=_amounts(pod, "requests"),
        limits=_amounts(pod, "limits"),
        claims=claims,
        counts=counts,
    )
