"""Tests of two samples of repeats: Welch and paired t, Holm, power. No files, no documents.

Everything is vectorised over leading axes, so that the tests of this module can run the very
same code over a hundred thousand made-up comparisons. A contrast is oriented: its `harm` is
positive where the candidate is worse.

Sources: Welch, Biometrika 34 (1947), and Satterthwaite's degrees of freedom; Holm,
Scand. J. Statist. 6 (1979); Schuirmann's two one-sided tests, J. Pharmacokin. Biopharm. 15
(1987); power by the noncentral t distribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "MAX_REPEATS",
    "Contrast",
    "Floats",
    "detectable",
    "holm",
    "interval",
    "p_above",
    "p_below",
    "paired",
    "repeats_needed",
    "welch",
]

Floats = npt.NDArray[np.float64]

NO_SPREAD = 1e-9
"""Standard errors below it, of logarithms or of ratios, are rounding and no spread at all."""

POWER = 0.8
NODES = 400
BISECTIONS = 40
MAX_REPEATS = 1000
"""More a side are not asked for: the answer is then a quieter set-up, not patience."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """Candidate against baseline, one element a comparison.

    Attributes:
        harm: Difference of means, positive where the candidate is worse.
        error: Its standard error; nan where the repeats have no spread or are too few.
        freedom: Degrees of freedom; nan likewise.
        deviation: Standard deviation of one repeat, or of one pair's difference over the square
            root of two, so that `error` of n repeats a side would be sqrt(2 / n) of it.
    """

    harm: Floats
    error: Floats
    freedom: Floats
    deviation: Floats


def welch(baseline: npt.ArrayLike, candidate: npt.ArrayLike, *, lower_is_worse: bool) -> Contrast:
    """Return the contrast of two independent samples.

    Args:
        baseline: Shape (..., n).
        candidate: Shape (..., m); leading axes as those of the baseline.
        lower_is_worse: True for rates, False for stall.
    """
    one, two = _floats(baseline), _floats(candidate)
    num_one, num_two = one.shape[-1], two.shape[-1]
    harm = _oriented(two.mean(axis=-1) - one.mean(axis=-1), lower_is_worse=lower_is_worse)
    if num_one < 2 or num_two < 2:
        nothing = np.full_like(harm, np.nan)
        return Contrast(harm, nothing, nothing, nothing)
    var_one, var_two = one.var(axis=-1, ddof=1), two.var(axis=-1, ddof=1)
    part_one, part_two = var_one / num_one, var_two / num_two
    total = part_one + part_two
    error = _spread(np.sqrt(total))
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = total**2 / (part_one**2 / (num_one - 1) + part_two**2 / (num_two - 1))
    freedom = np.where(np.isnan(error), np.nan, freedom)
    return Contrast(harm, error, freedom, np.sqrt((var_one + var_two) / 2))


def paired(baseline: npt.ArrayLike, candidate: npt.ArrayLike, *, lower_is_worse: bool) -> Contrast:
    """Return the contrast of pairs that were measured side by side.

    Args:
        baseline: Shape (..., n), element i the partner of candidate's element i.
        candidate: The same shape.
        lower_is_worse: True for rates, False for stall.
    """
    gaps = _oriented(_floats(candidate) - _floats(baseline), lower_is_worse=lower_is_worse)
    num_pairs = gaps.shape[-1]
    harm = gaps.mean(axis=-1)
    if num_pairs < 2:
        nothing = np.full_like(harm, np.nan)
        return Contrast(harm, nothing, nothing, nothing)
    deviation = gaps.std(axis=-1, ddof=1)
    error = _spread(deviation / np.sqrt(num_pairs))
    freedom = np.where(np.isnan(error), np.nan, float(num_pairs - 1))
    return Contrast(harm, error, freedom, deviation / np.sqrt(2))


def interval(contrast: Contrast, *, confidence: float) -> tuple[Floats, Floats]:
    """Return the two ends of the two-sided t interval of the harm; nan where there is none."""
    half = _quantile(contrast.freedom, 0.5 + confidence / 2) * contrast.error
    return contrast.harm - half, contrast.harm + half


def p_above(contrast: Contrast, *, bound: float = 0.0) -> Floats:
    """Return the one-sided p of "the harm is not above `bound`"; nan without a test."""
    from scipy.special import stdtr

    return _floats(stdtr(contrast.freedom, (bound - contrast.harm) / contrast.error))


def p_below(contrast: Contrast, *, bound: float = 0.0) -> Floats:
    """Return the one-sided p of "the harm is not below `bound`"; nan without a test."""
    from scipy.special import stdtr

    return _floats(stdtr(contrast.freedom, (contrast.harm - bound) / contrast.error))


def holm(p: npt.ArrayLike) -> Floats:
    """Return p adjusted for a family along the last axis; nan is not in the family."""
    raw = _floats(p)
    if raw.ndim == 0:
        return raw  # a family of one
    size = np.sum(~np.isnan(raw), axis=-1, keepdims=True)
    order = np.argsort(raw, axis=-1)  # nan last
    factors = np.maximum(size - np.arange(raw.shape[-1]), 0)
    stepped = np.take_along_axis(raw, order, axis=-1) * factors
    grown = np.minimum(np.maximum.accumulate(stepped, axis=-1), 1.0)
    adjusted = np.empty_like(raw)
    np.put_along_axis(adjusted, order, grown, axis=-1)
    return np.where(np.isnan(raw), np.nan, adjusted)


def detectable(
    error: float, freedom: float, *, alpha: float, floor: float, power: float = POWER
) -> float:
    """Return the least true harm that is called so with probability `power`; nan without a test.

    Two conditions have to hold at once: significance at `alpha`, and an estimate above `floor`.
    The estimate is normal around the truth, its error's square chi squared over its degrees of
    freedom; the probability is the integral over the error, and is solved for the truth.

    Args:
        error: Standard error; the estimate stands for the true one.
        freedom: Its degrees of freedom.
        alpha: One-sided.
        floor: Estimates up to it are no change of note; 0 where significance alone decides.
        power: Probability of finding it.
    """
    from scipy.special import chdtri, ndtr, ndtri

    if not (error > 0 and freedom > 0):
        return float("nan")
    shares = (np.arange(NODES) + 0.5) / NODES
    errors = error * np.sqrt(_floats(chdtri(freedom, shares)) / freedom)
    least = np.maximum(_quantile(freedom, 1 - alpha) * errors, floor)
    low, high = 0.0, float(least.max()) - error * float(ndtri((1 - power) / 2))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if float(ndtr((middle - least) / error).mean()) < power:
            low = middle
        else:
            high = middle
    return high


def repeats_needed(
    deviation: float, *, margin: float, alpha: float, is_paired: bool, power: float = POWER
) -> int | None:
    """Return how many repeats a side would tell "no change" from a change of the margin.

    An unchanged cell is then called equivalent with probability `power`: the two-sided interval
    of level 1 - 2 alpha lies inside the margin (Schuirmann).

    Args:
        deviation: Of one repeat (`Contrast.deviation`).
        margin: In the same unit.
        alpha: One-sided.
        is_paired: Whether repeats come in pairs.
        power: Probability of deciding.

    Returns:
        2 to MAX_REPEATS; None where more would be needed.
    """
    counts = np.arange(2, MAX_REPEATS + 1)
    freedom = (counts - 1) * (1.0 if is_paired else 2.0)
    # Both sides have to hold, so each gets half of what may go wrong.
    reach = _quantile(freedom, 1 - alpha) + _quantile(freedom, 1 - (1 - power) / 2)
    enough = np.flatnonzero(reach * deviation * np.sqrt(2 / counts) <= margin)
    return int(counts[enough[0]]) if len(enough) else None


def _oriented(difference: Floats, *, lower_is_worse: bool) -> Floats:
    return -difference if lower_is_worse else difference


def _spread(error: Floats) -> Floats:
    return np.where(error > NO_SPREAD, error, np.nan)


def _quantile(freedom: npt.ArrayLike, probability: float) -> Floats:
    from scipy.special import stdtrit

    return _floats(stdtrit(freedom, probability))


def _floats(values: Any) -> Floats:
    return np.asarray(values, dtype=np.float64)
