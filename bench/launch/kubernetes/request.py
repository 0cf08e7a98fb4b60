"""From documents to a run on a cluster that preflight has let through, and back from its state."""

from __future__ import annotations

import getpass
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.dataset.manifest import Manifest
from bench.errors import UsageError
from bench.launch.kubernetes import objects
from bench.launch.kubernetes.blueprint import ExistingClaim
from bench.launch.kubernetes.connect import Connection
from bench.launch.kubernetes.estimate import Estimate, check_budget, estimate
from bench.launch.kubernetes.lease import HeldLease, Holder, lease_of
from bench.launch.kubernetes.manifests import Manifests, build
from bench.launch.kubernetes.names import Names
from bench.launch.kubernetes.preflight import Verdict, decide, existing_claim, gather
from bench.launch.kubernetes.preflight.image import is_pinned
from bench.launch.kubernetes.shape import parsed, resources
from bench.launch.resolve import Cell, build_plan, resolve_cell
from bench.results.ids import is_id
from bench.spec.documents import StorageTarget, Workload
from bench.spec.plan import Plan, PlanSettings

__all__ = ["Checked", "Draft", "check", "draft", "load_state", "manifests_of"]

Division = Literal["certified", "exploratory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What is to be run, before a cluster was asked.

    Attributes:
        cell: Workload, target and settings, completed.
        plan: With the sizes that the data set will have and no manifest digest yet.
        division: Certified or exploratory.
        overrides: As given.
        ca_bundle: PEM text for an object target; None where it names none.
    """

    cell: Cell
    plan: Plan
    division: Division
    overrides: tuple[str, ...]
    ca_bundle: str | None

    def request(self, *, created_at: str) -> dict[str, Any]:
        """Return what `load_state` needs to build the same draft again."""
        return {
            "workload": self.cell.workload.model_dump(mode="json", by_alias=True),
            "storage": self.cell.target.model_dump(mode="json", by_alias=True),
            "settings": self.cell.settings.model_dump(mode="json", by_alias=True),
            "plan": self.plan.model_dump(mode="json", by_alias=True),
            "division": self.division,
            "overrides": list(self.overrides),
            "created_at": created_at,
        }


@dataclass(frozen=True, slots=True)
class Checked:
    """What preflight found."""

    existing: ExistingClaim | None
    verdict: Verdict
    estimate: Estimate


def draft(
    workload: Workload,
    target: StorageTarget,
    settings: PlanSettings,
    *,
    run_id: str,
    division: Division,
    overrides: tuple[str, ...],
) -> Draft:
    """Return what is to be run.

    Raises:
        UsageError: Something does not fit; names it and the remedy.
    """
    cluster = settings.cluster
    cell = resolve_cell(workload, target, settings, memory_bytes=None, cacheable_bytes=0)
    if cluster.image is None or not is_pinned(cluster.image):
        division = "exploratory"  # a tag may be another image tomorrow
    plan = _plan(cell, run_id, division, overrides)
    cached = target.spec.io.mode != "direct" and settings.cache == "cold"
    files = target.spec.pvc is not None or target.spec.ephemeral is not None
    if cached and files:
        limits = resources(plan, cluster, with_gpus=False).limits or {}
        memory = int(parsed("plan.cluster.memory_bytes", str(limits["memory"])))
        cell = resolve_cell(workload, target, settings, memory_bytes=memory, cacheable_bytes=memory)
        plan = _plan(cell, run_id, division, overrides)
    return Draft(
        cell=cell,
        plan=plan,
        division=division,
        overrides=overrides,
        ca_bundle=_certificates(target),
    )


def _plan(cell: Cell, run_id: str, division: Division, overrides: tuple[str, ...]) -> Plan:
    manifest = Manifest.synthetic(cell.workload.metadata.name, cell.workload.spec.dataset)
    plan = build_plan(cell, manifest, run_id=run_id, division=division, overrides=overrides)
    unknown = plan.dataset.model_copy(update={"manifest_digest": ""})
    return plan.model_copy(update={"dataset": unknown})


def _certificates(target: StorageTarget) -> str | None:
    bundle = target.spec.object.ca_bundle if target.spec.object is not None else None
    if bundle is None:
        return None
    try:
        return Path(bundle).expanduser().read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "storage.object.ca_bundle", f"{bundle} cannot be read as PEM text ({error})"
        ) from error


def manifests_of(
    found: Draft, *, namespace: str | None, existing: ExistingClaim | None = None
) -> Manifests:
    """Return what a draft would create.

    Raises:
        UsageError: It cannot run in a cluster.
    """
    return build(
        found.plan,
        cluster=found.cell.settings.cluster,
        namespace=namespace,
        existing=existing,
        ca_bundle=found.ca_bundle,
    )


def check(found: Draft, connection: Connection, *, namespace: str) -> Checked:
    """Ask the cluster whether the run can be; nothing is created.

    Raises:
        UsageError: It reads more than its budget, or cannot run in a cluster at all. What
            preflight refuses is in the verdict.
    """
    takes = estimate(found.plan)
    check_budget(found.plan, takes)
    pvc = found.plan.storage.pvc
    existing = existing_claim(
        connection, claim_name=pvc.claim_name if pvc is not None else None, namespace=namespace
    )
    manifests = manifests_of(found, namespace=namespace, existing=existing)
    verdict = decide(gather(connection, manifests, namespace=namespace), manifests)
    return Checked(existing, verdict, takes)


def lease(
    found: Draft, connection: Connection, *, namespace: str, existing: ExistingClaim | None
) -> HeldLease | None:
    """Return the Lease that keeps other runs off the storage; None where none is wanted."""
    manifests = manifests_of(found, namespace=namespace, existing=existing)
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    words = f"{connection.user if connection.user != 'unknown' else user} at {socket.gethostname()}"
    return lease_of(
        connection.api_client,
        manifests.blueprint,
        namespace=namespace,
        holder=Holder(found.plan.run_id, words),
    )


def load_state(
    connection: Connection, run_id: str, *, namespace: str
) -> tuple[Draft, dict[str, Any]]:
    """Return a run as its state ConfigMap tells it, with all of the state.

    Raises:
        UsageError: There is no such run.
    """
    if not is_id(run_id):
        raise UsageError(f"run {run_id}", "is no run id", "see `bench clean --list`")
    names = Names(run_id)
    value = objects.read(connection.api_client, "ConfigMap", names.state, namespace=namespace)
    if value is None or "request" not in (value.get("data") or {}):
        raise UsageError(
            f"run {run_id}",
            f"has no state in namespace {namespace}",
            "give the run's namespace with -n; see `bench clean --list`",
        )
    state = objects.state_data(value)
    request = state["request"]
    target = StorageTarget.model_validate(request["storage"])
    cell = Cell(
        Workload.model_validate(request["workload"]),
        target,
        PlanSettings.model_validate(request["settings"]),
    )
    found = Draft(
        cell=cell,
        plan=Plan.model_validate(request["plan"]),
        division=request["division"],
        overrides=tuple(request["overrides"]),
        ca_bundle=_certificates(target),
    )
    return found, state
