"""Everything that a run creates, as typed values, in the order of creation.

A pure function of the plan: no cluster is asked, no clock is read, and the same plan gives the
same manifests. The preparing Job comes first because all others name its UID as their owner,
so the launcher builds twice: without a UID to create the Job, with it for all the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kubernetes import client

from bench.launch.kubernetes import names as n
from bench.launch.kubernetes.blueprint import Blueprint, ExistingClaim, check
from bench.launch.kubernetes.jobs import measure_job, prepare_job
from bench.launch.kubernetes.shape import GPU_CLAIM
from bench.launch.kubernetes.volumes import CA_KEY, PLAN_KEY, claim_spec
from bench.launch.kubernetes.yaml import dump
from bench.spec.cluster import ClusterSettings
from bench.spec.plan import Plan

__all__ = ["ExistingClaim", "Manifests", "build", "dry_run"]


DRY_RUN_HEADER = """\
What `bench run` creates, in this order.
Left out: each object but the first, and but a claim that is kept, names the first one as its
owner, by a UID that the cluster gives when it is created. Removing it removes the others."""


def _config_map(
    bp: Blueprint, name: str, component: str, data: Mapping[str, str], *, immutable: bool
) -> client.V1ConfigMap:
    return client.V1ConfigMap(
        api_version="v1",
        kind="ConfigMap",
        metadata=bp.metadata(name, component=component),
        data=dict(data),
        immutable=immutable or None,
    )


def _service(bp: Blueprint) -> client.V1Service:
    """Return the headless Service through which pods of a repeat find the first of them."""
    return client.V1Service(
        api_version="v1",
        kind="Service",
        metadata=bp.metadata(bp.names.base, component="rendezvous"),
        spec=client.V1ServiceSpec(
            cluster_ip="None",
            ports=[
                client.V1ServicePort(
                    name="coordinator",
                    port=n.COORDINATOR_PORT,
                    protocol="TCP",
                    target_port=n.COORDINATOR_PORT,
                )
            ],
            publish_not_ready_addresses=True,  # the barrier is what makes them ready
            selector={n.RUN_ID: bp.names.run_id, n.COMPONENT: "measure"},
        ),
    )


def _claim(bp: Blueprint) -> client.V1PersistentVolumeClaim | None:
    """Return the claim that is made for the run, or for it and later ones."""
    pvc = bp.plan.storage.pvc
    if not bp.creates_claim or pvc is None or pvc.storage_class_name is None or pvc.size is None:
        return None
    metadata = bp.metadata(bp.claim_name or "", component="dataset", owned=not bp.keeps_claim)
    if bp.keeps_claim and metadata.labels is not None:
        # What is found by run label is removed with the run; this must not be.
        for label in (n.RUN_ID, n.CELL_ID, n.ATTEMPT):
            del metadata.labels[label]
        metadata.labels[n.DATASET] = bp.plan.dataset.directory.rpartition("-")[2]
    return client.V1PersistentVolumeClaim(
        api_version="v1",
        kind="PersistentVolumeClaim",
        metadata=metadata,
        spec=claim_spec(
            storage_class=pvc.storage_class_name,
            size_bytes=pvc.size,
            access_modes=pvc.access_modes,
        ),
    )


def _claim_template(bp: Blueprint) -> client.V1ResourceClaimTemplate | None:
    if bp.cluster.gpu != "dra":
        return None
    selectors = None
    if bp.cluster.device_selector is not None:
        cel = client.V1CELDeviceSelector(expression=bp.cluster.device_selector)
        selectors = [client.V1DeviceSelector(cel=cel)]
    request = client.V1DeviceRequest(
        name=GPU_CLAIM,
        exactly=client.V1ExactDeviceRequest(
            allocation_mode="ExactCount",
            count=bp.plan.settings.gpus_per_node,
            device_class_name=bp.cluster.device_class_name,
            selectors=selectors,
        ),
    )
    return client.V1ResourceClaimTemplate(
        api_version="resource.k8s.io/v1",
        kind="ResourceClaimTemplate",
        metadata=bp.metadata(bp.names.gpu, component="gpu"),
        spec=client.V1ResourceClaimTemplateSpec(
            metadata=client.V1ObjectMeta(labels=bp.labels("gpu"), annotations=bp.annotations()),
            spec=client.V1ResourceClaimSpec(devices=client.V1DeviceClaim(requests=[request])),
        ),
    )


@dataclass(frozen=True, slots=True)
class Manifests:
    """What a run creates; `objects` gives the order.

    Attributes:
        anchor: The preparing Job, which owns all others.
        state: ConfigMap in which the launcher notes how far the run is.
        prepare_config: ConfigMap with the plan that the preparing Job reads.
        plan_config: ConfigMap with the plan that the measuring Jobs read. The two differ in
            the manifest digest, which is not known before the data set is made; a ConfigMap
            that changed under a kubelet's cache could hand out the old one.
        service: Headless Service.
        claim: Claim to create; None for existing claims and targets without one. One that
            is kept has no owner and no run label, and may be there already.
        claim_template: DRA: what the pods' GPUs are claimed by; else None.
        blueprint: What they were made of.
    """

    anchor: client.V1Job
    state: client.V1ConfigMap
    prepare_config: client.V1ConfigMap
    plan_config: client.V1ConfigMap
    service: client.V1Service
    claim: client.V1PersistentVolumeClaim | None
    claim_template: client.V1ResourceClaimTemplate | None
    blueprint: Blueprint

    def measure(
        self, repeat: int, *, attempt: int | None = None, nodes: Sequence[str] | None = None
    ) -> client.V1Job:
        """Return the Job of one repeat.

        Args:
            repeat: 0-based.
            attempt: 1-based; None for that of the manifests.
            nodes: Names of the nodes that alone may run it, such as those of the repeat
                before or of the other arm; None for those of the manifests.

        Raises:
            UsageError: There are fewer names than nodes in the plan.
        """
        bp = self.blueprint
        changed = replace(
            bp,
            attempt=bp.attempt if attempt is None else attempt,
            nodes=bp.nodes if nodes is None else tuple(nodes),
        )
        return measure_job(changed, repeat)

    def objects(self) -> list[Any]:
        """Return all of them in the order of creation."""
        found = (
            self.anchor,
            self.state,
            self.prepare_config,
            self.plan_config,
            self.service,
            self.claim,
            self.claim_template,
            *(self.measure(repeat) for repeat in range(self.blueprint.plan.settings.repeats)),
        )
        return [one for one in found if one is not None]


def build(
    plan: Plan,
    *,
    cluster: ClusterSettings,
    namespace: str | None = None,
    owner_uid: str | None = None,
    existing: ExistingClaim | None = None,
    state: Mapping[str, str] | None = None,
    ca_bundle: str | None = None,
    attempt: int = 1,
    nodes: Sequence[str] = (),
) -> Manifests:
    """Return everything that a run creates.

    Args:
        plan: What is measured. Its manifest digest may be empty while the data set is not
            made: the preparing Job and all objects but `plan_config` and the measuring Jobs
            can be created then.
        cluster: How its pods are made.
        namespace: Where; None for that of the settings, and none at all where they have none.
        owner_uid: UID of the preparing Job; None leaves owner references out.
        existing: What preflight read of the target's claim; None where nobody looked.
        state: First contents of the state ConfigMap.
        ca_bundle: PEM text of the file that storage.object.ca_bundle names.
        attempt: 1-based.
        nodes: Names of the nodes that alone may run any of its pods; empty for any.

    Raises:
        UsageError: The plan cannot run in a cluster; names the field and the remedy.
    """
    bp = check(
        plan,
        cluster,
        namespace=namespace,
        existing=existing,
        owner_uid=owner_uid,
        attempt=attempt,
        ca_bundle=ca_bundle,
        nodes=tuple(nodes),
    )
    config = {PLAN_KEY: plan.canonical_json().decode()}
    if ca_bundle is not None:
        config[CA_KEY] = ca_bundle
    return Manifests(
        anchor=prepare_job(bp),
        state=_config_map(bp, bp.names.state, "state", state or {}, immutable=False),
        prepare_config=_config_map(bp, bp.names.prepare, "prepare", config, immutable=True),
        plan_config=_config_map(bp, bp.names.plan, "measure", config, immutable=True),
        service=_service(bp),
        claim=_claim(bp),
        claim_template=_claim_template(bp),
        blueprint=bp,
    )


def dry_run(manifests: Manifests) -> str:
    """Return the YAML of everything that a run creates, for a person or a repository."""
    return dump(manifests.objects(), header=DRY_RUN_HEADER)
