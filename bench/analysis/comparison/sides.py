"""One side of a cell: the repeats that count, in the order of time, and their faults."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.analysis.comparison.cells import Cell
from bench.analysis.comparison.document import CellSide, Note
from bench.analysis.facts import cache_label, name_of
from bench.results.fingerprint import differences
from bench.results.gather import GivenRun
from bench.results.schema import Repeat

__all__ = [
    "METRICS",
    "Measured",
    "Metric",
    "in_turns",
    "invalid_because",
    "measured",
    "noise",
    "unlike_inside",
]

UNITS_FACTOR = 100.0
"""A rate this far from bytes over time is in another unit; no measurement is so wrong."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of a repeat.

    Attributes:
        name: As in the summary of a run.
        unit: Of the figure.
        lower_is_worse: Direction of harm.
        value: None where the repeat does not have it.
        by_ratio: Compared by ratio, on logarithms; by difference else.
        least: Smallest possible value.
        most: Largest possible value.
    """

    name: str
    unit: str
    lower_is_worse: bool
    value: Callable[[Repeat], float | None]
    by_ratio: bool
    least: float = 0.0
    most: float = math.inf


METRICS = (
    Metric(
        "throughput_bytes_per_second",
        "bytes_per_second",
        lower_is_worse=True,
        value=lambda r: r.throughput.bytes_per_second if r.throughput else None,
        by_ratio=True,
        least=math.ulp(0.0),
    ),
    Metric(
        "stall_ratio",
        "ratio",
        lower_is_worse=False,
        value=lambda r: r.stall.ratio if r.stall else None,
        by_ratio=False,
        most=1.0,
    ),
    Metric(
        "steady_stall_ratio",
        "ratio",
        lower_is_worse=False,
        value=lambda r: r.stall.steady_ratio if r.stall else None,
        by_ratio=False,
        most=1.0,
    ),
    Metric(
        "time_to_first_batch_seconds",
        "seconds",
        lower_is_worse=False,
        value=lambda r: r.stall.time_to_first_batch_seconds if r.stall else None,
        by_ratio=False,
    ),
    Metric(
        "cpu_seconds_per_gb",
        "seconds_per_gb",
        lower_is_worse=False,
        value=lambda r: r.host.cpu_seconds_per_gb if r.host else None,
        by_ratio=False,
    ),
)
"""The first two decide."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A side with its repeats that count, in the order of time."""

    side: CellSide
    repeats: tuple[Repeat, ...]
    starts: tuple[float, ...]
    """Seconds since 1970; nan where a repeat does not say."""
    nodes: tuple[str, ...]
    """Of each repeat, joined."""


def measured(cell: Cell) -> Measured:
    """Return what a side measured."""
    timed = [
        (_start(repeat), found.run.id, repeat.index, repeat)
        for found in cell.runs
        for repeat in found.run.repeats
        if repeat.status == "ok"
    ]
    timed.sort(key=lambda item: (item[0] if item[0] == item[0] else math.inf, *item[1:3]))
    repeats = [item[3] for item in timed]
    values: dict[str, list[float]] = {}
    for metric in METRICS:
        found = [metric.value(repeat) for repeat in repeats]
        known = [value for value in found if value is not None]
        if known and len(known) == len(found):
            values[metric.name] = known
    runs = [found.run for found in cell.runs]
    side = CellSide(
        storage=name_of(runs[0].storage),
        runs=[run.id for run in runs],
        num_repeats=sum(len(run.repeats) for run in runs),
        n=len(repeats),
        started_at=[repeat.started_at for repeat in repeats],
        nodes=sorted({rank.node for repeat in repeats for rank in repeat.ranks}),
        division=", ".join(dict.fromkeys(run.division for run in runs)),
        cache=cache_label(repeats),
        values=values,
    )
    return Measured(
        side,
        tuple(repeats),
        tuple(item[0] for item in timed),
        tuple(",".join(sorted({rank.node for rank in repeat.ranks})) for repeat in repeats),
    )


