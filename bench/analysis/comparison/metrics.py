"""Figures of paired cells, tested and judged together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.analysis.comparison import sides, statistics
from bench.analysis.comparison.document import MetricComparison, Parameters
from bench.analysis.comparison.sides import METRICS, Measured, Metric
from bench.analysis.comparison.statistics import Contrast
from bench.analysis.comparison.verdicts import (
    WORDS,
    Judged,
    judge,
    num_hypotheses,
    tied_figures,
)
from bench.analysis.intervals import interval, log_interval
from bench.analysis.wording import percent

__all__ = ["DECIDING", "compare_metrics", "shown_margin"]

DECIDING = ("throughput_bytes_per_second", "stall_ratio")

NOISE_SHARE = 4
"""The estimator's own noise may be at most a quarter of the margin that is decided on."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One metric of one cell on its way to a verdict."""

    cell: int
    metric: Metric
    baseline: Sequence[float]
    candidate: Sequence[float]
    contrast: Contrast
    is_paired: bool


def compare_metrics(
    cells: Sequence[tuple[Measured, Measured]], parameters: Parameters
) -> list[list[MetricComparison]]:
    """Return the compared figures of each cell.

    Args:
        cells: Baseline and candidate of every cell that can be compared.
        parameters: Of the comparison.
    """
    entries = {
        (index, metric.name): entry
        for metric in METRICS
        for index, (one, other) in enumerate(cells)
        if (entry := _entry(index, metric, one, other, parameters)) is not None
    }
    judged, family = _family(entries, len(cells), parameters)
    found: list[list[MetricComparison]] = [[] for _ in cells]
    for (index, name), entry in entries.items():
        noise = max(sides.noise(side) for side in cells[index])
        verdict = judged.get((index, name))
        found[index].append(_compared(entry, verdict, parameters, noise=noise, family=family))
    return found


def shown_margin(name: str, parameters: Parameters) -> str:
    """Return a metric's margin for people: "5 %", "2 points"."""
    if name == "stall_ratio":
        return f"{100 * parameters.margins.stall_ratio:g} points"
    return f"{100 * parameters.margins.throughput_ratio:g} %"


def _entry(
    index: int, metric: Metric, one: Measured, other: Measured, parameters: Parameters
) -> Entry | None:
    baseline = one.side.values.get(metric.name)
    candidate = other.side.values.get(metric.name)
    if not baseline or not candidate:
        return None
    is_paired = parameters.pairing == "auto" and sides.in_turns(one, other)
    scaled = [np.log(values) if metric.by_ratio else values for values in (baseline, candidate)]
    test = statistics.paired if is_paired else statistics.welch
    contrast = test(*scaled, lower_is_worse=metric.lower_is_worse)
    return Entry(index, metric, baseline, candidate, contrast, is_paired)


def _family(
    entries: Mapping[tuple[int, str], Entry], num_cells: int, parameters: Parameters
) -> tuple[dict[tuple[int, str], Judged], int]:
    """Return the verdicts of the figures that decide, and how many hypotheses there are."""
    figures = []
    for name in DECIDING:
        known = [entries.get((index, name)) for index in range(num_cells)]
        margin = _margin(next(m for m in METRICS if m.name == name), parameters)
        columns = (
            [float(getattr(entry.contrast, field)) if entry else math.nan for entry in known]
            for field in ("harm", "error", "freedom", "deviation")
        )
        figures.append((Contrast(*map(np.array, columns)), margin or 0.0))
    tied = np.array([_tied(entries, index) for index in range(num_cells)], dtype=bool)
    judged = judge(figures, rule=parameters.rule, tied=tied, alpha=parameters.alpha)
    fields = Judged.__dataclass_fields__
    verdicts = {
        (index, name): Judged(*(getattr(one, field)[index] for field in fields))
        for name, one in zip(DECIDING, judged, strict=True)
        for index in range(num_cells)
        if (index, name) in entries
    }
    return verdicts, num_hypotheses(figures, tied=tied)


def _tied(entries: Mapping[tuple[int, str], Entry], index: int) -> bool:
    rates, stalls = (entries.get((index, name)) for name in DECIDING)
    if rates is None or stalls is None:
        return False
    logs = [np.log(values) for values in (rates.baseline, rates.candidate)]
    return bool(tied_figures(logs, [stalls.baseline, stalls.candidate]))


def _margin(metric: Metric, parameters: Parameters) -> float | None:
    """Return the margin as harm: a logarithm for rates, so that losses and gains are symmetric."""
    if metric.name not in DECIDING:
        return None
    if metric.by_ratio:
        return -math.log1p(-parameters.margins.throughput_ratio)
    return parameters.margins.stall_ratio


