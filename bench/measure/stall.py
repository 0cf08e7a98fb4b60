"""Stall: the time an accelerator had nothing to do because its next batch was not there.

Definitions (docs/method.md, stall), for one rank with step i on [cs_i, ce_i]:

- gap_i = cs_i - ce_(i-1), and gap_0 = cs_0 - start, the time to first batch;
- floor = median gap of a replay phase whose batches are already on the device;
- floor_i = min(gap_i, floor) and stall_i = max(0, gap_i - floor), so gap_i = floor_i + stall_i.

All instants and durations are nanoseconds as in `bench.measure.records`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.results.schema import PerStep

__all__ = [
    "RankStall",
    "StallTable",
    "TotalStall",
    "aggregate",
    "floor_from_replay",
    "noise_ratio",
    "per_step",
    "rank_stall",
    "stall_table",
]

Ns = npt.NDArray[np.int64]
Table = npt.NDArray[Any]
"""A structured array; the docstring of each function names its dtype."""

SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class StallTable:
    """Gaps of one rank, cut into stall and floor; arrays of shape (steps,), nanoseconds.

    Step i is stalled on [begin_ns[i], begin_ns[i] + stall_ns[i]); the floor is the rest of
    its gap, up to its compute start.
    """

    begin_ns: Ns
    """Instant at which the accelerator ran dry: the end of the step before, or the start."""
    gap_ns: Ns
    floor_ns: Ns
    stall_ns: Ns
    epoch_first: npt.NDArray[np.bool_]
    """True at the first step of each epoch after the first."""

    @property
    def total_ns(self) -> int:
        """Stall of all steps, the first included."""
        return int(self.stall_ns.sum())


@dataclass(frozen=True, slots=True)
class RankStall:
    """Stall of one rank over [start, own last compute end]; ratios are of the host's wall clock.

    `identity_error_ratio` is |utilization + stall + floor - 1|. Utilization is taken from
    steps x step_seconds and the wall time from the host, so the three can disagree.
    """

    table: StallTable
    wall_ns: int
    num_steps: int
    stall_ns: int
    floor_ns: int
    ratio: float
    steady_ratio: float
    noise_ratio: float
    time_to_first_batch_ns: int
    epoch_start_ns: int | None
    """None where there was one epoch only."""
    accelerator_utilization: float
    identity_error_ratio: float
    per_step: PerStep


@dataclass(frozen=True, slots=True)
class TotalStall:
    """Stall of all ranks together over [start, last end].

    utilization + ratio + floor + tail = 1, each a share of wall time x ranks.
    """

    num_ranks: int
    wall_ns: int
    stall_ns: int
    floor_ns: int
    tail_ns: int
    """Sum over ranks of the time between their own end and the last rank's end."""
    ratio: float
    steady_ratio: float
    noise_ratio: float
    time_to_first_batch_ns: int
    """Largest of the ranks."""
    epoch_start_ns: int | None
    accelerator_utilization: float
    identity_error_ratio: float
    """Largest of the ranks."""
    per_step: PerStep
    """Over the steps of all ranks."""


def stall_table(steps: Table, *, start_ns: int, floor_ns: int) -> StallTable:
    """Cut every gap of one rank into stall and floor.

    Args:
        steps: STEP_DTYPE rows of the measured phase, complete, in order.
        start_ns: Start of the measured phase on this rank's clock.
        floor_ns: From `floor_from_replay`.
    """
    starts = steps["compute_start"].astype(np.int64)
    begin = np.empty_like(starts)
    begin[:1] = start_ns
    begin[1:] = steps["compute_end"][:-1]
    gap = starts - begin
    floor = np.minimum(gap, floor_ns)
    epoch = steps["epoch"]
    first = np.zeros(len(steps), dtype=np.bool_)
    first[1:] = epoch[1:] != epoch[:-1]
    return StallTable(begin, gap, floor, gap - floor, first)


def floor_from_replay(steps_r0: Table) -> int:
    """Return the launch overhead: the median gap of replay R0, its first gap left out.

    The first gap holds the start of the phase and is not between two steps.

    Args:
        steps_r0: STEP_DTYPE rows of the device-resident replay, two or more.

    Raises:
        ValueError: Fewer than two steps: there is no gap between steps.
    """
    return max(0, int(np.median(_inner_gaps(steps_r0))))


def noise_ratio(steps_r0: Table, floor_ns: int, *, mean_step_wall_ns: float) -> float:
    """Return what the stall estimator finds where there is no stall.

    Clipping at zero turns jitter of gaps into stall. R0 has the jitter and not the stall, but
    shorter steps, and jitter comes once a step whatever the step's length. So the excess over
    the floor is taken per step of R0 and divided by the wall time of a step of the measured
    phase, which makes it comparable with `RankStall.ratio`.

    Args:
        steps_r0: STEP_DTYPE rows of the device-resident replay, two or more.
        floor_ns: From `floor_from_replay`.
        mean_step_wall_ns: Wall time / steps of the measured phase.

    Raises:
        ValueError: Fewer than two steps.
    """
    excess = np.maximum(0, _inner_gaps(steps_r0) - floor_ns)
    return float(excess.mean()) / mean_step_wall_ns if mean_step_wall_ns > 0 else 0.0


