"""Words for a comparison: effects, p values, and the sentence that closes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bench.analysis.comparison.document import Compared, MetricComparison, Verdict
from bench.analysis.wording import duration, percent, rate, significant

__all__ = [
    "METRIC_LABELS",
    "overall_sentence",
    "shown_count",
    "shown_detectable",
    "shown_effect",
    "shown_estimate",
    "shown_interval",
    "shown_p",
    "shown_value",
]

METRIC_LABELS = {
    "throughput_bytes_per_second": "throughput",
    "stall_ratio": "stall",
    "steady_stall_ratio": "stall once running",
    "time_to_first_batch_seconds": "first batch",
    "cpu_seconds_per_gb": "CPU cost",
}

MAX_VALUE = 60


def shown_estimate(metric: MetricComparison, value: float) -> str:
    """Return a figure of one side in the unit of its metric."""
    if metric.unit == "bytes_per_second":
        return rate(value)
    if metric.unit == "ratio":
        return percent(value)
    if metric.unit == "seconds":
        return duration(value)
    return f"{significant(value)} s/GB"


def shown_effect(metric: MetricComparison) -> str:
    """Return the change: "-8.1 %", "+2.31 points"."""
    return _signed(metric, metric.effect, unit=True)


def shown_interval(metric: MetricComparison) -> str:
    """Return the ends of the change's interval: "-10.2 to -6.0"; "none" without one."""
    if metric.low is None or metric.high is None:
        return "none"
    return f"{_signed(metric, metric.low)} to {_signed(metric, metric.high)}"


def shown_detectable(metric: MetricComparison) -> str:
    """Return the least change that would have been found; "unknown" without a spread."""
    if metric.detectable is None:
        return "unknown"
    return _signed(metric, metric.detectable, unit=True)


def shown_p(value: float | None) -> str:
    """Return a p value with two digits."""
    if value is None:
        return "none"
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def shown_count(metric: MetricComparison) -> str:
    """Return the repeats of both sides: "5", or "5 and 3"."""
    one, other = metric.baseline.n, metric.candidate.n
    words = f"{one}" if one == other else f"{one} and {other}"
    return f"{words} pairs" if metric.method == "paired" else words


def shown_value(value: Any) -> str:
    """Return a fingerprint's value on a few characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = "none" if value is None else text or "empty"
    return text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 3]}..."


def overall_sentence(cells: Sequence[Compared], verdict: Verdict) -> str:
    """Return one plain sentence on what the comparison found."""
    found = [cell for cell in cells if cell.verdict == verdict]
    first = found[0]
    rest = f" ({len(found) - 1} more {verdict})" if len(found) > 1 else ""
    if verdict in ("regressed", "improved"):
        metric = next(m for m in first.metrics if m.verdict == verdict)
        return f"{verdict}: {first.label}: {_change(metric)}{rest}"
    if verdict == "equivalent":
        which = "the cell is" if len(cells) == 1 else f"all {len(cells)} cells are"
        return f"equivalent: {which} within the margins"
    why = first.reasons[0].text if first.reasons else "no reason recorded"
    better = sum(cell.verdict in ("equivalent", "improved") for cell in cells)
    also = f"; {better} of {len(cells)} cells are equivalent or improved" if better else ""
    return f"{verdict}: {first.label}: {why}{rest}{also}"


def _change(metric: MetricComparison) -> str:
    one = shown_estimate(metric, metric.baseline.estimate)
    other = shown_estimate(metric, metric.candidate.estimate)
    return (
        f"{METRIC_LABELS[metric.name]} {other} against {one}, {shown_effect(metric)} "
        f"(90 %: {shown_interval(metric)}, n = {shown_count(metric)})"
    )


def _signed(metric: MetricComparison, value: float, *, unit: bool = False) -> str:
    if metric.scale == "ratio":
        return f"{100 * value:+.1f}" + (" %" if unit else "")
    if metric.unit == "ratio":
        return f"{100 * value:+.2f}" + (" points" if unit else "")
    if metric.unit == "seconds":
        return f"{'+' if value >= 0 else '-'}{duration(abs(value))}"
    return f"{value:+.3g}" + (" s/GB" if unit else "")