def _compared(
    entry: Entry, judged: Judged | None, parameters: Parameters, *, noise: float, family: int
) -> MetricComparison:
    metric, contrast = entry.metric, entry.contrast
    low, high = statistics.interval(contrast, confidence=parameters.confidence)
    ends = sorted(
        end for value in (low, high) if (end := _effect(metric, float(value))) is not None
    )
    margin = _margin(metric, parameters)
    estimate = log_interval if metric.by_ratio else interval
    plain = MetricComparison(
        name=metric.name,
        unit=metric.unit,
        lower_is_worse=metric.lower_is_worse,
        deciding=judged is not None,
        baseline=estimate(entry.baseline),
        candidate=estimate(entry.candidate),
        scale="ratio" if metric.by_ratio else "difference",
        method="none" if not ends else "paired" if entry.is_paired else "welch",
        effect=_effect(metric, float(contrast.harm)) or 0.0,
        low=ends[0] if ends else None,
        high=ends[1] if ends else None,
        degrees_of_freedom=_known(contrast.freedom),
        margin=None if margin is None else _effect(metric, margin),
        p_worse=None,
        p_worse_holm=None,
        p_better=None,
        p_better_holm=None,
        detectable=None,
        repeats_needed=None,
        verdict=None,
        reason="",
    )
    if judged is None or margin is None:
        return plain
    least = _detectable(entry.contrast, parameters, margin=margin, family=family)
    found = _decided(plain, entry, judged, parameters, margin=margin, noise=noise)
    return found.model_copy(update={"detectable": _effect(metric, least)})


def _decided(
    plain: MetricComparison,
    entry: Entry,
    judged: Judged,
    parameters: Parameters,
    *,
    margin: float,
    noise: float,
) -> MetricComparison:
    contrast, metric = entry.contrast, entry.metric
    verdict = WORDS[int(judged.codes)]
    reason = _undecidable(entry, parameters, noise=noise)
    equal = not any((*entry.baseline, *entry.candidate)) and min(_counts(entry)) >= 2
    if equal and not metric.by_ratio:
        verdict, reason = "equivalent", ""  # no stall at all, on both sides
    needed = None
    if reason:
        verdict = "inconclusive"
    if verdict == "inconclusive" and _known(contrast.deviation) is not None:
        needed = statistics.repeats_needed(
            float(contrast.deviation),
            margin=margin,
            alpha=parameters.alpha,
            is_paired=entry.is_paired,
        )
        if min(_counts(entry)) >= parameters.min_repeats and not reason:
            reason = _too_wide(plain, entry, parameters, needed)
    return plain.model_copy(
        update={
            "p_worse": _known(judged.p_worse),
            "p_worse_holm": _known(judged.p_worse_holm),
            "p_better": _known(judged.p_better),
            "p_better_holm": _known(judged.p_better_holm),
            "repeats_needed": needed,
            "verdict": verdict,
            "reason": reason,
        }
    )


def _detectable(contrast: Contrast, parameters: Parameters, *, margin: float, family: int) -> float:
    """Return the least harm that one cell alone shows: Holm's first step is alpha / family."""
    error, freedom = float(contrast.error), float(contrast.freedom)
    alpha = parameters.alpha / family
    if parameters.rule == "approval":  # the whole interval has to lie beyond the margin
        return margin + statistics.detectable(error, freedom, alpha=alpha, floor=0.0)
    return statistics.detectable(error, freedom, alpha=alpha, floor=margin)


def _undecidable(entry: Entry, parameters: Parameters, *, noise: float) -> str:
    counts = _counts(entry)
    if min(counts) < parameters.min_repeats:
        few = " and ".join(
            f"{count} of the {who}"
            for who, count in zip(("baseline", "candidate"), counts, strict=True)
            if count < parameters.min_repeats
        )
        least = max(5, parameters.min_repeats)
        return (
            f"too few repeats: {few}; at least {parameters.min_repeats} a side are needed, "
            f"better {least}"
        )
    if _known(entry.contrast.error) is None:
        return (
            "the repeats of both sides are equal to the last digit: that is no measured spread, "
            "and without one there is no test"
        )
    if entry.metric.name == "stall_ratio":
        most = parameters.margins.stall_ratio / NOISE_SHARE
        if noise > most:
            return (
                f"the estimator finds {percent(noise)} of stall where there is none, more than "
                f"{percent(most)}, a quarter of the margin"
            )
    return ""


def _too_wide(
    plain: MetricComparison, entry: Entry, parameters: Parameters, needed: int | None
) -> str:
    margin, least = shown_margin(plain.name, parameters), min(_counts(entry))
    if needed is None:
        return (
            f"too noisy: more than {statistics.MAX_REPEATS} repeats a side would be needed to tell "
            f"no change from {margin}; find the noise first"
        )
    if needed > least:
        return f"too wide: {needed - least} more repeats a side would tell no change from {margin}"
    return f"the change is too near the margin of {margin} to call, with {least} repeats a side"


def _counts(entry: Entry) -> tuple[int, int]:
    return len(entry.baseline), len(entry.candidate)


def _effect(metric: Metric, harm: float) -> float | None:
    """Return harm as people read it: a ratio less one, or points; None where there is none."""
    if not math.isfinite(harm):
        return None
    signed = -harm if metric.lower_is_worse else harm
    return math.expm1(signed) if metric.by_ratio else signed


def _known(value: object) -> float | None:
    number = float(value)  # type: ignore[arg-type]
    return number if math.isfinite(number) else None
