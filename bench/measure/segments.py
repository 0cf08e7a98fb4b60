"""Pieces of stalled time: a window, and the states and causes that share it.

A window is cut at instants; where a meter gives amounts and no instants (thread CPU time,
run delay, several opens in one piece), the part of the window is shared in proportion.
Sharing is in whole nanoseconds and exact: shares of a window always sum to its length.
"""

from __future__ import annotations

from typing import NamedTuple

from bench.results.schema import CAUSES, STATES

__all__ = [
    "CAUSE",
    "STATE",
    "UNATTRIBUTED",
    "Phases",
    "Segment",
    "Shares",
    "divide",
    "only",
    "read_phases",
]

STATE = {name: index for index, name in enumerate(STATES)}
CAUSE = {name: index for index, name in enumerate(CAUSES)}
UNATTRIBUTED = -1
"""Index of the last column of a state or cause table, which holds what nothing explains."""

Shares = tuple[tuple[int, int], ...]
"""(index of a state or cause, weight); weights are not negative and their sum is positive."""

SPLITTABLE = ("storage_open", "storage_first_byte", "storage_read", "client_cpu", "run_delay")
"""Names that are both a state and a cause and that share the time of a read."""


class Segment(NamedTuple):
    """The window [begin, end) with the shares of states and of causes in it."""

    begin: int
    end: int
    states: Shares
    causes: Shares


class Phases(NamedTuple):
    """A window of a read with the shares in it, by name."""

    begin: int
    end: int
    shares: tuple[tuple[str, int], ...]

    def states(self) -> Shares:
        """Return the shares as indexes of states."""
        return tuple((STATE[name], weight) for name, weight in self.shares)

    def causes(self) -> Shares:
        """Return the shares as indexes of causes."""
        return tuple((CAUSE[name], weight) for name, weight in self.shares)


def only(index: int) -> Shares:
    """Return the shares of a window that has one owner."""
    return ((index, 1),)


def divide(length: int, shares: Shares) -> list[tuple[int, int]]:
    """Share `length` nanoseconds by weight: (index, nanoseconds), summing to it exactly.

    Each border between two owners is rounded down by itself, so no share is negative and
    the rounding of one never exceeds a nanosecond.
    """
    total = sum(weight for _, weight in shares)
    parts = []
    done = before = 0
    for index, weight in shares:
        done += weight
        border = length * done // total
        parts.append((index, border - before))
        before = border
    return parts


def read_phases(
    start: int,
    read_end: int,
    *,
    num_extents: int,
    open_ns: int,
    first_byte_ns: int,
    cpu_ns: int,
    run_delay_ns: int,
) -> list[Phases]:
    """Cut the read of one piece, [start, read_end), into phases with shares.

    CPU time and run delay come out of every phase in proportion. A piece of one extent opens,
    waits for its first byte and receives, in that order, so those have instants; in a piece
    of several extents they alternate, and are shared over the whole read. Amounts that exceed
    the read (they come from other clocks) are scaled down to it.
    """
    length = read_end - start
    if length <= 0:
        return []
    cpu, delay = _fit(max(0, cpu_ns), max(0, run_delay_ns), length)
    opening, first = _fit(max(0, open_ns), max(0, first_byte_ns), length)
    storage = length - cpu - delay
    host = (("client_cpu", cpu), ("run_delay", delay))
    if num_extents > 1:
        amounts = (opening, first, length - opening - first)
        shares = tuple(
            (name, storage * amount) for name, amount in zip(SPLITTABLE[:3], amounts, strict=True)
        ) + tuple((name, length * amount) for name, amount in host)
        return [Phases(start, read_end, _positive(shares))]
    borders = (start, start + opening, start + opening + first, read_end)
    return [
        Phases(begin, end, _positive(((name, storage), *host)))
        for name, begin, end in zip(SPLITTABLE[:3], borders[:-1], borders[1:], strict=True)
        if begin < end
    ]


def _fit(one: int, other: int, length: int) -> tuple[int, int]:
    """Scale two amounts down so that their sum is at most `length`."""
    if one + other <= length:
        return one, other
    scaled = one * length // (one + other)
    return scaled, length - scaled


def _positive(shares: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    return tuple(share for share in shares if share[1] > 0)
