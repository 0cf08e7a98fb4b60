"""Occasions: which repeats were measured at one sitting, and which are independent of it.

Repeats of one afternoon share the state of the storage, the neighbours and the nodes. With a
coefficient of variation of 5 % between occasions, an interval from one of them covers the
truth 35 % of the time and not 95 % (docs/approve.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bench.errors import ResultsError
from bench.policy.document import Occasion
from bench.results.schema import Repeat, Run

__all__ = ["PAUSE", "Group", "Pair", "group_occasions", "instant", "pair_names"]

Pair = tuple[Run, Repeat]
"""A repeat with the run that it is of."""

PAUSE = timedelta(hours=4)
"""Between the end of one repeat and the start of the next: longer begins a new occasion. Half
a working day, so that a morning and an evening count apart and a slow series does not."""


@dataclass(frozen=True, slots=True)
class Group:
    """Repeats of one occasion, in the order of time.

    Attributes:
        repeats: (run, repeat) pairs.
        start: Of the first repeat, UTC.
        end: Of the last one.
    """

    repeats: tuple[Pair, ...]
    start: datetime
    end: datetime

    @property
    def day(self) -> str:
        """UTC date of the start: a night's run is of one day."""
        return self.start.date().isoformat()

    def document(self) -> Occasion:
        """Return what the approval document says of it."""
        return Occasion(
            start=self.start.isoformat(timespec="seconds"),
            end=self.end.isoformat(timespec="seconds"),
            day=self.day,
            runs=list(dict.fromkeys(run.id for run, _ in self.repeats)),
            num_repeats=len(self.repeats),
            nodes=sorted({rank.node for _, repeat in self.repeats for rank in repeat.ranks}),
        )


def pair_names(pairs: Iterable[Pair], *, limit: int = 3) -> str:
    """Return "repeat 2 of run 01m8...", shortened where they are many."""
    found = list(pairs)
    shown = [f"repeat {repeat.index} of run {run.id}" for run, repeat in found[:limit]]
    more = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(shown) + more


def instant(text: str, *, place: str) -> datetime:
    """Return a time stamp of a document in UTC; one without a zone is UTC.

    Raises:
        ResultsError: It is no ISO 8601 time.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ResultsError(place, f"{text!r} is no time in ISO 8601") from error
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def group_occasions(runs: Sequence[Run]) -> list[Group]:
    """Return the repeats that count, by occasion, in the order of time.

    Raises:
        ResultsError: A repeat does not say when it started.
    """
    timed = []
    for run in runs:
        for repeat in run.repeats:
            if repeat.status == "ok":
                place = f"run {run.id}, repeat {repeat.index}"
                start = instant(repeat.started_at, place=place)
                end = start + timedelta(seconds=repeat.duration_seconds)
                timed.append((start, end, run, repeat))
    timed.sort(key=lambda item: (item[0], item[2].id, item[3].index))
    groups: list[list[tuple[datetime, datetime, Run, Repeat]]] = []
    latest = None
    for item in timed:
        if latest is None or item[0] - latest > PAUSE:
            groups.append([])
            latest = item[1]
        groups[-1].append(item)
        latest = max(latest, item[1])
    return [
        Group(
            tuple((run, repeat) for _, _, run, repeat in group),
            group[0][0],
            max(end for _, end, _, _ in group),
        )
        for group in groups
    ]
