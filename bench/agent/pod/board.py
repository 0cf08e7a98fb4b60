"""Progress of all ranks as the first pod tells it: sums, at most one line a second."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Board"]

SECONDS = 1.0
SUMMED = ("bytes_read", "bytes_consumed", "stall_seconds", "compute_seconds")


class Board:
    """Takes events of ranks and writes what the launcher shows.

    Args:
        write: Takes one event.
        clock: Monotonic, seconds.
    """

    def __init__(self, write: Callable[[dict[str, Any]], None], clock: Callable[[], float]) -> None:
        self._write = write
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[int, dict[str, Any]] = {}
        self._next = 0.0

    def __call__(self, rank: int, event: dict[str, Any]) -> None:
        """Take one event of a rank, from any thread."""
        if event["event"] == "phase":
            if rank == 0:
                self._write(event)
            return
        if event["event"] != "progress":
            return
        with self._lock:
            self._told[rank] = event
            now = self._clock()
            if now < self._next:
                return
            self._next = now + SECONDS
            said = self._sum()
        self._write(said)

    def _sum(self) -> dict[str, Any]:
        told = list(self._told.values())
        return {
            "event": "progress",
            "ranks": len(told),
            "elapsed_seconds": max(event["elapsed_seconds"] for event in told),
            "steps": max(event["steps"] for event in told),
            "ring_occupancy": sum(event["ring_occupancy"] for event in told) / len(told),
            **{name: sum(event[name] for event in told) for name in SUMMED},
        }
