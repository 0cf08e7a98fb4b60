"""Every error that `bench` raises on purpose, and the exit status each one ends with.

BenchError
├── UsageError             2  something the user wrote, chose or pointed at is wrong
│   ├── DocumentError      2  a YAML document or an override; carries every problem found
│   ├── DatasetError       2  the data set is missing, truncated, changed or cannot be made
│   ├── TargetError        2  the storage target refuses what was asked of it
│   └── ResultsError       2  the results store cannot be read or written
├── InvalidMeasurement     4  it ran, but the figures must not be believed
├── InfrastructureError    5  the measurement never ran, or a process of it died
│   ├── ReadFailed         5  a read failed for good; names the object
│   └── PeerLost           5  another rank ended early; its own message says why
└── Interrupted          130  stopped by the user, after clean-up

Classes are split by what the caller does next. Foreign errors are wrapped at the edge
where they occur and chained (`raise ... from error`). A message names the place, what is
wrong there, and the remedy, on one line.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BenchError",
    "DatasetError",
    "DocumentError",
    "InfrastructureError",
    "Interrupted",
    "InvalidMeasurement",
    "PeerLost",
    "ReadFailed",
    "ResultsError",
    "TargetError",
    "UsageError",
]


class BenchError(Exception):
    """Base of all deliberate errors.

    Args:
        place: What is wrong: a file with line and path, a directory, an object, an option.
        problem: What is wrong with it.
        remedy: What the user can do about it; empty where nothing sensible can be said.
    """

    exit_code: ClassVar[int] = 5

    def __init__(self, place: str, problem: str, remedy: str = "") -> None:
        self.place = place
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{place}: {problem}" + (f"; {remedy}" if remedy else ""))


class UsageError(BenchError):
    """Something the user wrote, chose or pointed at is wrong."""

    exit_code = 2


class DocumentError(UsageError):
    """A document or an override is wrong.

    Args:
        problems: One line each, every problem of the document at once.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        Exception.__init__(self, "\n".join(problems))
        self.place, self.problem, self.remedy = "", "\n".join(problems), ""


class DatasetError(UsageError):
    """The data set is missing, truncated, changed, or cannot be made."""


class TargetError(UsageError):
    """The storage target refuses what was asked of it."""


class ResultsError(UsageError):
    """The results store cannot be read or written."""


class InvalidMeasurement(BenchError):  # noqa: N818 - the design's word for it
    """It ran, but the figures must not be believed."""

    exit_code = 4


class InfrastructureError(BenchError):
    """The measurement never ran, or one of its processes died."""


class ReadFailed(InfrastructureError):  # noqa: N818 - reads as what happened
    """A read failed for good."""


class PeerLost(InfrastructureError):  # noqa: N818 - reads as what happened
    """Another rank ended before its time; only a consequence of what that one says."""


class Interrupted(BenchError):  # noqa: N818 - reads as what happened
    """Stopped by the user, after clean-up."""

    exit_code = 130
