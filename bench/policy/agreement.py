"""Does a run that was made again agree with the first one?

Two samples of repeats, compared by the interval of their difference: Welch's t on logarithms
for rates, on plain values for stall. Agreement is shown, not assumed: the whole interval must
lie within the margin. Where it is too wide to say, nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from bench.analysis.comparison.statistics import interval, welch
from bench.analysis.intervals import CONFIDENCE, counted
from bench.analysis.wording import percent, rate
from bench.results.fingerprint import differences
from bench.results.schema import Run

__all__ = ["Agreement", "MetricAgreement", "compare_runs"]

THROUGHPUT_MARGIN = 0.05
"""Of the first run's; the margin of method.md and of MLPerf Storage's replications."""

STALL_MARGIN = 0.02
"""Points of time."""

Verdict = Literal["agrees", "differs", "undecided"]


@dataclass(frozen=True, slots=True)
class MetricAgreement:
    """One figure of two runs.

    Attributes:
        metric: Its name.
        first: Of the first run, for people.
        again: Of the second.
        difference: Second against first: a ratio less one, or points; None without interval.
        low: Ends of its 90 % interval.
        high: The same.
        margin: Differences below it do not matter.
        verdict: What follows.
        detail: The same in words.
    """

    metric: str
    first: str
    again: str
    difference: float | None
    low: float | None
    high: float | None
    margin: float
    verdict: Verdict
    detail: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two runs of one plan.

    Attributes:
        metrics: By figure.
        verdict: The worst of them.
        differences: Paths at which the fingerprints differ; empty for the same cell.
    """

    metrics: tuple[MetricAgreement, ...]
    verdict: Verdict
    differences: tuple[str, ...]


def compare_runs(first: Run, again: Run) -> Agreement:
    """Return whether the second run agrees with the first, in throughput and in stall."""
    rates = [
        [r.throughput.bytes_per_second for r in counted(run.repeats) if r.throughput]
        for run in (first, again)
    ]
    stalls = [
        [r.stall.ratio for r in counted(run.repeats) if r.stall is not None]
        for run in (first, again)
    ]
    metrics = [_rates(rates[0], rates[1])]
    if any(stalls):
        metrics.append(_stalls(stalls[0], stalls[1]))
    verdicts = {metric.verdict for metric in metrics}
    order: tuple[Verdict, ...] = ("differs", "undecided", "agrees")
    return Agreement(
        metrics=tuple(metrics),
        verdict=next(verdict for verdict in order if verdict in verdicts),
        differences=tuple(differences(first.fingerprint, again.fingerprint)),
    )


def _rates(first: Sequence[float], again: Sequence[float]) -> MetricAgreement:
    name = "throughput"
    if not first or not again or min(*first, *again) <= 0:
        return _nothing(name, THROUGHPUT_MARGIN, "one of the runs has no throughput")
    logs = [[math.log(value) for value in values] for values in (first, again)]
    shown = [rate(math.exp(fmean(values))) for values in logs]
    found = _welch(*logs)
    if found is not None:
        low, high = (math.expm1(end) for end in found[1:])
        found = (math.expm1(found[0]), low, high)
    # Symmetric as a ratio: 5 % less is undone by 5.3 % more.
    bounds = (-THROUGHPUT_MARGIN, 1 / (1 - THROUGHPUT_MARGIN) - 1)
    return _judged(name, shown, found, THROUGHPUT_MARGIN, bounds, "%")


def _stalls(first: Sequence[float], again: Sequence[float]) -> MetricAgreement:
    name = "stall"
    if not first or not again:
        return _nothing(name, STALL_MARGIN, "one of the runs has no stall")
    shown = [percent(fmean(values)) for values in (first, again)]
    bounds = (-STALL_MARGIN, STALL_MARGIN)
    return _judged(name, shown, _welch(first, again), STALL_MARGIN, bounds, "points")


def _nothing(name: str, margin: float, why: str) -> MetricAgreement:
    return MetricAgreement(name, "none", "none", None, None, None, margin, "undecided", why)


def _welch(first: Sequence[float], again: Sequence[float]) -> tuple[float, float, float] | None:
    """Return the difference of means with its 90 % Welch t interval; None for single values."""
    if len(first) < 2 or len(again) < 2:
        return None
    found = welch(first, again, lower_is_worse=False)
    difference = float(found.harm)
    if math.isnan(
        found.error
    ):  # no spread, so no interval; but no stall at all, twice, is the same
        return None if difference else (0.0, 0.0, 0.0)
    low, high = interval(found, confidence=CONFIDENCE)
    return difference, float(low), float(high)


def _judged(
    name: str,
    shown: Sequence[str],
    found: tuple[float, float, float] | None,
    margin: float,
    bounds: tuple[float, float],
    unit: str,
) -> MetricAgreement:
    first, again = shown
    lead = f"{first} first, {again} again"
    if found is None:
        why = f"{lead}; a single repeat, or equal ones, give no interval"
        return MetricAgreement(name, first, again, None, None, None, margin, "undecided", why)
    difference, low, high = found
    verdict: Verdict = "undecided"
    if bounds[0] <= low and high <= bounds[1]:
        verdict = "agrees"
    elif (low > 0 or high < 0) and not bounds[0] <= difference <= bounds[1]:
        verdict = "differs"
    detail = (
        f"{lead}: {difference * 100:+.2f} {unit} (90 %: {low * 100:+.2f} to {high * 100:+.2f}), "
        f"margin {margin * 100:g} {unit}"
    )
    return MetricAgreement(name, first, again, difference, low, high, margin, verdict, detail)
