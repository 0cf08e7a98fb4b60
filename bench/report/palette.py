"""One colour and one hatch for each cause, the same in every chart and table.

Hues are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), told apart with any
colour vision, one a group of causes; causes of one group differ in lightness and in hatch, so
that they stay apart in grey print too. Middle lightness keeps them readable on light and dark.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.analysis.causes import CAUSE_LABELS, UNATTRIBUTED
from bench.analysis.series import COMPUTE, OVERHEAD
from bench.results.schema import CAUSES

__all__ = ["COLOURS", "HATCHES", "KINDS", "LABELS", "REPEATS", "REQUIRED"]

COLOURS: Mapping[str, str] = {
    "storage_open": "#56b4e9",
    "storage_first_byte": "#2f93cc",
    "storage_read": "#0072b2",
    "ring_full": "#e69f00",
    "rate_limit": "#7a4a1e",
    "reader_idle": "#cc79a7",
    "decode": "#7fd1b0",
    "client_cpu": "#2fb287",
    "run_delay": "#00825f",
    "handoff": "#a4527f",
    "h2d": "#d55e00",
    "sync": "#d6c817",
    UNATTRIBUTED: "#7f3fbf",
    COMPUTE: "#a8adb3",
    OVERHEAD: "#6b7078",
}

HATCHES: Mapping[str, str] = {
    "storage_open": "///",
    "storage_first_byte": "...",
    "handoff": "\\\\\\",
    "decode": "xxx",
    "run_delay": "///",
    UNATTRIBUTED: "++",
}

LABELS: Mapping[str, str] = {
    **CAUSE_LABELS,
    COMPUTE: "computing",
    OVERHEAD: "launch overhead",
}

KINDS = (COMPUTE, *CAUSES, UNATTRIBUTED, OVERHEAD)
"""Order of stacking."""

REQUIRED = "#d55e00"
"""The line of what the accelerator needs."""

REPEATS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
"""Lines of single repeats."""
