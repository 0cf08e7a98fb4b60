"""How far the making or verifying of a data set is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["REPORT_SECONDS", "OnProgress", "Progress"]

REPORT_SECONDS = 0.25
"""Between two reports: often enough for a live line."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far generation or verification is.

    Attributes:
        action: "making", "resuming", "checking" or "verifying".
        files: Done.
        num_files: In all.
        bytes: Done in this call.
        total_bytes: To do in this call.
        seconds: Since it began.
    """

    action: str
    files: int
    num_files: int
    bytes: int
    total_bytes: int
    seconds: float


OnProgress = Callable[[Progress], None]
