"""`bench clean`: find and remove what runs have left in a cluster."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field

import click

from bench.errors import InfrastructureError, UsageError
from bench.launch.kubernetes import names as n
from bench.launch.kubernetes import objects
from bench.launch.kubernetes.connect import API_FAULTS, Connection, JsonObject, api_error, connect
from bench.launch.kubernetes.heartbeat import HEARTBEAT_SECONDS
from bench.launch.kubernetes.names import Names
from bench.launch.kubernetes.picture import instant
from bench.results.ids import is_id

__all__ = ["command"]

REMOVE_SECONDS = 120.0


@dataclass(slots=True)
class _Found:
    """One run's objects."""

    kinds: dict[str, int] = field(default_factory=dict)
    quiet_seconds: float | None = None

    @property
    def alive(self) -> bool:
        return self.quiet_seconds is not None and self.quiet_seconds < 2 * HEARTBEAT_SECONDS


@click.command(name="clean")
@click.argument("run_ids", metavar="[RUN...]", nargs=-1)
@click.option("-n", "--namespace", help="Namespace to look in; by default that of the context.")
@click.option("--context", help="Context of the kubeconfig.")
@click.option("--kubeconfig", help="Path of the kubeconfig.")
@click.option("--list", "only_list", is_flag=True, help="Say what is there, remove nothing.")
@click.option("--force", is_flag=True, help="Also runs whose launcher seems to be alive.")
def command(
    *,
    run_ids: tuple[str, ...],
    namespace: str | None,
    context: str | None,
    kubeconfig: str | None,
    only_list: bool,
    force: bool,
) -> None:
    """Remove what runs have left in a cluster: all of them, or the named RUNs.

    Finds objects by their run label. Claims that keep a data set, and claims that existed
    before a run, carry none and are never removed.
    """
    wanted = [run_id.lower() for run_id in run_ids]
    for run_id in wanted:
        if not is_id(run_id):
            raise UsageError(f"run {run_id}", "is no run id", "see `bench clean --list`")
    connection = connect(context=context, kubeconfig=kubeconfig)
    where = namespace or connection.namespace
    found = _find(connection, where)
    chosen = {run_id: found.get(run_id, _Found()) for run_id in wanted} if wanted else found
    if not chosen:
        print(f"namespace {where}: nothing is left of any run")
        return
    spared = []
    for run_id, one in sorted(chosen.items()):
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(one.kinds.items()))
        alive = f", its launcher was alive {one.quiet_seconds:.0f} s ago" if one.alive else ""
        if only_list:
            print(f"{run_id}  {counts or 'nothing'}{alive}")
        elif one.alive and not force:
            spared.append(run_id)
            print(f"{run_id}  left alone{alive}")
        elif not one.kinds:
            print(f"{run_id}  nothing is left")
        else:
            _remove(connection, run_id, where)
            print(f"{run_id}  removed {counts}")
    if spared:
        raise UsageError(
            f"{len(spared)} run(s)", "seem to be under way", "use --force to remove them"
        )


def _find(connection: Connection, namespace: str) -> dict[str, _Found]:
    selector = f"{n.MANAGED_BY}=bench,{n.RUN_ID}"
    try:
        left = objects.leftovers(connection.api_client, namespace=namespace, selector=selector)
    except API_FAULTS as error:
        raise api_error(error, place=f"namespace {namespace}") from error
    found: dict[str, _Found] = {}
    for item in left:
        one = found.setdefault(_run_of(item), _Found())
        one.kinds[item["kind"]] = one.kinds.get(item["kind"], 0) + 1
    for run_id, one in found.items():
        # A run that is just being created has no state yet.
        made = [instant(i["metadata"]["creationTimestamp"]) for i in left if _run_of(i) == run_id]
        one.quiet_seconds = time.time() - max(filter(None, made), default=0.0)
        state = objects.read(
            connection.api_client, "ConfigMap", Names(run_id).state, namespace=namespace
        )
        alive = (state or {}).get("data", {}).get("alive")
        if alive is not None:
            one.quiet_seconds = time.time() - float(json.loads(alive))
    return found


def _run_of(item: JsonObject) -> str:
    return str(item["metadata"]["labels"][n.RUN_ID])


def _remove(connection: Connection, run_id: str, namespace: str) -> None:
    left = objects.remove_run(
        connection.api_client, run_id, namespace=namespace, timeout_seconds=REMOVE_SECONDS
    )
    if left:
        raise InfrastructureError(
            f"run {run_id}",
            f"not gone after {REMOVE_SECONDS:g} s: {', '.join(left[:8])}",
            "see their finalizers and the nodes that hold their pods",
        )
