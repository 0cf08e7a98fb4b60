"""Stored runs over time: where each cell changed level, and what changed around it then.

A point is a run, the estimate over its repeats that count. Runs that cannot be believed are
left out and named.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Literal

from bench.analysis.changepoints import MAX_POINTS, ChangePoint, change_points
from bench.analysis.comparison.cells import cell_key, differences_of
from bench.analysis.comparison.document import CellKey, Difference, Note, Part
from bench.analysis.comparison.sides import METRICS, Metric
from bench.analysis.facts import cache_label
from bench.analysis.intervals import counted, interval, log_interval
from bench.results.gather import Gathered, GivenRun
from bench.results.schema import Interval, Tool

__all__ = [
    "Change",
    "EnvironmentChange",
    "History",
    "HistoryParameters",
    "Point",
    "Series",
    "history",
]

MIN_POINTS = 8
"""Of fewer runs no change could be told from chance."""

NEAR = 2
"""Runs on either side of a change point whose environment changes stand beside it."""

DECIDING = ("throughput_bytes_per_second", "stall_ratio")

HistoryVerdict = Literal["regressed", "improved", "equivalent", "inconclusive"]

ORDER: tuple[HistoryVerdict, ...] = ("regressed", "improved", "equivalent", "inconclusive")
"""Of the cells: what a person looks for first; too young ones last."""


class HistoryParameters(Part):
    """What the verdicts depend on beside the runs."""

    throughput_ratio: float
    """Least change of throughput worth a change point, as a share."""
    stall_ratio: float
    """Least change of stall, points of time."""
    recent: int
    """A change counts while its first run is among so many latest ones; older ones are known."""


class Point(Part):
    """One run."""

    run: str
    sha256: str
    place: str
    created_at: str
    commit: str
    """Of the harness."""
    estimate: Interval


class Change(Part):
    """A change of level."""

    index: int
    """Of the first point of the new level."""
    run: str
    created_at: str
    before: float
    """Mean of the level before (geometric for throughput)."""
    after: float
    effect: float
    """after / before - 1 for throughput; after - before for stall."""
    p: float
    """Of a t test between the levels; the place was chosen by the data."""
    is_worse: bool
    environment: list[EnvironmentChange]
    """What changed within two runs of it."""


class EnvironmentChange(Part):
    """Fingerprints of a run and the one before it differ."""

    index: int
    run: str
    created_at: str
    differences: list[Difference]


class Series(Part):
    """One figure of one cell over time."""

    key: CellKey
    variant: str
    """Division and cache verdict: runs that differ in them are different series."""
    metric: str
    unit: str
    lower_is_worse: bool
    points: list[Point]
    changes: list[Change]
    environment: list[EnvironmentChange]
    verdict: HistoryVerdict
    reason: str

    @property
    def label(self) -> str:
        """The cell for people."""
        return f"{self.key.label} ({self.variant})"


class History(Part):
    """All series of a store."""

    schema_version: Literal[1] = 1
    kind: Literal["history"] = "history"
    created_at: str
    tool: Tool
    given: str
    parameters: HistoryParameters
    series: list[Series]
    left_out: list[Note]
    sentence: str


def history(
    found: Gathered, *, parameters: HistoryParameters, tool: Tool, created_at: datetime
) -> History:
    """Return the history of stored runs.

    Args:
        found: Runs, and the problems of those that could not be read.
        parameters: Magnitudes, and how long a change counts.
        tool: What looks.
        created_at: UTC.
    """
    left_out = [Note(code="broken", text=problem) for problem in found.problems]
    cells: dict[str, list[GivenRun]] = {}
    for given in sorted(found.runs, key=lambda one: (_instant(one), one.run.id)):
        why = _unusable(given)
        if why:
            left_out.append(Note(code="unusable", text=f"run {given.run.id} {why}"))
        else:
            cells.setdefault(_identity(given), []).append(given)
    grouped = [[*_all_series(cells[name], parameters)] for name in sorted(cells)]
    grouped.sort(key=lambda some: min((ORDER.index(one.verdict) for one in some), default=0))
    series = [one for some in grouped for one in some]
    return History(
        created_at=created_at.astimezone(UTC).isoformat(timespec="seconds"),
        tool=tool,
        given=found.given,
        parameters=parameters,
        series=series,
        left_out=left_out,
        sentence=_sentence(series, parameters),
    )


def _instant(given: GivenRun) -> float:
    try:
        found = datetime.fromisoformat(given.run.created_at)
    except ValueError:
        return math.inf
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _unusable(given: GivenRun) -> str:
    run = given.run
    if run.status != "ok":
        return f"is {run.status}"
    if not run.fingerprint.get("hash"):
        return "has no fingerprint"
    if not math.isfinite(_instant(given)):
        return f"was made at {run.created_at!r}, which is no time"
    for metric in METRICS:
        values = [value for r in counted(run.repeats) if (value := metric.value(r)) is not None]
        if any(not (math.isfinite(v) and metric.least <= v <= metric.most) for v in values):
            return f"has an impossible {metric.name}"
    return "" if counted(run.repeats) else "has no repeat that counts"


def _identity(given: GivenRun) -> str:
    """Return what makes a series: the cell, the workload's and the data's shape, the cache."""
    run = given.run
    parts = [
        cell_key(given).model_dump(mode="json"),
        run.fingerprint.get("workload"),
        run.fingerprint.get("dataset"),
        run.division,
        cache_label(counted(run.repeats)),
    ]
    return json.dumps(parts, sort_keys=True)


def _all_series(runs: Sequence[GivenRun], parameters: HistoryParameters) -> Iterator[Series]:
    for metric in METRICS:
        found = _series(runs, metric, parameters) if metric.name in DECIDING else None
        if found is not None:
            yield found


def _series(
    runs: Sequence[GivenRun], metric: Metric, parameters: HistoryParameters
) -> Series | None:
    points, kept = [], []
    for given in runs:
        found = [metric.value(repeat) for repeat in counted(given.run.repeats)]
        values = [value for value in found if value is not None]
        if values:
            estimate = (log_interval if metric.by_ratio else interval)(values)
            points.append(_point(given, estimate))
            kept.append(given)
    if not points:
        return None
    environment = [*_environment(kept)]
    changes = [
        _change(one, metric, points, environment) for one in _changes(points, metric, parameters)
    ]
    verdict, reason = _verdict(points, changes, metric, parameters)
    first = kept[0].run
    return Series(
        key=cell_key(kept[0]),
        variant=f"{first.division}, {cache_label(counted(first.repeats))}",
        metric=metric.name,
        unit=metric.unit,
        lower_is_worse=metric.lower_is_worse,
        points=points,
        changes=changes,
        environment=environment,
        verdict=verdict,
        reason=reason,
    )


def _point(given: GivenRun, estimate: Interval) -> Point:
    run = given.run
    return Point(
        run=run.id,
        sha256=given.sha256,
        place=given.inside,
        created_at=run.created_at,
        commit=run.tool.commit,
        estimate=estimate,
    )


def _environment(runs: Sequence[GivenRun]) -> Iterator[EnvironmentChange]:
    for index, (one, other) in enumerate(pairwise(runs), 1):
        unlike = differences_of(one.run.fingerprint, other.run.fingerprint, across=())
        if unlike:
            yield EnvironmentChange(
                index=index,
                run=other.run.id,
                created_at=other.run.created_at,
                differences=unlike,
            )


def _changes(
    points: Sequence[Point], metric: Metric, parameters: HistoryParameters
) -> list[ChangePoint]:
    values = [point.estimate.estimate for point in points]
    if metric.by_ratio:
        least = -math.log1p(-parameters.throughput_ratio)
        return change_points([math.log(value) for value in values], min_magnitude=least)
    return change_points(values, min_magnitude=parameters.stall_ratio)


def _change(
    found: ChangePoint,
    metric: Metric,
    points: Sequence[Point],
    environment: Sequence[EnvironmentChange],
) -> Change:
    before, after = found.before, found.after
    if metric.by_ratio:
        before, after = math.exp(before), math.exp(after)
    point = points[found.index]
    return Change(
        index=found.index,
        run=point.run,
        created_at=point.created_at,
        before=before,
        after=after,
        effect=after / before - 1 if metric.by_ratio else after - before,
        p=found.p,
        is_worse=(after < before) == metric.lower_is_worse,
        environment=[one for one in environment if abs(one.index - found.index) <= NEAR],
    )


def _verdict(
    points: Sequence[Point],
    changes: Sequence[Change],
    metric: Metric,
    parameters: HistoryParameters,
) -> tuple[HistoryVerdict, str]:
    if len(points) < MIN_POINTS:
        count = f"{len(points)} run{'s' if len(points) > 1 else ''}"
        return "inconclusive", f"{count}; {MIN_POINTS} are needed to tell a change"
    recent = [one for one in changes if one.index >= len(points) - parameters.recent]
    if not recent:
        older = f"; the last one is {len(points) - changes[-1].index} runs ago" if changes else ""
        return "equivalent", f"no change in the last {parameters.recent} runs{older}"
    before, after = recent[0].before, recent[-1].after
    least = parameters.throughput_ratio if metric.by_ratio else parameters.stall_ratio
    harm = math.log(before / after) if metric.by_ratio else after - before
    if abs(harm) < least:
        return "equivalent", "back at the level before the last changes"
    return ("regressed" if harm > 0 else "improved"), ""


def _count(things: Collection[str], word: str) -> str:
    return f"{len(things)} {word}{'s' if len(things) != 1 else ''}"


def _sentence(series: Sequence[Series], parameters: HistoryParameters) -> str:
    runs = {point.run for one in series for point in one.points}
    cells = {one.label for one in series}
    lead = f"{_count(runs, 'run')} of {_count(cells, 'cell')}"
    worse = [one for one in series if one.verdict == "regressed"]
    if worse:
        names = list(dict.fromkeys(one.key.label for one in worse))
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return f"{lead}: regressed in the last {parameters.recent} runs: {names[0]}{more}"
    young = {one.label for one in series if one.verdict == "inconclusive"}
    if not series:
        return "no run that could be used"
    if young:
        few = f"{len(young)} of {len(cells)} cells have fewer than {MIN_POINTS} runs"
        return f"{lead}: no regression found; {few}"
    long = any(len(one.points) > MAX_POINTS for one in series)
    note = f"; only the latest {MAX_POINTS} runs of a cell were looked at" if long else ""
    return f"{lead}: no regression in the last {parameters.recent} runs{note}"


Change.model_rebuild()
