"""From the events of ranks and data set makers to the live line."""

from __future__ import annotations

import time
from typing import Any

from bench.cli.live import LiveLine, Progress
from bench.dataset.generate import Progress as MakeProgress
from bench.launch.resolve import Cell

__all__ = ["Follower"]


class Follower:
    """Sums up what ranks say and shows it.

    Args:
        line: Where to show it.
        cell: For totals.
        num_bytes: Bytes that one repeat consumes; None where time ends it.
    """

    def __init__(self, line: LiveLine, cell: Cell) -> None:
        self._line = line
        self._repeats = cell.settings.repeats
        self._max_seconds = cell.settings.max_seconds
        self._total: int | None = None
        self._ranks: dict[int, dict[str, Any]] = {}
        self._repeat = -1
        self._phase = ""
        self._since = time.monotonic()

    def expect(self, total_bytes: int | None) -> None:
        """Say how many bytes a repeat will consume."""
        self._total = total_bytes

    def making(self, progress: MakeProgress) -> None:
        """Show a data set being made."""
        rate = progress.bytes / progress.seconds if progress.seconds > 0 else None
        left = progress.total_bytes - progress.bytes
        self._line.update(
            Progress(
                phase="prepare",
                elapsed_seconds=progress.seconds,
                eta_seconds=left / rate if rate else None,
                bytes_per_second=rate,
                bytes_done=progress.bytes,
                bytes_total=progress.total_bytes,
                note=f"{progress.action} {progress.files} of {progress.num_files} files",
            )
        )

    def event(self, repeat: int, rank: int, event: dict[str, Any]) -> None:
        """Take one event of a rank."""
        if repeat != self._repeat:
            self._repeat, self._ranks = repeat, {}
        if event["event"] == "phase":
            if rank == 0:
                self._phase, self._since = event["phase"], time.monotonic()
                self._show()
        elif event["event"] == "progress":
            self._ranks[rank] = event
            if rank == 0:
                self._show()

    def _show(self) -> None:
        told = list(self._ranks.values()) if self._phase == "measure" else []
        elapsed = time.monotonic() - self._since
        if not told:
            self._line.update(
                Progress(
                    phase=self._phase or "start-up",
                    repeat=self._repeat + 1,
                    repeats=self._repeats,
                    elapsed_seconds=elapsed,
                )
            )
            return
        seconds = max(event["elapsed_seconds"] for event in told)
        consumed = sum(event["bytes_consumed"] for event in told)
        arrived = sum(event["bytes_read"] for event in told)
        busy = sum(event["stall_seconds"] + event["compute_seconds"] for event in told)
        paced = any(event["compute_seconds"] > 0 for event in told)
        stall = sum(event["stall_seconds"] for event in told) / busy if paced and busy else None
        self._line.update(
            Progress(
                phase="measure",
                repeat=self._repeat + 1,
                repeats=self._repeats,
                elapsed_seconds=seconds,
                eta_seconds=self._left(seconds, consumed),
                bytes_per_second=arrived / seconds if seconds > 0 else None,
                stall_ratio=stall,
                ring_occupancy=sum(event["ring_occupancy"] for event in told) / len(told),
                bytes_done=consumed,
                bytes_total=self._total,
            )
        )

    def _left(self, seconds: float, consumed: int) -> float | None:
        by_bytes = None
        if self._total and consumed:
            by_bytes = seconds * max(0.0, self._total / consumed - 1)
        if self._max_seconds is None:
            return by_bytes
        by_time = max(0.0, self._max_seconds - seconds)
        return by_time if by_bytes is None else min(by_time, by_bytes)