def invalid_because(cell: Cell, *, who: str, strict: bool) -> Iterator[Note]:
    """Yield why the figures of a side must not be believed.

    Args:
        cell: The side.
        who: "baseline" or "candidate".
        strict: Whether a run that did not end well disqualifies the side (approvals).
    """
    failed: dict[str, list[str]] = {}
    for found in cell.runs:
        for repeat in found.run.repeats:
            where = f"repeat {repeat.index} of {found.run.id}"
            bad = [guard for guard in repeat.guards if guard.status == "fail"]
            for guard in bad:
                failed.setdefault(f"guard {guard.name} failed ({guard.detail})", []).append(where)
            if repeat.status == "invalid" and not bad:
                failed.setdefault(repeat.problem or "marked invalid", []).append(where)
            yield from _impossible(found, repeat, who)
        if strict and found.run.status in ("failed", "interrupted"):
            yield Note(
                code="incomplete",
                text=f"{who} {found.run.id} was {found.run.status}; why may have to do with it",
            )
    for what, places in failed.items():
        yield Note(code="guard", text=f"{who}: {what}: {_shortened(places)}")
    if not any(repeat.status == "ok" for found in cell.runs for repeat in found.run.repeats):
        states = dict.fromkeys(f"{found.run.id} is {found.run.status}" for found in cell.runs)
        yield Note(
            code="nothing_measured",
            text=f"{who}: no repeat counts: {_shortened(list(states))}",
        )


def unlike_inside(cell: Cell, *, who: str) -> Iterator[Note]:
    """Yield why the runs of a side are not one sample."""
    first = cell.runs[0].run
    for found in cell.runs[1:]:
        run = found.run
        if run.fingerprint != first.fingerprint or run.division != first.division:
            paths = differences(first.fingerprint, run.fingerprint) or ["division"]
            yield Note(
                code="mixed_side",
                text=f"{who}: runs {first.id} and {run.id} are not of one cell; they differ in "
                f"{_shortened(paths)}; give one of them alone",
            )
            return
    verdicts = {
        repeat.cache.verdict
        for found in cell.runs
        for repeat in found.run.repeats
        if repeat.status == "ok" and repeat.cache is not None
    }
    if len(verdicts) > 1:
        yield Note(
            code="mixed_cache",
            text=f"{who}: repeats are {' and '.join(sorted(verdicts))}; they are not one sample",
        )


def noise(side: Measured) -> float:
    """Return the most stall that the estimator found where there is none, as a ratio."""
    return max((r.stall.noise_ratio for r in side.repeats if r.stall is not None), default=0.0)


def _impossible(found: GivenRun, repeat: Repeat, who: str) -> Iterator[Note]:
    if repeat.status != "ok":
        return
    where = f"{who}: repeat {repeat.index} of {found.run.id}"
    for metric in METRICS:
        value = metric.value(repeat)
        if value is not None and not (
            math.isfinite(value) and metric.least <= value <= metric.most
        ):
            yield Note(code="impossible", text=f"{where}: {metric.name} is {value:g}")
    rate = repeat.throughput.bytes_per_second if repeat.throughput else None
    if rate and repeat.bytes_consumed > 0 and repeat.duration_seconds > 0:
        expected = repeat.bytes_consumed / repeat.duration_seconds
        if not 1 / UNITS_FACTOR < rate / expected < UNITS_FACTOR:
            yield Note(
                code="units",
                text=f"{where}: throughput is {rate:g} where bytes over time make {expected:g}: "
                "not bytes per second",
            )


def _start(repeat: Repeat) -> float:
    try:
        found = datetime.fromisoformat(repeat.started_at)
    except ValueError:
        return math.nan
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _shortened(words: Sequence[str], *, most: int = 3) -> str:
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def in_turns(baseline: Measured, candidate: Measured) -> bool:
    """Say whether both sides were measured in turns, so that repeats of equal rank are pairs.

    In turns: as many of each, and in the order of time every two neighbours are one of each
    side on the same nodes (A B B A, A B A B). Decided by clocks and names, never by figures.
    """
    if len(baseline.repeats) != len(candidate.repeats) or len(baseline.repeats) < 2:
        return False
    timed = sorted(
        (start, who, nodes)
        for who, side in enumerate((baseline, candidate))
        for start, nodes in zip(side.starts, side.nodes, strict=True)
    )
    if any(math.isnan(start) for start, _, _ in timed):
        return False
    return all(
        one[1] != other[1] and one[2] == other[2]
        for one, other in zip(timed[::2], timed[1::2], strict=True)
    )
