"""Limits against figures: is the one-sided 95 % bound inside the limit?

A limit holds when the whole interval lies inside it, fails when the whole interval lies
beyond it, and is undecided in between. The unit is the repeat; with several occasions it is
the occasion, unless the repeats give the wider interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from bench.analysis.intervals import CONFIDENCE, interval, log_interval
from bench.analysis.wording import duration, percent, rate
from bench.policy.document import Criterion
from bench.policy.occasions import Group
from bench.results.schema import Interval, Repeat
from bench.spec.requirements import Requirement

__all__ = ["Metric", "clustered", "judge", "metric_values", "stall_interval"]

MAX_MORE = 1000
"""Further repeats or occasions worth naming; beyond it repeating settles nothing."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of a repeat.

    Attributes:
        name: In the run document.
        value: The figure of a repeat; None where it has none.
        show: The figure for people.
        logarithmic: Compared by ratio, so averaged on logarithms.
        most: Largest possible value.
    """

    name: str
    value: Callable[[Repeat], float | None]
    show: Callable[[float], str]
    logarithmic: bool = False
    most: float = math.inf


STALL = Metric("stall_ratio", lambda r: r.stall.ratio if r.stall else None, percent, most=1.0)
THROUGHPUT = Metric(
    "throughput_bytes_per_second",
    lambda r: r.throughput.bytes_per_second if r.throughput else None,
    rate,
    logarithmic=True,
)
FIRST_BATCH = Metric(
    "time_to_first_batch_seconds",
    lambda r: r.stall.time_to_first_batch_seconds if r.stall else None,
    duration,
)

Direction = Literal["at most", "at least"]

BOUNDS: dict[str, tuple[Metric, Direction]] = {
    "max_stall_ratio": (STALL, "at most"),
    "min_throughput": (THROUGHPUT, "at least"),
    "max_time_to_first_batch": (FIRST_BATCH, "at most"),
    "worst_case": (STALL, "at most"),
}
"""Field of a requirement -> what it bounds, and from which side."""


def metric_values(groups: Sequence[Group], metric: Metric) -> list[list[float]]:
    """Return the figures of all repeats, by occasion; repeats without one are left out."""
    found = [[metric.value(repeat) for _, repeat in group.repeats] for group in groups]
    return [[value for value in values if value is not None] for values in found]


def clustered(by_occasion: Sequence[Sequence[float]], metric: Metric) -> tuple[Interval, int]:
    """Return the estimate with its interval, and how many clusters the interval is made of.

    Several occasions are clusters: the mean of each is one value, and all weigh the same.
    Where the repeats, taken by themselves, give the wider interval, theirs is used: three
    occasion means can lie together by luck.

    Args:
        by_occasion: Figures of the repeats of each occasion; at least one in all.
        metric: What they are.
    """
    estimate = log_interval if metric.logarithmic else _plain(metric)
    groups = [values for values in by_occasion if values]
    everything = [value for values in groups for value in values]
    of_repeats = estimate(everything)
    if len(groups) < 2:
        return of_repeats, 1
    of_occasions = estimate(_means(groups, metric)).model_copy(update={"n": len(everything)})
    if _width(of_occasions) < _width(of_repeats):
        centre = of_occasions.estimate
        return _around(centre, of_repeats, metric), 1
    return of_occasions, len(groups)


def _means(groups: Sequence[Sequence[float]], metric: Metric) -> list[float]:
    """Return the mean of each occasion, the geometric one of rates."""
    if metric.logarithmic and min(map(min, groups)) > 0:
        return [math.exp(fmean(math.log(value) for value in values)) for values in groups]
    return [fmean(values) for values in groups]


def _plain(metric: Metric) -> Callable[[Sequence[float]], Interval]:
    return lambda values: interval(values, most=metric.most)


def _width(found: Interval) -> float:
    return math.inf if found.low is None or found.high is None else found.high - found.low


def _around(centre: float, found: Interval, metric: Metric) -> Interval:
    """Return the interval moved so that it lies around another estimate."""
    if found.low is None or found.high is None:
        return found.model_copy(update={"estimate": centre})
    if metric.logarithmic:
        factor = centre / found.estimate
        low, high = found.low * factor, found.high * factor
    else:
        shift = centre - found.estimate
        low, high = max(0.0, found.low + shift), min(metric.most, found.high + shift)
    return Interval(estimate=centre, low=low, high=high, n=found.n)


def judge(requirement: Requirement, groups: Sequence[Group]) -> list[Criterion]:
    """Return every limit of a requirement, held against the repeats that count."""
    found = []
    for name, (metric, direction) in BOUNDS.items():
        limit = getattr(requirement, name)
        if limit is not None:
            values = metric_values(groups, metric)
            num_repeats = sum(len(group.repeats) for group in groups)
            if sum(map(len, values)) < max(1, num_repeats):
                found.append(_not_measured(name, metric, limit, direction))
            elif name == "worst_case":
                found.append(_worst_case(limit, values))
            else:
                found.append(_bounded(name, metric, limit, direction, values))
    return found


def stall_interval(groups: Sequence[Group]) -> Interval | None:
    """Return the stall ratio over all repeats that have one; None where none has."""
    values = metric_values(groups, STALL)
    return clustered(values, STALL)[0] if any(values) else None


def _not_measured(name: str, metric: Metric, limit: float, direction: Direction) -> Criterion:
    return Criterion(
        name=name,
        metric=metric.name,
        limit=limit,
        direction=direction,
        estimate=None,
        low=None,
        high=None,
        n=0,
        num_occasions=0,
        worst=None,
        verdict="not measured",
        detail=f"not every repeat has a {metric.name}",
    )


def _worst_case(limit: float, by_occasion: Sequence[Sequence[float]]) -> Criterion:
    values = [value for group in by_occasion for value in group]
    worst = max(values)
    beyond = sum(value > limit for value in values)
    detail = f"the worst of {len(values)} repeats stalled {percent(worst)}"
    if beyond:
        detail += f"; {beyond} beyond {percent(limit)}"
    return Criterion(
        name="worst_case",
        metric=STALL.name,
        limit=limit,
        direction="at most",
        estimate=worst,
        low=None,
        high=None,
        n=len(values),
        num_occasions=len([group for group in by_occasion if group]),
        worst=worst,
        verdict="not met" if beyond else "pass",
        detail=detail,
    )


def _bounded(
    name: str,
    metric: Metric,
    limit: float,
    direction: Direction,
    by_occasion: Sequence[Sequence[float]],
) -> Criterion:
    values = [value for group in by_occasion for value in group]
    found, num_occasions = clustered(by_occasion, metric)
    verdict, detail = _verdict(found, metric, limit, direction, values)
    more, unit = None, "repeat" if num_occasions == 1 else "occasion"
    if verdict == "inconclusive" and _inside(found.estimate, limit, direction):
        groups = [group for group in by_occasion if group]
        samples = values if num_occasions == 1 else _means(groups, metric)
        more = _more_needed(samples, limit, metric)
    if more is not None:
        detail += f"; about {more} more {unit}{'s' * (more > 1)} would settle it"
    return Criterion(
        name=name,
        metric=metric.name,
        limit=limit,
        direction=direction,
        estimate=found.estimate,
        low=found.low,
        high=found.high,
        n=len(values),
        num_occasions=num_occasions,
        worst=max(values) if direction == "at most" else min(values),
        verdict=verdict,
        detail=detail,
        more_needed=more,
    )


def _inside(value: float, limit: float, direction: Direction) -> bool:
    return value <= limit if direction == "at most" else value >= limit


def _verdict(
    found: Interval,
    metric: Metric,
    limit: float,
    direction: Direction,
    values: Sequence[float],
) -> tuple[Literal["pass", "not met", "inconclusive"], str]:
    show = metric.show
    if found.low is None or found.high is None:
        return "inconclusive", (
            f"{len(values)} repeat{'s' * (len(values) > 1)} give no interval; limit {show(limit)}"
        )
    if len(set(values)) == 1 and values[0] > 0:
        return "inconclusive", (
            f"all {len(values)} repeats are {show(values[0])} to the last digit, which no "
            "measurement is"
        )
    good, bad = (found.high, found.low) if direction == "at most" else (found.low, found.high)
    inside = f"limit {show(limit)}"
    if _inside(good, limit, direction):
        return "pass", f"95 % sure of {direction} {show(good)}; {inside}"
    if not _inside(bad, limit, direction):
        reverse = "at least" if direction == "at most" else "at most"
        return "not met", f"95 % sure of {reverse} {show(bad)}; {inside}"
    span = f"{show(found.low)} to {show(found.high)}"
    return "inconclusive", f"the interval, {span}, has the limit inside; {inside}"


def _more_needed(samples: Sequence[float], limit: float, metric: Metric) -> int | None:
    """Return how many samples more would bring the bound to the limit, if nothing else changed."""
    from scipy.special import stdtrit

    if len(samples) < 2 or len(set(samples)) == 1:
        return None
    if metric.logarithmic and min(samples) > 0:
        samples, limit = [math.log(value) for value in samples], math.log(limit)
    distance, spread = abs(limit - fmean(samples)), stdev(samples)
    if distance == 0:
        return None
    for total in range(len(samples) + 1, len(samples) + MAX_MORE):
        quantile = float(stdtrit(total - 1, 0.5 + CONFIDENCE / 2))
        if quantile * spread / math.sqrt(total) <= distance:
            return total - len(samples)
    return None
