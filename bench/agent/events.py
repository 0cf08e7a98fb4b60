"""What a rank tells its launcher while it works: one JSON object a line on standard output."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

from bench.errors import BenchError
from bench.loader.phase import Snapshot

__all__ = ["error_event", "phase_event", "progress_event", "send"]


def send(event: dict[str, Any]) -> None:
    """Write one event; the launcher reads lines."""
    sys.stdout.write(json.dumps(event, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def phase_event(phase: str) -> dict[str, Any]:
    """Say that a phase begins: start-up, cache, replay, measure, collect."""
    return {"event": "phase", "phase": phase}


def progress_event(snapshot: Snapshot) -> dict[str, Any]:
    """Say how far the measured phase is."""
    return {"event": "progress", **dataclasses.asdict(snapshot)}


def error_event(error: BenchError) -> dict[str, Any]:
    """Say why the rank gives up."""
    return {
        "event": "error",
        "class": type(error).__name__,
        "place": error.place,
        "problem": error.problem,
        "remedy": error.remedy,
    }
