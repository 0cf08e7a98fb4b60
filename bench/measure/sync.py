"""Waiting for other ranks, resolved to what kept the late one.

In lock-step a step starts when the last rank arrives. The wait of every other rank is booked
`sync`; its root is the last rank, whose own cause over the same interval it inherits, so that
one slow storage server does not turn all other ranks into "sync". Ranks may live on nodes
with different clocks: instants are compared as elapsed time since each rank's start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.measure.attribution import Attribution
from bench.measure.segments import CAUSE, UNATTRIBUTED, Segment, divide
from bench.measure.stall import SECOND_NS, StallTable
from bench.measure.timeline import Timeline
from bench.results.schema import CAUSES, SyncRoot

__all__ = ["RankTables", "SyncResolution", "resolve_sync"]

Ns = npt.NDArray[np.int64]
SYNC = CAUSE["sync"]


@dataclass(frozen=True, slots=True)
class RankTables:
    """One rank's tables; position in a sequence is the rank's number."""

    timeline: Timeline
    table: StallTable
    attribution: Attribution
    start_ns: int
    root_ranks: npt.NDArray[np.int32]
    """STEP_DTYPE `root_rank`, shape (steps,)."""


@dataclass(frozen=True, slots=True)
class SyncResolution:
    """Causes with `sync` replaced by the late rank's cause, and who was late.

    What stays in `sync` had a late rank that was computing (a slow step), one that waited
    for the exchange itself, or one that is not known.
    """

    causes_ns: tuple[Ns, ...]
    """By rank, shape (steps, len(CAUSES) + 1); each step's sum is unchanged."""
    roots: tuple[SyncRoot | None, ...]
    """By rank: for whom it waited most; None where it did not wait for others."""
    root: SyncRoot | None
    """The same over all ranks."""


def resolve_sync(ranks: Sequence[RankTables]) -> SyncResolution:
    """Replace every rank's `sync` by the late rank's own causes."""
    explained: dict[tuple[int, int], list[Segment]] = {}
    resolved: list[Ns] = []
    waits = np.zeros((len(ranks), len(ranks), len(CAUSES) + 1), dtype=np.int64)
    for rank, own in enumerate(ranks):
        causes = own.attribution.causes_ns.copy()
        for step in np.flatnonzero(causes[:, SYNC] > 0).tolist():
            late = int(own.root_ranks[step])
            if late == rank or not 0 <= late < len(ranks):
                continue
            wait = int(causes[step, SYNC])
            window = _window(own, ranks[late], step, wait)
            amounts = _late_causes(ranks[late], late, step, window, explained)
            causes[step, SYNC] = 0
            amounts[SYNC] += wait - int(amounts.sum())
            causes[step] += amounts
            waits[rank, late] += amounts
        resolved.append(causes)
    return SyncResolution(
        causes_ns=tuple(resolved),
        roots=tuple(_root(waits[rank]) for rank in range(len(ranks))),
        root=_root(waits.sum(axis=0)),
    )


def _window(own: RankTables, late: RankTables, step: int, wait_ns: int) -> tuple[int, int]:
    """Return the wait of `own` for others before `step`, on the late rank's clock.

    The wait is the last part of the stall up to the release, `wait_ns` long.
    """
    dry_end = int(own.table.begin_ns[step]) + int(own.table.stall_ns[step])
    high = min(dry_end, own.timeline.step(step).released) + late.start_ns - own.start_ns
    return high - wait_ns, high


def _late_causes(
    late: RankTables,
    late_rank: int,
    step: int,
    window: tuple[int, int],
    explained: dict[tuple[int, int], list[Segment]],
) -> Ns:
    """Return what the late rank was kept by during the window, shape (causes + 1,).

    The sum is smaller than the window where the late rank was not stalled or not explained.
    """
    amounts = np.zeros(len(CAUSES) + 1, dtype=np.int64)
    if step >= len(late.table.begin_ns):
        return amounts
    low, high = window
    key = (late_rank, step)
    if key not in explained:
        late_begin = int(late.table.begin_ns[step])
        late_end = max(late_begin, late.timeline.step(step).own_ready)
        explained[key] = late.timeline.explain(step, late_begin, late_end)
    for segment in explained[key]:
        overlap = min(high, segment.end) - max(low, segment.begin)
        if overlap > 0:
            for index, amount in divide(overlap, segment.causes):
                if index != UNATTRIBUTED:
                    amounts[index] += amount
    return amounts


def _root(waits_ns: Ns) -> SyncRoot | None:
    """Name the rank that was waited for most; `waits_ns` has shape (ranks, causes + 1)."""
    totals = waits_ns.sum(axis=1)
    if not totals.any():
        return None
    rank = int(totals.argmax())
    amounts = waits_ns[rank].tolist()
    causes = {name: amounts[index] / SECOND_NS for index, name in enumerate(CAUSES)}
    return SyncRoot(rank=rank, causes={name: s for name, s in causes.items() if s > 0})
