"""Put documents together: repeats from what ranks left behind, the run from its repeats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.agent.collect import RankData, RepeatTables, collect_ranks, load_rank
from bench.agent.group import RepeatOutcome
from bench.agent.site import Site
from bench.errors import ResultsError
from bench.measure import guards
from bench.measure.accounts import Accounts
from bench.measure.cache import CacheEvidence, judge_cache, object_cache
from bench.measure.mounts import Proof, proof_of
from bench.measure.pagecache import Probes
from bench.measure.summary import late_ns
from bench.results import schema
from bench.spec.plan import Plan

__all__ = ["NOT_MEASURED", "assemble_repeat"]

NOT_MEASURED = {
    "repeats[].limiter": "ceilings are not compared in this version",
    "repeats[].ceilings.loader": "the null source is not run in this version",
    "repeats[].ceilings.storage_yardstick": "no yardstick is run in this version",
    "repeats[].ceilings.storage_saturated": "no depth sweep is run in this version",
    "repeats[].stall.if_removed": "the counterfactual model is not in this version",
}

LATER_GUARDS = ("stationarity", "first_touch", "canary", "clock_steps", "loader_ceiling")


def _probes(outcome: RepeatOutcome) -> dict[str, Any] | None:
    """Return what probing found on all nodes together."""
    found = [p for result in outcome.ranks.values() if (p := result.get("cache")) is not None]
    if not found:
        return None
    sums = {key: sum(p[key] for p in found) for key in ("num_files", "num_probes", "num_hits")}
    return sums | {"supported": all(p["supported"] for p in found)}


def _cache(plan: Plan, site: Site, fields: Mapping[str, Any], probes: Any) -> schema.Cache | None:
    if plan.storage.simulated is not None:
        return None
    if plan.storage.object is not None:
        return object_cache(
            requested=plan.settings.cache,
            transferred_bytes=fields["bytes_transferred"],
            dataset_bytes=plan.dataset.total_bytes,
            tiers=plan.storage.cache_tiers,
        )
    evidence = CacheEvidence(
        mount=site.mount,
        mode=plan.storage.io.mode,
        requested=plan.settings.cache,
        transferred_bytes=fields["bytes_transferred"],
        kernel_read_bytes=fields["kernel_read_bytes"],
        probes=Probes(**probes) if probes else None,
        dataset_bytes=plan.dataset.total_bytes,
        memory_limit_bytes=site.host.usable_memory_bytes,
    )
    return judge_cache(evidence, tiers=plan.storage.cache_tiers)


def _host(plan: Plan, ranks: list[RankData], site: Site, fields: Mapping[str, Any]) -> schema.Host:
    results = [data.result for data in ranks]
    cpu = sum(result["cpu_seconds"] for result in results)
    device_cpu = sum(result["device_cpu_seconds"] for result in results)
    gigabytes = fields["bytes_read"] / 1e9
    wall = fields["duration_seconds"]
    cpus = site.host.usable_cpus * plan.settings.nodes
    throttled = [r["throttled_seconds"] for r in results if r["throttled_seconds"] is not None]
    return schema.Host(
        cpu_seconds=cpu,
        cpu_seconds_per_gb=cpu / gigabytes if gigabytes else 0.0,
        device_cpu_seconds=device_cpu,
        cpu_utilization=(cpu + device_cpu) / (wall * cpus) if wall else None,
        throttled_seconds=max(throttled) if throttled else None,
        memory_peak_bytes=max(
            sum(size for size in result["pss_bytes"].values() if size is not None)
            for result in results
        ),
        memory_limit_bytes=site.host.memory_limit_bytes,
        major_faults=sum(result["major_faults"] for result in results),
    )


def _guards(
    plan: Plan,
    ranks: list[RankData],
    accounts: Accounts | None,
    fields: Mapping[str, Any],
    cache: schema.Cache | None,
    host: schema.Host,
    site: Site,
) -> list[schema.Guard]:
    wall_ns = sum(data.wall_ns for data in ranks)
    proof = Proof.OPAQUE if site.mount is None else proof_of(site.mount.fs_type, site.mount.options)
    # A time limit leaves opened batches unread: then the pieces that were asked for count.
    arrived = sum(int(data.pieces["payload_bytes"].sum()) for data in ranks)
    planned = fields["bytes_requested"] if plan.settings.max_seconds is None else arrived
    found = [
        guards.bytes_guard(
            payload_bytes=fields["bytes_read"],
            requested_bytes=planned,
            transferred_bytes=fields["bytes_transferred"],
            kernel_read_bytes=fields["kernel_read_bytes"],
            mode=plan.storage.io.mode,
            proof=proof,
        ),
        guards.errors_guard(fields["errors"], wall_seconds=fields["duration_seconds"]),
        guards.cache_guard(cache, num_epochs=plan.workload.access.epochs),
        guards.short_guard(
            num_steps=fields["steps"],
            payload_bytes=fields["bytes_read"] // len(ranks),
            ring_bytes=plan.settings.ring_bytes,
        ),
        guards.memory_guard(
            peak_bytes=host.memory_peak_bytes * plan.settings.gpus_per_node,
            limit_bytes=site.host.usable_memory_bytes,
        ),
        guards.throttling_guard(
            throttled_seconds=host.throttled_seconds, wall_seconds=fields["duration_seconds"]
        ),
    ]
    if plan.storage.object is not None:
        files = plan.dataset
        found.append(
            guards.prefixes_guard(num_prefixes=files.num_prefixes, num_files=files.num_files)
        )
    if accounts is not None:
        total = accounts.total
        late = sum(
            late_ns(data.steps, stall.table)
            for data, stall in zip(ranks, accounts.ranks, strict=True)
        )
        errors = [data.result["device"]["clock_error_seconds"] for data in ranks]
        found += [
            guards.attribution_guard(
                unattributed_ns=round(accounts.document.unattributed_seconds * 1e9),
                stall_ns=total.stall_ns,
                wall_ns=wall_ns,
            ),
            guards.identity_guard(error_ratio=total.identity_error_ratio),
            guards.emulation_guard(late_ns=late, wall_ns=wall_ns),
            guards.noise_guard(noise_ratio=total.noise_ratio),
            guards.clock_guard(
                clock_error_seconds=None if None in errors else max(errors),
                step_seconds=plan.step_seconds,
            ),
        ]
    found += [guards.not_measured(name, "not in this version") for name in LATER_GUARDS]
    return found


def assemble_repeat(
    plan: Plan,
    outcome: RepeatOutcome,
    scratch: Path,
    site: Site | None,
    *,
    index: int,
    started_at: str,
) -> tuple[schema.Repeat, RepeatTables | None]:
    """Return a repeat's document and tables, whatever its end was.

    Args:
        plan: What was run.
        outcome: How the processes ended.
        scratch: Where they left their tables.
        site: The machine and the target, of several nodes the first; None where no pod came
            to say.
        index: Of the repeat.
        started_at: UTC, for a repeat that never came to measure.
    """
    status = "interrupted" if outcome.interrupted else "failed" if outcome.error else "ok"
    problem = str(outcome.error) if outcome.error is not None else ""
    ranks = []
    try:
        ranks = [load_rank(scratch, r, result) for r, result in sorted(outcome.ranks.items())]
    except ResultsError as error:
        status, problem = "failed", problem or str(error)
    if not ranks or site is None:
        return _empty_repeat(index, status, problem, started_at), None
    fields, tables, accounts = collect_ranks(plan, ranks, index=index)
    cache = _cache(plan, site, fields, _probes(outcome))
    host = _host(plan, ranks, site, fields)
    # A stopped repeat ends in the middle of a step: its accounts cannot add up.
    found = _guards(plan, ranks, accounts, fields, cache, host, site) if status == "ok" else []
    failed = [f"{guard.name}: {guard.detail}" for guard in found if guard.status == "fail"]
    if status == "ok" and failed:
        status, problem = "invalid", "; ".join(failed)
    rates = [rate for data in ranks if (rate := data.result["h2d_bytes_per_second"])]
    repeat = schema.Repeat(
        **fields,
        status=status,
        problem=problem,
        cache=cache,
        host=host,
        guards=found,
        ceilings=schema.Ceilings(h2d=sum(rates) / len(rates) if rates else None),
        phases_seconds={
            name: max(data.result["phases_seconds"].get(name, 0.0) for data in ranks)
            for name in ("start-up", "cache", "replay", "measure", "collect")
        },
    )
    return repeat, tables


def _empty_repeat(index: int, status: Any, problem: str, started_at: str) -> schema.Repeat:
    return schema.Repeat(
        index=index,
        status=status,
        problem=problem,
        started_at=started_at,
        duration_seconds=0.0,
        bytes_read=0,
        bytes_requested=0,
        bytes_consumed=0,
        bytes_prefetched=0,
        bytes_transferred=0,
        kernel_read_bytes=None,
        samples=0,
        steps=0,
        throughput=None,
        stall=None,
        accelerator_utilization=None,
        read_latency=None,
        cache=None,
        ceilings=schema.Ceilings(),
        host=None,
        errors=schema.Errors(),
        guards=[],
        ranks=[],
        phases_seconds={},
    )
