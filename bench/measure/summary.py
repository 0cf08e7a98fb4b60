"""From accounts in nanoseconds to the `stall` of a run document."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bench.measure.attribution import seconds_by_name
from bench.measure.segments import UNATTRIBUTED
from bench.measure.stall import SECOND_NS, RankStall, StallTable, TotalStall
from bench.results.schema import CAUSES, STATES, Stall, SyncRoot

__all__ = ["late_ns", "stall_document"]

Ns = npt.NDArray[np.int64]


def stall_document(
    stall: RankStall | TotalStall,
    *,
    causes_ns: Ns,
    states_ns: Ns,
    sync_root: SyncRoot | None,
) -> Stall:
    """Return the stall of one rank, or of all together, in seconds.

    Args:
        stall: From `rank_stall` or `aggregate`.
        causes_ns: With `sync` resolved; shape (steps, len(CAUSES) + 1). For all ranks
            together, theirs one below the other.
        states_ns: Shape (steps, len(STATES) + 1), of the same steps.
        sync_root: From `resolve_sync`.
    """
    epoch_start = stall.epoch_start_ns
    return Stall(
        total_seconds=stall.stall_ns / SECOND_NS,
        ratio=stall.ratio,
        steady_ratio=stall.steady_ratio,
        noise_ratio=stall.noise_ratio,
        floor_seconds=stall.floor_ns / SECOND_NS,
        time_to_first_batch_seconds=stall.time_to_first_batch_ns / SECOND_NS,
        causes=seconds_by_name(causes_ns, CAUSES),
        states=seconds_by_name(states_ns, STATES),
        unattributed_seconds=int(causes_ns[:, UNATTRIBUTED].sum()) / SECOND_NS,
        sync_root=sync_root,
        per_step=stall.per_step,
        epoch_start_seconds=None if epoch_start is None else epoch_start / SECOND_NS,
    )


def late_ns(steps: npt.NDArray[Any], table: StallTable) -> int:
    """Return how much of a rank's stall the emulation's own late wake-ups may account for.

    Lateness counts only as far as it reached a gap: per step the smaller of the two.

    Args:
        steps: STEP_DTYPE rows.
        table: Stall of the same steps.
    """
    return int(np.minimum(steps["late_ns"], table.stall_ns).sum())
