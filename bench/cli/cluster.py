"""`bench run` on a cluster, and `bench attach`, which goes on where a launcher ended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import click
from rich.console import Console

from bench.agent.group import termination_as_interrupt
from bench.agent.site import Site
from bench.analysis.intervals import summarize
from bench.analysis.summary import sentence
from bench.cli.follow import Follower
from bench.cli.live import LiveLine, Progress
from bench.cli.options import ClusterOptions, read_documents
from bench.cli.outcome import conclude, present
from bench.dataset.progress import Progress as MakeProgress
from bench.errors import InfrastructureError, ResultsError, UsageError
from bench.launch.campaign import scratch_directory
from bench.launch.document import fresh_id, plan_summary, run_document
from bench.launch.kubernetes import objects
from bench.launch.kubernetes.connect import Connection, connect
from bench.launch.kubernetes.estimate import lines
from bench.launch.kubernetes.heartbeat import HEARTBEAT_SECONDS
from bench.launch.kubernetes.interleave import interleave
from bench.launch.kubernetes.lease import HeldLease
from bench.launch.kubernetes.manifests import dry_run as dry_run_yaml
from bench.launch.kubernetes.names import DRY_RUN_ID, Names
from bench.launch.kubernetes.parts import Listener
from bench.launch.kubernetes.request import (
    Checked,
    Draft,
    check,
    draft,
    lease,
    load_state,
    manifests_of,
)
from bench.launch.kubernetes.run import ClusterRun
from bench.measure.host import unknown_host
from bench.results.schema import Run
from bench.results.store import RunKey, Store, open_store

__all__ = ["attach", "print_manifests", "read_draft", "run_on_cluster"]

REMOVE_SECONDS = 90.0


def read_draft(**asked: Any) -> Draft:
    """Load the documents, apply overrides and check what can be checked without a cluster.

    Args:
        asked: As `bench.cli.options.read_documents` takes it.

    Raises:
        UsageError: Something is wrong with what the user wrote.
    """
    given = read_documents(**asked)
    return draft(
        given.workload,
        given.target,
        given.settings,
        run_id=fresh_id(),
        division=given.division,
        overrides=given.overrides,
    )


def print_manifests(drafts: Sequence[Draft]) -> None:
    """Print what a run would create; asks no cluster."""
    for found in drafts:
        named = replace(found, plan=found.plan.model_copy(update={"run_id": DRY_RUN_ID}))
        print(dry_run_yaml(manifests_of(named, namespace=None)), end="")


def run_on_cluster(drafts: Sequence[Draft], options: ClusterOptions) -> None:
    """Measure on a cluster: preflight, data set, Jobs, collection, clean-up.

    Args:
        drafts: One for each target; several are measured in turn on the same nodes.
        options: Where and how.

    Raises:
        BenchError: As its class says.
    """
    store = open_store(options.results)
    store.check_writable()
    connection, namespace = _connect(options, drafts[0])
    arms = []
    for found in drafts:
        checked = check(found, connection, namespace=namespace)
        if not options.as_json:
            _tell(checked)
        arms.append(_Arm(found, checked, datetime.now(UTC)))
    for arm in arms:
        arm.checked.verdict.check()
    _measure(arms, connection, namespace, store, options)


@dataclass(frozen=True, slots=True)
class _Arm:
    """One target of a run."""

    draft: Draft
    checked: Checked
    created_at: datetime


def _tell(checked: Checked) -> None:
    console = Console(stderr=True)
    for note in checked.verdict.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    for line in lines(checked.estimate):
        console.print(f"estimate: {line}", highlight=False, markup=False, soft_wrap=True)


def _connect(options: ClusterOptions, found: Draft | None) -> tuple[Connection, str]:
    connection = connect(context=options.context, kubeconfig=options.kubeconfig)
    settled = found.cell.settings.cluster.namespace if found is not None else None
    return connection, options.namespace or settled or connection.namespace


def _hold(
    arms: Sequence[_Arm], connection: Connection, namespace: str, stack: contextlib.ExitStack
) -> list[HeldLease]:
    """Take the Lease of every target, each once."""
    held: dict[tuple[str, str], HeldLease] = {}
    for arm in arms:
        one = lease(arm.draft, connection, namespace=namespace, existing=arm.checked.existing)
        if one is not None and (one.namespace, one.name) not in held:
            held[one.namespace, one.name] = stack.enter_context(one)
    return list(held.values())


def _measure(
    arms: Sequence[_Arm],
    connection: Connection,
    namespace: str,
    store: Store,
    options: ClusterOptions,
) -> None:
    left: list[str] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(termination_as_interrupt())
        held = _hold(arms, connection, namespace, stack)
        mode: Literal["auto", "off"] = "off" if options.as_json else "auto"
        line = stack.enter_context(LiveLine(Console(stderr=True), mode=mode))
        runs = []
        for arm in arms:
            scratch = stack.enter_context(scratch_directory(options.results, arm.draft.plan.run_id))
            runs.append(_cluster_run(arm, connection, namespace, store, scratch, line, held))
        interleave(runs)
        stored: list[Run] = []
        try:
            # Stored before anything is removed: a launcher that dies in between loses nothing.
            for arm, run in zip(arms, runs, strict=True):
                stored.append(_stored(arm, run, held, store))
        except ResultsError as error:
            names = ", ".join(arm.draft.plan.run_id for arm in arms[len(stored) :])
            raise ResultsError(
                error.place,
                error.problem,
                f"the run is still in the cluster: mend that, then `bench attach {names} "
                f"-n {namespace}`",
            ) from error
        except KeyboardInterrupt:
            for run in runs:
                run.remove(timeout_seconds=REMOVE_SECONDS)
            raise
        line.update(Progress(phase="clean-up"))
        for run in runs:
            left += run.remove(timeout_seconds=REMOVE_SECONDS)
    for document in stored:
        present(document, store, as_json=options.as_json)
    if left:
        remains = InfrastructureError(
            f"namespace {namespace}",
            f"{len(left)} objects are not gone after {REMOVE_SECONDS:g} s: {', '.join(left[:8])}",
            f"run `bench clean -n {namespace}`",
        )
        if all(run.campaign.error is None for run in runs):
            raise remains
        # Why the run failed is the greater news, and is told last.
        Console(stderr=True).print(
            f"note: {remains}", highlight=False, markup=False, soft_wrap=True
        )
    # An arm that was only stopped because of another one says less than that other one.
    concluded = sorted(zip(stored, runs, strict=True), key=lambda d: d[1].campaign.error is None)
    for document, run in concluded:
        conclude(document, run.campaign)


def _stored(arm: _Arm, run: ClusterRun, held: Sequence[HeldLease], store: Store) -> Run:
    if any(one.lost.is_set() for one in held) and run.campaign.error is None:
        run.campaign.error = InfrastructureError(
            held[0].place,
            "was lost while the run measured: another one may have disturbed it",
            "run again",
        )
    return store.write_run(_document(arm, run))


def _cluster_run(
    arm: _Arm,
    connection: Connection,
    namespace: str,
    store: Store,
    scratch: Path,
    line: LiveLine,
    leases: Sequence[HeldLease],
) -> ClusterRun:
    cell, plan = arm.draft.cell, arm.draft.plan
    follower = Follower(line, cell)
    if plan.settings.max_steps is None:
        follower.expect(plan.dataset.total_bytes * plan.workload.access.epochs)
    return ClusterRun(
        connection=connection,
        namespace=namespace,
        plan=plan,
        store=store,
        key=RunKey(cell.target.metadata.name, cell.workload.metadata.name, plan.run_id),
        scratch=scratch,
        listener=_listener(line, follower),
        request=arm.draft.request(created_at=arm.created_at.isoformat()),
        existing=arm.checked.existing,
        ca_bundle=arm.draft.ca_bundle,
        leases=leases,
    )


def _listener(line: LiveLine, follower: Follower) -> Listener:
    def making(event: dict[str, Any]) -> None:
        if event["event"] == "making":
            fields = {key: value for key, value in event.items() if key != "event"}
            follower.making(MakeProgress(**fields))

    since = time.monotonic()

    def waiting(words: str) -> None:
        line.update(
            Progress(phase="waiting", elapsed_seconds=time.monotonic() - since, note=f"for {words}")
        )

    return Listener(event=follower.event, making=making, waiting=waiting)


def _document(arm: _Arm, run: ClusterRun) -> Run:
    found, campaign, place = arm.draft, run.campaign, run.place
    site = place.site or Site(unknown_host(), None, {"note": "no pod came to say"})
    storage = place.observed.get("storage")
    facts = dict(site.facts)
    if isinstance(storage, dict):
        facts |= {key: storage[key] for key in ("storage_class", "csi_drivers") if key in storage}
    site = replace(site, facts=facts)
    plan = run.plan if campaign.repeats else None
    digests = sorted(place.image_digests)
    return run_document(
        found.cell,
        plan,
        campaign,
        site,
        run_id=found.plan.run_id,
        division=found.division,
        summary=summarize(campaign.repeats),
        sentence=sentence(campaign.repeats, plan=plan_summary(found.cell, plan, campaign.device)),
        created_at=arm.created_at,
        image_digest=digests[0] if len(digests) == 1 else None,
        cluster=place.observed | {"namespace": run.namespace},
    )


@click.command(name="attach")
@click.argument("run_id", metavar="RUN")
@click.option("-n", "--namespace", help="Namespace of the run.")
@click.option("--context", help="Context of the kubeconfig.")
@click.option("--kubeconfig", help="Path of the kubeconfig.")
@click.option("--results", default="bench-results", show_default=True, help="Results directory.")
@click.option("--force", is_flag=True, help="Even where another launcher seems to be at it.")
@click.option("--json", "as_json", is_flag=True, help="Print the run document and nothing else.")
def attach(
    *,
    run_id: str,
    namespace: str | None,
    context: str | None,
    kubeconfig: str | None,
    results: str,
    force: bool,
    as_json: bool,
) -> None:
    """Go on with RUN on a cluster, whose launcher died: collect it, and measure what is left."""
    options = ClusterOptions(
        context=context,
        kubeconfig=kubeconfig,
        namespace=namespace,
        results=results,
        as_json=as_json,
    )
    store = open_store(results)
    store.check_writable()
    connection, where = _connect(options, None)
    found, state = load_state(connection, run_id.lower(), namespace=where)
    quiet = time.time() - float(state.get("alive", 0.0))
    if quiet < 2 * HEARTBEAT_SECONDS and not force:
        raise UsageError(
            f"run {run_id}",
            f"has a launcher that said {quiet:.0f} s ago that it is alive",
            "wait for it, or use --force where you know that it is dead",
        )
    anchor = Names(found.plan.run_id).prepare
    if objects.read(connection.api_client, "Job", anchor, namespace=where) is None:
        raise UsageError(
            f"run {run_id}", "has no preparing Job any more: it is being removed", "run again"
        )
    checked = check(found, connection, namespace=where)
    created_at = datetime.fromisoformat(state["request"]["created_at"])
    _measure([_Arm(found, checked, created_at)], connection, where, store, options)
