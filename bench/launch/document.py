"""The run document: what was asked for, where, and all repeats."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal

from bench import __version__
from bench.agent.site import Site
from bench.launch.assemble import NOT_MEASURED
from bench.launch.campaign import Campaign
from bench.launch.resolve import Cell
from bench.measure.host import harness_commit
from bench.results.fingerprint import fingerprint
from bench.results.ids import new_id
from bench.results.schema import Interval, Run, Tool
from bench.spec.plan import Plan

__all__ = ["fresh_id", "plan_summary", "run_document", "run_status"]


def fresh_id() -> str:
    """Return a new run id from the wall clock and the kernel's randomness."""
    return new_id(time.time_ns(), random=os.urandom(10))


def plan_summary(cell: Cell, plan: Plan | None, device: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `plan` of a run document; digest and seed are None before there is a plan."""
    settings = cell.settings
    io = cell.target.spec.io
    chosen = cell.workload.spec.accelerators.get(settings.accelerator)
    return {
        "nodes": settings.nodes,
        "gpus_per_node": settings.gpus_per_node,
        "ranks": cell.num_ranks,
        "accelerator": settings.accelerator,
        "step_seconds": chosen.step_seconds if chosen is not None else None,
        "device": dict(device) if device else "unknown",
        "loader": "ring",
        "mode": io.mode,
        "engine": "simulated" if cell.target.spec.simulated is not None else io.engine,
        "threads": io.threads,
        "reader_processes": settings.reader_processes,
        "block_bytes": io.block_bytes,
        "ring_bytes": settings.ring_bytes,
        "sync": settings.sync,
        "cache": settings.cache,
        "seed": settings.seed,
        "repeats": settings.repeats,
        "max_steps": settings.max_steps,
        "max_seconds": settings.max_seconds,
        "bytes_per_second_limit": settings.bytes_per_second_limit,
        "dataset_bytes": settings.dataset_bytes,
        "digest": plan.digest() if plan is not None else None,
        "overrides": list(plan.overrides) if plan is not None else [],
    }


def run_status(campaign: Campaign) -> Literal["ok", "invalid", "failed", "interrupted"]:
    """Return the run's status: the worst of its repeats."""
    if campaign.interrupted:
        return "interrupted"
    if campaign.error is not None or not campaign.repeats:
        return "failed"
    statuses = {repeat.status for repeat in campaign.repeats}
    return "failed" if "failed" in statuses else "invalid" if "invalid" in statuses else "ok"


def run_document(  # noqa: PLR0913 - the parts of one document
    cell: Cell,
    plan: Plan | None,
    campaign: Campaign,
    site: Site,
    *,
    run_id: str,
    division: Literal["certified", "exploratory"],
    summary: Mapping[str, Interval],
    sentence: str,
    created_at: datetime,
    image_digest: str | None = None,
    cluster: Mapping[str, Any] | None = None,
) -> Run:
    """Return the document of a run, complete or not.

    Args:
        cell: What was asked for.
        plan: None where the run was stopped before there was one.
        campaign: What came of it.
        site: Machine and target.
        run_id: Of the run.
        division: Certified or exploratory.
        summary: Estimates over repeats.
        sentence: The closing sentence.
        created_at: UTC.
        image_digest: Of the pods; None outside a cluster.
        cluster: What the cluster says of pods, nodes and volumes; None outside one.
    """
    tool = Tool(
        version=__version__,
        commit=harness_commit(),
        python=site.host.python,
        image_digest=image_digest,
    )
    identity: dict[str, Any] = {}
    if plan is not None:
        identity = fingerprint(
            plan,
            host=asdict(site.host),
            device=campaign.device,
            storage=site.facts,
            tool=tool,
        )
    dataset = plan.dataset.model_dump(mode="json") if plan is not None else {}
    return Run(
        id=run_id,
        created_at=created_at.astimezone(UTC).isoformat(timespec="seconds"),
        tool=tool,
        division=division,
        status=run_status(campaign),
        fingerprint=identity,
        workload={
            "name": cell.workload.metadata.name,
            **cell.workload.spec.model_dump(mode="json", by_alias=True),
        },
        storage={
            "name": cell.target.metadata.name,
            **cell.target.spec.model_dump(mode="json", by_alias=True),
            "facts": dict(site.facts),
            "host": asdict(site.host),
            **({"cluster": dict(cluster)} if cluster is not None else {}),
        },
        plan=plan_summary(cell, plan, campaign.device),
        dataset=dataset,
        repeats=campaign.repeats,
        summary=dict(summary),
        not_measured=dict(NOT_MEASURED),
        sentence=sentence,
    )
