"""Stall by cause for charts and tables, one row a repeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.analysis.causes import cause_seconds
from bench.results.schema import Repeat

__all__ = ["StallRow", "stall_rows"]


@dataclass(frozen=True, slots=True)
class StallRow:
    """Stall of one repeat by cause, as ratio of the accelerators' time."""

    repeat: int
    shares: dict[str, float]

    def of_stall(self, cause: str) -> float:
        """Return a cause's share of the stall itself; 0 where there is no stall."""
        total = sum(self.shares.values())
        return self.shares.get(cause, 0.0) / total if total > 0 else 0.0


def stall_rows(repeats: Sequence[Repeat]) -> list[StallRow]:
    """Return stall by cause of each repeat that has it.

    Causes sum to the stall, so their share of time is their share of the stall times its ratio.
    """
    rows = []
    for repeat in repeats:
        if repeat.stall is not None:
            seconds = cause_seconds([repeat])
            total = repeat.stall.total_seconds
            scale = repeat.stall.ratio / total if total > 0 else 0.0
            shares = {name: amount * scale for name, amount in seconds.items()}
            rows.append(StallRow(repeat.index, shares))
    return rows
