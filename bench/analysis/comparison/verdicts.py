"""From a contrast to a verdict: one rule for one cell and for a hundred thousand made-up ones.

`ci`        regressed when the adjusted p is at most alpha and the estimate lies beyond the
            margin: a change that is both real and worth a failed build.
`approval`  regressed when the whole interval lies beyond the margin (adjusted p against the
            margin): nobody publishes "worse by more than 5 %" on a mere estimate.
Both        equivalent when the interval lies inside the margin on both sides; else
            inconclusive. Improved mirrors regressed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.analysis.comparison import statistics
from bench.analysis.comparison.statistics import Contrast, Floats

__all__ = ["ALPHA", "WORDS", "Judged", "Rule", "judge"]

ALPHA = 0.05
"""One-sided; the ends of the two-sided 90 % interval are its bounds."""

WORDS = ("regressed", "improved", "equivalent", "inconclusive")
"""By code of `Judged.codes`."""

Rule = Literal["ci", "approval"]


@dataclass(frozen=True, slots=True)
class Judged:
    """What follows from contrasts; the last axis is the family of cells.

    Attributes:
        low: Lower end of the harm's interval.
        high: Upper end.
        p_worse: One-sided p that the candidate is no worse than the rule's null.
        p_worse_holm: The same, adjusted over the family.
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


def judge(contrast: Contrast, *, margin: float, rule: Rule, alpha: float = ALPHA) -> Judged:
    """Return verdicts for a family of cells.

    Args:
        contrast: Of the family along the last axis.
        margin: Harm up to it does not matter, in the contrast's unit.
        rule: What the decision is for.
        alpha: One-sided.
    """
    low, high = statistics.interval(contrast, confidence=1 - 2 * alpha)
    null = margin if rule == "approval" else 0.0
    p_worse = statistics.p_above(contrast, bound=null)
    p_better = statistics.p_below(contrast, bound=-null)
    worse, better = statistics.holm(p_worse), statistics.holm(p_better)
    codes = np.select(
        [
            (worse <= alpha) & (contrast.harm > margin),
            (better <= alpha) & (contrast.harm < -margin),
            (low >= -margin) & (high <= margin),
        ],
        [0, 1, 2],
        default=3,
    )
    return Judged(low, high, p_worse, worse, p_better, better, codes)
