"""Estimates over repeats with their intervals, and the rate that an accelerator needs.

A repeat is the unit of statistics. Rates are compared by ratio, so their interval is a
Student t interval on logarithms around the geometric mean; ratios and times get a plain one.
No bootstrap: with 3 to 10 repeats its intervals are too narrow (docs/method.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean, stdev

from bench.results.schema import Interval, Repeat

__all__ = ["CONFIDENCE", "counted", "interval", "log_interval", "required_rate", "summarize"]

CONFIDENCE = 0.90
"""Two-sided; its ends are the one-sided 95 % bounds that decisions use."""

Value = Callable[[Repeat], float | None]


def counted(repeats: Sequence[Repeat]) -> list[Repeat]:
    """Return the repeats that count: failed, invalid and interrupted ones do not."""
    return [repeat for repeat in repeats if repeat.status == "ok"]


def summarize(repeats: Sequence[Repeat]) -> dict[str, Interval]:
    """Return estimates over the repeats that count, by the names of `schema.Run.summary`.

    A metric that no such repeat has (stall in unthrottled mode) is left out.
    """
    used = counted(repeats)
    summary = {}
    rates = [r.throughput.bytes_per_second for r in used if r.throughput is not None]
    if rates:
        summary["throughput_bytes_per_second"] = log_interval(rates)
    plain: dict[str, tuple[Value, float]] = {
        "stall_ratio": (lambda r: r.stall.ratio if r.stall else None, 1.0),
        "steady_stall_ratio": (lambda r: r.stall.steady_ratio if r.stall else None, 1.0),
        "accelerator_utilization": (lambda r: r.accelerator_utilization, 1.0),
        "time_to_first_batch_seconds": (
            lambda r: r.stall.time_to_first_batch_seconds if r.stall else None,
            math.inf,
        ),
    }
    for name, (value, most) in plain.items():
        values = [found for found in map(value, used) if found is not None]
        if values:
            summary[name] = interval(values, most=most)
    return summary


def interval(values: Sequence[float], *, most: float = math.inf) -> Interval:
    """Return the mean with its t interval, cut to [0, most], beyond which nothing can lie.

    Args:
        values: One of each repeat; one or more.
        most: Largest possible value.
    """
    mean = fmean(values)
    if len(values) < 2:
        return Interval(estimate=mean, low=None, high=None, n=len(values))
    half = _half_width(values)
    low, high = max(0.0, mean - half), min(most, mean + half)
    return Interval(estimate=mean, low=low, high=high, n=len(values))


def log_interval(values: Sequence[float]) -> Interval:
    """Return the geometric mean with its t interval on logarithms.

    Args:
        values: One of each repeat; one or more. Where one is 0 the plain mean is given,
            without an interval.
    """
    if min(values) <= 0:
        return Interval(estimate=fmean(values), low=None, high=None, n=len(values))
    logs = [math.log(value) for value in values]
    mean = fmean(logs)
    if len(values) < 2:
        return Interval(estimate=values[0], low=None, high=None, n=1)
    half = _half_width(logs)
    return Interval(
        estimate=math.exp(mean),
        low=math.exp(mean - half),
        high=math.exp(mean + half),
        n=len(values),
    )


def _half_width(values: Sequence[float]) -> float:
    from scipy.special import stdtrit  # a fraction of scipy.stats' import time

    quantile = float(stdtrit(len(values) - 1, 0.5 + CONFIDENCE / 2))
    return quantile * stdev(values) / math.sqrt(len(values))


def required_rate(repeat: Repeat, *, step_seconds: float | None) -> float | None:
    """Return the rate at which the accelerators of a repeat would never wait, bytes per second.

    Consumed bytes over the time of the steps alone, summed over ranks; None in unthrottled
    mode or before the first step.
    """
    if not step_seconds or not any(rank.steps for rank in repeat.ranks):
        return None
    return sum(
        rank.bytes_consumed / (rank.steps * step_seconds) for rank in repeat.ranks if rank.steps
    )
