"""`bench run`: measure one cell and store what came of it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bench.agent.group import termination_as_interrupt
from bench.analysis.intervals import summarize
from bench.analysis.summary import sentence
from bench.analysis.wording import rate
from bench.cli.follow import Follower
from bench.cli.live import LiveLine
from bench.cli.options import ClusterOptions, Request, cell_options, read_request
from bench.cli.outcome import conclude, present
from bench.dataset.generate import ensure
from bench.dataset.manifest import Manifest
from bench.dataset.objects import ensure_objects
from bench.errors import BenchError, UsageError
from bench.launch.campaign import (
    Campaign,
    run_repeats,
    scratch_directory,
)
from bench.launch.document import fresh_id, plan_summary, run_document
from bench.launch.resolve import build_plan, dataset_directory
from bench.launch.tune import knee, sweep
from bench.results.schema import Run
from bench.results.store import RunKey, Store, open_store
from bench.spec.load import load_storage
from bench.spec.plan import Plan

__all__ = ["command"]

MAKE_WORKERS = 2
"""Threads that make data sets: the disk is the limit from two on."""

UPLOAD_WORKERS = 8
"""Threads that make and upload objects: one request each is under way."""


@click.command(name="run")
@partial(cell_options, many_targets=True)
@click.option("--interleave", is_flag=True, help="Of several -s: on the same nodes, A B B A.")
@click.option(
    "--launcher",
    type=click.Choice(["auto", "local", "kubernetes"]),
    default="auto",
    show_default=True,
    help="auto: a cluster for pvc and ephemeral targets, else this machine.",
)
@click.option("-n", "--namespace", help="Of a run on a cluster; by default that of the context.")
@click.option("--context", help="Context of the kubeconfig.")
@click.option("--kubeconfig", help="Path of the kubeconfig; by default as kubectl finds it.")
@click.option("--repeats", type=int, help="Measurements of the cell.")
@click.option("--steps", "max_steps", type=int, help="Stop each repeat after so many steps.")
@click.option("--duration", "max_seconds", help="Stop each repeat after so much time.")
@click.option("--results", default="bench-results", show_default=True, help="Results directory.")
@click.option("--tune", is_flag=True, help="Find the number of concurrent reads first.")
@click.option("--dry-run", is_flag=True, help="Print what would be run, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the run document and nothing else.")
def command(  # noqa: PLR0913 - options of a command
    *,
    workload: str,
    storage: tuple[str, ...],
    interleave: bool,
    overrides: tuple[str, ...],
    launcher: str,
    namespace: str | None,
    context: str | None,
    kubeconfig: str | None,
    results: str,
    tune: bool,
    dry_run: bool,
    as_json: bool,
    dataset_size: str | None,
    **settings: Any,
) -> None:
    """Measure WORKLOAD on a storage target.

    Makes or checks the data set, streams it through the loader into the accelerator, and
    stores a run document and a report page.
    """
    if len(storage) > 1 and not interleave:
        raise UsageError(
            "-s", f"is given {len(storage)} times", "add --interleave, or run them one by one"
        )
    asked = {
        "workload": workload,
        "overrides": overrides,
        "dataset_bytes": dataset_size,
        **settings,
    }
    if launcher == "kubernetes" or (launcher == "auto" and _needs_cluster(storage, overrides)):
        if tune:
            raise UsageError(
                "--tune", "works on this machine only", "give storage.io.threads, or tune locally"
            )
        _on_cluster(
            asked,
            storage,
            dry_run=dry_run,
            options=ClusterOptions(
                context=context,
                kubeconfig=kubeconfig,
                namespace=namespace,
                results=results,
                as_json=as_json,
            ),
        )
        return
    if len(storage) > 1:
        raise UsageError(
            "--interleave",
            "needs a cluster, and the local launcher was chosen",
            "use --launcher kubernetes, or run the targets one by one",
        )
    request = read_request(storage=storage[0], **asked)
    if dry_run:
        _print_plan(request)
        return
    store = open_store(results)
    store.check_writable()
    console = Console(stderr=True)
    with termination_as_interrupt(), LiveLine(console, mode="off" if as_json else "auto") as line:
        run, campaign = _measure(request, store, results, Follower(line, request.cell), tune=tune)
    if tune and not as_json:
        _show_curve(run)
    present(run, store, as_json=as_json)
    conclude(run, campaign)


def _needs_cluster(storage: tuple[str, ...], overrides: tuple[str, ...]) -> bool:
    kinds = {load_storage(name, overrides=overrides).spec.kind for name in storage}
    return bool(kinds & {"pvc", "ephemeral"})


def _on_cluster(
    asked: dict[str, Any], storage: tuple[str, ...], *, dry_run: bool, options: ClusterOptions
) -> None:
    from bench.cli import cluster  # the client takes half a second to import

    found = [cluster.read_draft(storage=name, **asked) for name in storage]
    if dry_run:
        cluster.print_manifests(found)
        return
    cluster.run_on_cluster(found, options)


def _show_curve(run: Run) -> None:
    points = run.storage["facts"].get("tuning", [])
    most = max((point["bytes_per_second"] for point in points), default=1.0)
    for point in points:
        bar = "#" * max(1, round(40 * point["bytes_per_second"] / most))
        mark = "  chosen" if point["chosen"] else ""
        print(
            f"{point['in_flight']:>4} at a time  {rate(point['bytes_per_second']):>12}  {bar}{mark}"
        )


def _print_plan(request: Request) -> None:
    cell = request.cell
    dataset = cell.workload.spec.dataset
    document = {
        "division": request.division,
        "workload": cell.workload.model_dump(mode="json", by_alias=True),
        "storage": cell.target.model_dump(mode="json", by_alias=True),
        "plan": plan_summary(cell, None, {}),
        "dataset": {
            "directory": dataset_directory(cell),
            "samples": dataset.samples,
            "bytes": Manifest.synthetic("dry-run", dataset).total_bytes,
        },
    }
    print(json.dumps(document, indent=1, ensure_ascii=False))


def _manifest(request: Request, follower: Follower) -> Manifest:
    cell = request.cell
    name, dataset = cell.workload.metadata.name, cell.workload.spec.dataset
    if request.store is not None:
        return ensure_objects(
            request.store, name, dataset, workers=UPLOAD_WORKERS, progress=follower.making
        )
    if request.root is None:
        return Manifest.synthetic(name, dataset)
    return ensure(request.root, name, dataset, workers=MAKE_WORKERS, progress=follower.making)


def _plan(request: Request, manifest: Manifest, run_id: str) -> Plan:
    return build_plan(
        request.cell,
        manifest,
        run_id=run_id,
        division=request.division,
        overrides=request.overrides,
    )


def _tuned(request: Request, plan: Plan, results: str, follower: Follower) -> Request:
    """Return the request with the number of concurrent reads that a sweep found."""
    with scratch_directory(results, f"{plan.run_id}-tune") as scratch:
        points = sweep(
            plan,
            local=request.local,
            scratch=scratch,
            memory_bytes=request.site.host.usable_memory_bytes,
            on_event=lambda rank, event: follower.event(-1, rank, event),
        )
    chosen = knee(points)
    target, settings = request.cell.target, request.cell.settings
    io = target.spec.io.model_copy(update={"threads": chosen.in_flight})
    spec = target.spec.model_copy(update={"io": io})
    cell = replace(
        request.cell,
        target=target.model_copy(update={"spec": spec}),
        settings=settings.model_copy(update={"ring_bytes": chosen.ring_bytes}),
    )
    told = [asdict(point) | {"chosen": point is chosen} for point in points]
    site = replace(request.site, facts={**request.site.facts, "tuning": told})
    return replace(request, cell=cell, site=site)


def _measure(
    request: Request, store: Store, results: str, follower: Follower, *, tune: bool
) -> tuple[Run, Campaign]:
    """Run everything; return the stored document, of a stopped run as well."""
    run_id, created_at = fresh_id(), datetime.now(UTC)
    cell = request.cell
    key = RunKey(cell.target.metadata.name, cell.workload.metadata.name, run_id)
    plan: Plan | None = None
    campaign = Campaign()
    try:
        manifest = _manifest(request, follower)
        plan = _plan(request, manifest, run_id)
        if tune:
            request = _tuned(request, plan, results, follower)
            cell = request.cell
            plan = _plan(request, manifest, run_id)
        if plan.settings.max_steps is None:
            follower.expect(manifest.total_bytes * plan.workload.access.epochs)
        with scratch_directory(results, run_id) as scratch:
            campaign = _run(request, plan, store, key, scratch, follower)
    except KeyboardInterrupt:
        campaign.interrupted = True
    document = run_document(
        cell,
        plan,
        campaign,
        request.site,
        run_id=run_id,
        division=request.division,
        summary=summarize(campaign.repeats),
        sentence=sentence(campaign.repeats, plan=plan_summary(cell, plan, campaign.device)),
        created_at=created_at,
    )
    return store.write_run(document), campaign


def _run(
    request: Request,
    plan: Plan,
    store: Store,
    key: RunKey,
    scratch: Path,
    follower: Follower,
) -> Campaign:
    try:
        return run_repeats(
            plan,
            local=request.local,
            site=request.site,
            store=store,
            key=key,
            scratch=scratch,
            on_event=follower.event,
        )
    except BenchError as error:
        return Campaign(error=error)
