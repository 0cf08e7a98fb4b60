"""What a phase of the loader is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from bench.loader.wire import Completion

__all__ = ["RUN_AHEAD_STEPS", "Gate", "Limits", "PhaseResult", "Release", "Snapshot"]

RUN_AHEAD_STEPS = 3
"""Steps enqueued beyond the last one whose copies are done, and in lock-step beyond the last
one released: the double buffer can use no more, and a time limit overshoots by no more."""


@dataclass(frozen=True, slots=True)
class Release:
    """The lock-step's answer to a step that all ranks were ready for."""

    step: int
    elapsed_ns: int
    """When the last rank was ready, since its own start."""
    root_rank: int
    """That rank."""
    last_step: int
    """Run no step beyond this one; -1 for no limit."""


class Gate(Protocol):
    """Lock-step with the other ranks."""

    def fileno(self) -> int:
        """Return a descriptor that polls readable while `releases` has something to return."""

    def ready(self, step: int, elapsed_ns: int, *, want_stop: bool) -> None:
        """Say that this rank could start a step `elapsed_ns` after its start."""

    def releases(self) -> list[Release]:
        """Return the releases since the last call, without blocking."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What ends a phase before its plan does."""

    max_seconds: float | None = None
    drain_epochs: bool = False
    bytes_per_second: float | None = None
    """Most bytes that this rank may ask for; None for no limit."""
    control_fd: int = -1
    """Polls readable (or hung up) when the launcher wants the rank to stop; -1 for none."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Progress of a rank, for people."""

    elapsed_seconds: float
    steps: int
    bytes_read: int
    bytes_consumed: int
    stall_seconds: float
    compute_seconds: float
    ring_occupancy: float


@dataclass(slots=True)
class PhaseResult:
    """What the loop counted; everything timed is in the recorders."""

    steps: int = 0
    samples: int = 0
    bytes_read: int = 0
    bytes_consumed: int = 0
    bytes_requested: int = 0
    bytes_transferred: int = 0
    reads_failed: int = 0
    retries: int = 0
    short_reads: int = 0
    fallback_reads: int = 0
    slow_downs: int = 0
    end_ns: int = 0
    """Host clock when the device had finished the last step."""
    interrupted: bool = False
    held_ns: int = 0
    """Time in which a piece had a slot and a reader, and our own rate limit held it back."""
    occupancy_ns: list[int] = field(default_factory=list)
    """Time with k tenths (rounded) of the slots holding data, k = 0..10."""

    def count(self, row: Completion) -> None:
        """Add what a reader counted for one piece."""
        self.bytes_transferred += row.transferred_bytes
        self.retries += row.retries
        self.short_reads += row.short_reads
        self.fallback_reads += row.fallback_reads
        self.slow_downs += row.slow_downs
