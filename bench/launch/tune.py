"""How many requests at a time: a short sweep before the run, unthrottled, and its knee."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.agent.site import LocalSite
from bench.errors import Interrupted
from bench.launch.local import run_repeat
from bench.spec.plan import Plan

__all__ = ["IN_FLIGHT", "Point", "knee", "sweep"]

IN_FLIGHT = (4, 8, 16, 32, 64)
"""Requests at a time of one accelerator."""

SWEEP_SECONDS = 3.0
"""Of one point: long enough for connections to open up, short enough to be run by default."""

KNEE_RATIO = 0.95
"""The fewest requests that reach this share of the best: more only make each one slower."""

SPARE_SLOTS = 1.25
"""Slots of the ring for each request at a time, so that none waits for a slot."""

MEMORY_SHARE = 0.25
"""Of the memory, that a ring may take in the sweep."""


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the curve.

    Attributes:
        in_flight: Requests at a time.
        bytes_per_second: Of all ranks.
        ring_bytes: Of each rank.
    """

    in_flight: int
    bytes_per_second: float
    ring_bytes: int


def knee(points: list[Point]) -> Point:
    """Return the point with the fewest requests among those near the best.

    Raises:
        ValueError: There is no point.
    """
    best = max(point.bytes_per_second for point in points)
    near = [point for point in points if point.bytes_per_second >= KNEE_RATIO * best]
    return min(near, key=lambda point: point.in_flight)


def _point_plan(plan: Plan, in_flight: int, ring_bytes: int) -> Plan:
    io = plan.storage.io.model_copy(update={"threads": in_flight})
    settings = plan.settings.model_copy(
        update={
            "accelerator": "none",
            "max_seconds": SWEEP_SECONDS,
            "max_steps": None,
            "ring_bytes": ring_bytes,
        }
    )
    storage = plan.storage.model_copy(update={"io": io})
    return plan.model_copy(update={"settings": settings, "storage": storage})


def sweep(
    plan: Plan,
    *,
    local: LocalSite,
    scratch: Path,
    memory_bytes: int | None,
    on_event: Callable[[int, dict[str, Any]], None],
) -> list[Point]:
    """Measure each number of requests once, without an accelerator's pace.

    Args:
        plan: Of the run.
        local: Where the data is.
        scratch: Directory for raw tables.
        memory_bytes: Of this machine or its limit; None where unknown.
        on_event: Called with (rank, event).

    Raises:
        BenchError: A point failed.
        Interrupted: The user stopped it.
    """
    points: list[Point] = []
    block = plan.storage.io.block_bytes
    for in_flight in IN_FLIGHT:
        ring = max(plan.settings.ring_bytes, int(SPARE_SLOTS * in_flight) * block)
        total = ring * plan.settings.gpus_per_node
        if points and memory_bytes is not None and total > MEMORY_SHARE * memory_bytes:
            break
        directory = scratch / f"tune-{in_flight}"
        directory.mkdir()
        outcome = run_repeat(
            _point_plan(plan, in_flight, ring),
            repeat=0,
            site=local,
            scratch=directory,
            on_event=on_event,
        )
        shutil.rmtree(directory, ignore_errors=True)
        if outcome.interrupted:
            raise Interrupted("tune", "stopped")
        if outcome.error is not None:
            raise outcome.error
        ranks = list(outcome.ranks.values())
        seconds = max(rank["end_ns"] - rank["start_ns"] for rank in ranks) / 1e9
        arrived = sum(rank["counts"]["bytes_read"] for rank in ranks)
        points.append(Point(in_flight, arrived / seconds, ring))
    return points