def _inner_gaps(steps: Table) -> Ns:
    if len(steps) < 2:
        raise ValueError(f"a replay of {len(steps)} steps has no gap between steps; needs 2")
    gaps: Ns = steps["compute_start"][1:] - steps["compute_end"][:-1]
    return gaps


def per_step(stall_ns: Ns) -> PerStep:
    """Return the distribution of stall over steps, in seconds; zeros for no steps."""
    if len(stall_ns) == 0:
        return PerStep(p50=0.0, p95=0.0, p99=0.0, max=0.0)
    p50, p95, p99, top = np.percentile(stall_ns / SECOND_NS, [50, 95, 99, 100]).tolist()
    return PerStep(p50=p50, p95=p95, p99=p99, max=top)


def rank_stall(
    steps: Table,
    *,
    start_ns: int,
    floor_ns: int,
    wall_ns: int,
    step_seconds: float | None,
    steps_r0: Table | None = None,
) -> RankStall | None:
    """Compute the stall of one rank; None in unthrottled mode.

    Args:
        steps: STEP_DTYPE rows of the measured phase; one or more.
        start_ns: Start of the measured phase on this rank's clock.
        floor_ns: From `floor_from_replay`.
        wall_ns: The same phase by the host's wall clock, taken apart from the steps:
            from the start to when the host saw the last step end.
        step_seconds: Step time that was asked for; None in unthrottled mode.
        steps_r0: STEP_DTYPE rows of R0; without it the noise is reported as 0, which a guard
            must not read as "no noise".
    """
    if step_seconds is None or len(steps) == 0:
        return None
    table = stall_table(steps, start_ns=start_ns, floor_ns=floor_ns)
    num_steps = len(steps)
    stall, floor = table.total_ns, int(table.floor_ns.sum())
    first_gap, first_stall = int(table.gap_ns[0]), int(table.stall_ns[0])
    utilization = num_steps * step_seconds * SECOND_NS / wall_ns
    noise = 0.0
    if steps_r0 is not None:
        noise = noise_ratio(steps_r0, floor_ns, mean_step_wall_ns=wall_ns / num_steps)
    return RankStall(
        table=table,
        wall_ns=wall_ns,
        num_steps=num_steps,
        stall_ns=stall,
        floor_ns=floor,
        ratio=stall / wall_ns,
        steady_ratio=_share(stall - first_stall, wall_ns - first_gap),
        noise_ratio=noise,
        time_to_first_batch_ns=first_gap,
        epoch_start_ns=_epoch_start_ns(table),
        accelerator_utilization=utilization,
        identity_error_ratio=abs(utilization + (stall + floor) / wall_ns - 1.0),
        per_step=per_step(table.stall_ns),
    )


def _epoch_start_ns(table: StallTable) -> int | None:
    if not table.epoch_first.any():
        return None
    return int(table.stall_ns[table.epoch_first].sum())


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


def aggregate(ranks: Sequence[RankStall]) -> TotalStall:
    """Add up ranks over [start, last end].

    Wall times are elapsed since the common start, so ranks may live on different clocks.

    Args:
        ranks: One or more.
    """
    num = len(ranks)
    wall = max(rank.wall_ns for rank in ranks)
    stall = sum(rank.stall_ns for rank in ranks)
    first_stall = sum(int(rank.table.stall_ns[0]) for rank in ranks)
    first_gap = sum(rank.time_to_first_batch_ns for rank in ranks)
    own = sum(rank.wall_ns for rank in ranks)
    busy = sum(rank.accelerator_utilization * rank.wall_ns for rank in ranks)
    noise = sum(rank.noise_ratio * rank.wall_ns for rank in ranks)
    epochs = [rank.epoch_start_ns for rank in ranks if rank.epoch_start_ns is not None]
    return TotalStall(
        num_ranks=num,
        wall_ns=wall,
        stall_ns=stall,
        floor_ns=sum(rank.floor_ns for rank in ranks),
        tail_ns=num * wall - own,
        ratio=stall / (num * wall),
        steady_ratio=_share(stall - first_stall, num * wall - first_gap),
        noise_ratio=noise / (num * wall),
        time_to_first_batch_ns=max(rank.time_to_first_batch_ns for rank in ranks),
        epoch_start_ns=sum(epochs) if epochs else None,
        accelerator_utilization=busy / (num * wall),
        identity_error_ratio=max(rank.identity_error_ratio for rank in ranks),
        per_step=per_step(np.concatenate([rank.table.stall_ns for rank in ranks])),
    )
