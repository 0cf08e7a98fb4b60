"""Made-up runs of a real workload with chosen figures, on chosen days, and requirements."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from made_runs import make_run

from bench.policy.approve import approve
from bench.policy.decide import GivenRun, decide
from bench.policy.document import Approval, Cell
from bench.results.document import seal
from bench.results.ids import new_id
from bench.results.schema import Guard, Repeat, Run, Tool
from bench.spec.load import load_workload
from bench.spec.requirements import Requirements

NOW = datetime(2026, 10, 1, 12, 0, tzinfo=UTC)
FIRST = datetime(2026, 9, 24, 9, 0, tzinfo=UTC)
UNET = load_workload("unet3d")
TOOL = Tool(version="0.1.0", commit="c" * 40, python="3.11.7")

GOOD = (0.010, 0.011, 0.009, 0.0105, 0.0095)


@functools.cache
def template() -> Run:
    guards = (("stationarity", "pass", "made up"), ("short", "pass", "made up"))
    return make_run(statuses=("ok",), guards=guards).run


def repeat(index: int, *, stall: float | None, rate: float, start: datetime, **more: Any) -> Repeat:
    first = template().repeats[0]
    assert first.stall is not None
    assert first.throughput is not None
    found = None
    if stall is not None:
        found = first.stall.model_copy(
            update={
                "ratio": stall,
                "noise_ratio": 0.0001,
                "time_to_first_batch_seconds": 0.1 + stall,
            }
        )
    return first.model_copy(
        update={
            "index": index,
            "started_at": start.isoformat(),
            "duration_seconds": 400.0,
            "stall": found,
            "throughput": first.throughput.model_copy(update={"bytes_per_second": rate}),
        }
        | more
    )


def run(
    stalls: Sequence[float | None] = GOOD,
    *,
    number: int = 1,
    start: datetime = FIRST,
    rates: Sequence[float] | None = None,
    storage_class: str | None = "fast",
    repeat_changes: dict[str, Any] | None = None,
    **changes: Any,
) -> Run:
    """Return a sealed run; `changes` are fields of the document."""
    rates = rates or [
        3.0e9 * (1 + 0.001 * (7 * number + i) % 0.01 + 1e-6 * number) for i in range(len(stalls))
    ]
    repeats = [
        repeat(
            index,
            stall=stall,
            rate=speed,
            start=start + timedelta(seconds=500 * index),
            **repeat_changes or {},
        )
        for index, (stall, speed) in enumerate(zip(stalls, rates, strict=True))
    ]
    spec = UNET.spec.model_dump(mode="json", by_alias=True)
    base = template()
    fields: dict[str, Any] = {
        "id": new_id(int(start.timestamp() * 1e9), random=bytes([number % 256] * 10)),
        "created_at": start.isoformat(),
        "workload": {"name": "unet3d"} | spec,
        "storage": {
            "name": "shared-fs",
            "pvc": {"storageClassName": storage_class, "size": 2**40} if storage_class else None,
            "directory": None if storage_class else {"path": "data"},
            "cache_tiers": [{"name": "server cache", "capacity_bytes": 2**30}],
            "facts": {},
        },
        "dataset": base.dataset | {"total_bytes": 2**40},
        "plan": base.plan | {"step_seconds": 0.323},
        "tool": base.tool.model_copy(update={"image_digest": "sha256:" + "b" * 64}),
        "repeats": repeats,
    }
    return seal(base.model_copy(update=fields | changes))


def three_occasions(stalls: Sequence[float] = GOOD, **changes: Any) -> list[Run]:
    """Return runs of three occasions on two days, a little different from each other."""
    starts = (FIRST, FIRST + timedelta(hours=8), FIRST + timedelta(days=1))
    return [
        run([s * (1 + 0.02 * n) for s in stalls], number=n, start=start, **changes)
        for n, start in enumerate(starts, 1)
    ]


def guards(repeat_: Repeat, **states: str) -> list[Guard]:
    """Return a repeat's guards with some of them in another state."""
    kept = [guard for guard in repeat_.guards if guard.name not in states]
    return kept + [Guard(name=n, status=s, detail=f"{n} made up") for n, s in states.items()]


def requirements(*entries: dict[str, Any], **spec: Any) -> Requirements:
    entry = {"workload": "unet3d", "target": "shared-fs", "accelerator": "h100"}
    limits = entries or ({"max_stall_ratio": 0.02, "worst_case": 0.05},)
    return Requirements.model_validate(
        {
            "apiVersion": "bench/v1alpha1",
            "kind": "Requirements",
            "metadata": {"name": "training"},
            "spec": {"requirements": [entry | limit for limit in limits]} | spec,
        }
    )


def given(runs: Sequence[Run]) -> list[GivenRun]:
    return [
        GivenRun(
            run,
            hashlib.sha256(run.id.encode()).hexdigest(),
            f"shared-fs/unet3d/{run.id}/run.json",
        )
        for run in runs
    ]


def decided(runs: Sequence[Run], wanted: Requirements | None = None, **changes: Any) -> Cell:
    """Return the decision on the first requirement."""
    options = {"workloads": {"unet3d": UNET}, "now": NOW} | changes
    return decide(wanted or requirements(), given(runs), **options)[0]


def approved(runs: Sequence[Run], wanted: Requirements | None = None, **changes: Any) -> Approval:
    options = {"approved_by": "eva", "now": NOW, "workloads": {"unet3d": UNET}} | changes
    return approve(
        wanted or requirements(),
        given(runs),
        approval_id=new_id(int(options["now"].timestamp() * 1e9), random=bytes(10)),
        tool=TOOL,
        **options,
    )


def codes(notes: Sequence[Any]) -> list[str]:
    return [note.code for note in notes]
