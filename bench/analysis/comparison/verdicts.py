"""From contrasts to verdicts: one rule for one cell and for a hundred thousand made-up ones.

`ci`        regressed when the adjusted p is at most alpha and the estimate lies beyond the
            margin: a change that is both real and worth a failed build.
`approval`  regressed when the whole interval lies beyond the margin (adjusted p against the
            margin): nobody publishes "worse by more than 5 %" on a mere estimate.
Both        equivalent when the interval lies inside the margin on both sides; else
            inconclusive. Improved mirrors regressed.

A cell with an accelerator is judged by throughput and by stall. Where steps are counted the two
are one quantity seen twice, and then they are one hypothesis, rejected only where both agree.
Where they do not move together they are two. Holm's correction is over all hypotheses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bench.analysis.comparison import statistics
from bench.analysis.comparison.statistics import Contrast, Floats

__all__ = ["ALPHA", "WORDS", "Judged", "Rule", "judge", "num_hypotheses", "tied_figures"]

ALPHA = 0.05
"""One-sided; the ends of the two-sided 90 % interval are its bounds."""

WORDS = ("regressed", "improved", "equivalent", "inconclusive")
"""By code of `Judged.codes`."""

Rule = Literal["ci", "approval"]


TIED = -0.9
"""Correlation of log throughput and stall inside the sides, from which on they are one quantity:
of an accelerator with counted steps it is above 0.99 in size; without any tie it gets here by
chance in 2 of 100 cells with three repeats a side, in one of 2,000 with five."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What follows from the contrasts of one figure; the last axis is the cells.

    Attributes:
        low: Lower end of the harm's interval.
        high: Upper end.
        p_worse: One-sided p that the candidate is no worse than the rule's null.
        p_worse_holm: The same, adjusted over all hypotheses of the comparison.
        p_better: One-sided p that it is no better.
        p_better_holm: The same, adjusted.
        codes: Index into WORDS.
    """

    low: Floats
    high: Floats
    p_worse: Floats
    p_worse_holm: Floats
    p_better: Floats
    p_better_holm: Floats
    codes: Floats


def judge(
    figures: Sequence[tuple[Contrast, float]],
    *,
    rule: Rule,
    tied: npt.ArrayLike = False,
    alpha: float = ALPHA,
) -> list[Judged]:
    """Return the verdicts of each figure for all cells of a comparison.

    Args:
        figures: One or two; each the contrasts of all cells along the last axis, nan where a
            cell lacks the figure, and the margin: harm up to it does not matter.
        rule: What the decision is for.
        tied: Cells whose two figures are one hypothesis (`tied_figures`).
        alpha: One-sided.
    """
    ends = [statistics.interval(one, confidence=1 - 2 * alpha) for one, _ in figures]
    nulls = [margin if rule == "approval" else 0.0 for _, margin in figures]
    worse = [statistics.p_above(one, bound=n) for (one, _), n in zip(figures, nulls, strict=True)]
    better = [statistics.p_below(one, bound=-n) for (one, _), n in zip(figures, nulls, strict=True)]
    worse_holm, better_holm = (_adjusted(p, np.asarray(tied)) for p in (worse, better))
    found = []
    for i, (contrast, margin) in enumerate(figures):
        low, high = ends[i]
        codes = np.select(
            [
                (worse_holm[i] <= alpha) & (contrast.harm > margin),
                (better_holm[i] <= alpha) & (contrast.harm < -margin),
                (low >= -margin) & (high <= margin),
            ],
            [0, 1, 2],
            default=3,
        )
        found.append(Judged(low, high, worse[i], worse_holm[i], better[i], better_holm[i], codes))
    return found


def tied_figures(logs: Sequence[npt.ArrayLike], stalls: Sequence[npt.ArrayLike]) -> Floats:
    """Return whether throughput and stall are one quantity, from their spread inside the sides.

    How far the sides are apart has no part in it.

    Args:
        logs: Log throughput of baseline and candidate, shapes (..., n) and (..., m).
        stalls: Stall ratios, of the same repeats in the same order.
    """
    one, two = (
        np.concatenate([x - x.mean(axis=-1, keepdims=True) for x in map(np.asarray, sides)], -1)
        for sides in (logs, stalls)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.sqrt((one**2).sum(axis=-1) * (two**2).sum(axis=-1))
        correlation = (one * two).sum(axis=-1) / size
    return np.asarray(correlation <= TIED)


def num_hypotheses(figures: Sequence[tuple[Contrast, float]], *, tied: npt.ArrayLike) -> int:
    """Return the size of the family of one comparison, cells along the last axis."""
    tested = sum(int(np.sum(~np.isnan(contrast.error))) for contrast, _ in figures)
    return max(1, tested - (int(np.sum(tied)) if len(figures) > 1 else 0))


def _adjusted(p: Sequence[Floats], tied: npt.NDArray[np.bool_]) -> list[Floats]:
    if len(p) == 1:
        return [statistics.holm(p[0])]
    first, second = p
    both = np.maximum(first, second)  # nan where one is missing: then they are not tied
    tied = tied & ~np.isnan(both)
    adjusted = statistics.holm(
        np.concatenate([np.where(tied, both, first), np.where(tied, np.nan, second)], axis=-1)
    )
    count = first.shape[-1]
    one = adjusted[..., :count]
    return [one, np.where(tied, one, adjusted[..., count:])]
