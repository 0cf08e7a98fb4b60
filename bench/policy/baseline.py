"""May runs become a baseline? A bad one would hide the next regression, or invent one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.analysis.comparison.cells import group
from bench.analysis.comparison.sides import invalid_because, unlike_inside
from bench.results.gather import GivenRun

__all__ = ["MIN_REPEATS", "refused_because"]

MIN_REPEATS = 3
"""A cell with fewer has no spread worth comparing with."""


def refused_because(runs: Sequence[GivenRun]) -> list[str]:
    """Return why runs cannot be a baseline, one line each; empty where they can.

    Args:
        runs: Of one or several cells.
    """
    return [reason for cell in group(runs) for reason in _reasons(cell.runs)]


def _reasons(runs: Sequence[GivenRun]) -> Iterator[str]:
    for found in runs:
        if found.run.status != "ok":
            yield f"run {found.run.id} is {found.run.status}"
        if not found.run.fingerprint.get("hash"):
            yield f"run {found.run.id} has no fingerprint: what it ran on is not recorded"
    cell = group(runs)[0]
    for note in (*invalid_because(cell, who="run", strict=False), *unlike_inside(cell, who="runs")):
        yield note.text
    count = sum(r.status == "ok" for found in runs for r in found.run.repeats)
    if count < MIN_REPEATS:
        yield f"{cell.key.label}: {count} repeats count; a baseline needs {MIN_REPEATS}"
