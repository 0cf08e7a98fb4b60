"""A limit on what a rank asks of the storage: a token bucket at the moment of the grant.

For storage that others use in earnest. Requests are held back before they reach a reader, so
nothing is in flight that the limit would not allow; what is held back is measured and becomes
a cause of stall of its own, never the storage's.
"""

from __future__ import annotations

__all__ = ["Pace", "open_pace", "patience_ms"]

SECOND_NS = 1_000_000_000

NEVER = -1

BURST_NS = 20_000_000
"""How far grants may run ahead of the rate: some polls of the loop, so that a late wake-up
does not lower the rate."""


class Pace:
    """Grants at most so many bytes per second over any time longer than a burst.

    Args:
        bytes_per_second: Of this rank.
        start_ns: What is not granted before is no credit.
    """

    __slots__ = ("_held_since", "_ns_per_byte", "_paid_until", "held_ns")

    def __init__(self, bytes_per_second: float, *, start_ns: int) -> None:
        self._ns_per_byte = SECOND_NS / bytes_per_second
        self._paid_until = float(start_ns)
        """Instant up to which all bytes so far pay for the time."""
        self._held_since = NEVER
        self.held_ns = 0
        """Time in which something was ready to be granted and held back, so far."""

    def wait_ns(self, now_ns: int) -> int:
        """Return how long the next grant must wait; 0 for not at all.

        To be asked only when there is something to grant: a wait counts as held back.
        """
        wait = int(self._paid_until) - BURST_NS - now_ns
        if wait <= 0:
            return 0
        if self._held_since == NEVER:
            self._held_since = now_ns
        return wait

    def pay(self, num_bytes: int, now_ns: int) -> int:
        """Take the bytes of a grant; return how long it was held back, in nanoseconds."""
        self._paid_until = max(self._paid_until, float(now_ns)) + num_bytes * self._ns_per_byte
        held = 0 if self._held_since == NEVER else now_ns - self._held_since
        self._held_since = NEVER
        self.held_ns += held
        return held

    def forget(self) -> None:
        """Note that nothing is left to be granted: what waited was nothing."""
        self._held_since = NEVER

    @property
    def is_holding(self) -> bool:
        """Something waits for this limit and for nothing else."""
        return self._held_since != NEVER


def open_pace(bytes_per_second: float | None, start_ns: int) -> Pace | None:
    """Return the limit of a phase that begins at `start_ns`; None for no limit."""
    return None if bytes_per_second is None else Pace(bytes_per_second, start_ns=start_ns)


def patience_ms(pace: Pace | None, usual_seconds: float, now_ns: int) -> float:
    """Return how long a loop may sleep, in milliseconds: as usual, or until the next grant."""
    usual = usual_seconds * 1000
    if pace is None or not pace.is_holding:
        return usual
    return min(usual, pace.wait_ns(now_ns) / 1e6)
