"""All accounts of one repeat: stall of every rank, attributed, with `sync` resolved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.measure.attribution import Attribution, attribute
from bench.measure.stall import RankStall, TotalStall, aggregate, rank_stall
from bench.measure.summary import stall_document
from bench.measure.sync import RankTables, resolve_sync
from bench.measure.timeline import Timeline
from bench.results.schema import Stall

__all__ = ["Accounts", "RankInput", "account"]

Ns = npt.NDArray[np.int64]
Table = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class RankInput:
    """What one rank recorded; position in a sequence is the rank's number.

    Attributes:
        steps: STEP_DTYPE rows of the measured phase; one or more.
        pieces: PIECE_DTYPE rows of the measured phase.
        steps_r0: STEP_DTYPE rows of replay R0; None where it did not run.
        start_ns: Start of the measured phase on this rank's clock.
        floor_ns: From `floor_from_replay`.
        wall_ns: Host's wall clock from the start to this rank's end.
    """

    steps: Table
    pieces: Table
    steps_r0: Table | None
    start_ns: int
    floor_ns: int
    wall_ns: int


@dataclass(frozen=True, slots=True)
class Accounts:
    """All accounts of one repeat in paced mode."""

    ranks: tuple[RankStall, ...]
    total: TotalStall
    attributions: tuple[Attribution, ...]
    """By rank, with `sync` as booked."""
    causes_ns: tuple[Ns, ...]
    """By rank, with `sync` resolved; shape (steps, len(CAUSES) + 1)."""
    rank_documents: tuple[Stall, ...]
    document: Stall
    """Of all ranks together."""


def account(ranks: Sequence[RankInput], *, step_seconds: float | None) -> Accounts | None:
    """Compute and attribute the stall of a repeat; None in unthrottled mode.

    Args:
        ranks: One or more, each with one step or more.
        step_seconds: Step time; None in unthrottled mode.
    """
    stalls, tables = [], []
    for rank in ranks:
        stall = rank_stall(
            rank.steps,
            start_ns=rank.start_ns,
            floor_ns=rank.floor_ns,
            wall_ns=rank.wall_ns,
            step_seconds=step_seconds,
            steps_r0=rank.steps_r0,
        )
        if stall is None:
            return None
        timeline = Timeline(rank.steps, rank.pieces)
        found = attribute(timeline, stall.table)
        roots = rank.steps["root_rank"]
        tables.append(RankTables(timeline, stall.table, found, rank.start_ns, roots))
        stalls.append(stall)
    resolved = resolve_sync(tables)
    states = [one.attribution.states_ns for one in tables]
    total = aggregate(stalls)
    return Accounts(
        ranks=tuple(stalls),
        total=total,
        attributions=tuple(one.attribution for one in tables),
        causes_ns=resolved.causes_ns,
        rank_documents=tuple(
            stall_document(
                stall,
                causes_ns=resolved.causes_ns[i],
                states_ns=states[i],
                sync_root=resolved.roots[i],
            )
            for i, stall in enumerate(stalls)
        ),
        document=stall_document(
            total,
            causes_ns=np.concatenate(resolved.causes_ns),
            states_ns=np.concatenate(states),
            sync_root=resolved.root,
        ),
    )
