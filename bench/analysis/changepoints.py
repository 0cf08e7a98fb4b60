"""Change points of a series: E-divisive splits, kept where a t test and their size agree.

The split that a segment offers is the one with the largest energy distance between its two
sides (Matteson and James, arXiv 1306.4933, with exponent 1). Splits are collected generously
and then tested against their neighbours, the weakest dropped first, as Hunter does (Fleming and
others, arXiv 2301.03034): permutations would need more points after a change than a person wants
to wait for. Deterministic: there is no random number in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_POINTS", "ChangePoint", "change_points"]

Floats = npt.NDArray[np.float64]

ALPHA = 0.0015
"""Of the final t test, over a series of REFERENCE points; a longer one offers chance more places,
so it is divided among them. With it 3 to 4 of 100 steady series show a change point."""

REFERENCE = 40

WEAK_ALPHA = 0.02
"""Of the first pass: a large change hides a smaller one until the series is cut at it."""

MIN_SEGMENT = 2
"""Runs on either side of a change: one alone is an outlier until the next one agrees."""

MAX_POINTS = 1000
"""The cost is quadratic; of a longer series the latest points are looked at."""

QUIET = 0.1
"""Least spread of a level, as a share of the least change of note: rounded figures without any
spread would make every difference certain."""


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """Where a series changes level.

    Attributes:
        index: First point of the new level.
        before: Mean of the level before it, from the change point before that one.
        after: Mean of the level that begins here.
        p: Of Student's t test between the two levels.
    """

    index: int
    before: float
    after: float
    p: float


def change_points(
    values: Sequence[float],
    *,
    min_magnitude: float,
    alpha: float = ALPHA,
    min_segment: int = MIN_SEGMENT,
) -> list[ChangePoint]:
    """Return the change points of a series, in order.

    Args:
        values: In the order of time; logarithms where ratios matter.
        min_magnitude: Least difference of levels worth a change point, in the unit of `values`.
        alpha: Largest p of a change point in a series of REFERENCE points.
        min_segment: Least number of points of a level, 2 or more.

    Raises:
        ValueError: A value is not finite.
    """
    series = np.asarray(values, dtype=np.float64)
    if not np.isfinite(series).all():
        raise ValueError("a series holds values that are not finite")
    skipped = max(0, len(series) - MAX_POINTS)
    series = series[skipped:]
    floor = QUIET * min_magnitude
    sums = _prefix_sums(np.abs(series[:, None] - series[None, :]))
    cuts = sorted(_splits(series, sums, 0, len(series), min_segment=min_segment, floor=floor))
    alpha *= min(1.0, REFERENCE / max(1, len(series)))
    cuts = _pruned(series, cuts, alpha=alpha, min_magnitude=min_magnitude, floor=floor)
    cuts = _settled(sums, cuts, len(series), min_segment=min_segment)
    edges = [0, *cuts, len(series)]
    return [
        ChangePoint(
            index=skipped + cut,
            before=float(series[start:cut].mean()),
            after=float(series[cut:end].mean()),
            p=_p(series[start:cut], series[cut:end], floor=floor),
        )
        for start, cut, end in zip(edges, edges[1:-1], edges[2:], strict=False)
    ]


def _prefix_sums(distances: Floats) -> Floats:
    """Return sums[i, j] = sum of distances[:i, :j]."""
    sums = np.zeros((len(distances) + 1, len(distances) + 1))
    np.cumsum(np.cumsum(distances, axis=0), axis=1, out=sums[1:, 1:])
    return sums


def _splits(
    series: Floats, sums: Floats, start: int, end: int, *, min_segment: int, floor: float
) -> Iterator[int]:
    """Yield the splits of series[start:end] that could be change points, at every depth."""
    waiting = [(start, end)]
    while waiting:
        first, last = waiting.pop()
        found = _best(sums, first, last, min_segment=min_segment)
        if found is None:
            continue
        cut, stop = found
        if _p(series[first:cut], series[cut:stop], floor=floor) <= WEAK_ALPHA:
            yield cut
            waiting += [(first, cut), (cut, last)]


def _best(sums: Floats, start: int, end: int, *, min_segment: int) -> tuple[int, int] | None:
    """Return (cut, stop) with the largest statistic between [start, cut) and [cut, stop)."""
    cuts = np.arange(start + min_segment, end - min_segment + 1)
    if not len(cuts):
        return None
    stops = np.arange(start + 2 * min_segment, end + 1)
    energy = _energy(sums, start, cuts[:, None], stops[None, :])
    energy[stops[None, :] - cuts[:, None] < min_segment] = -np.inf
    row, column = np.unravel_index(int(np.argmax(energy)), energy.shape)
    return int(cuts[row]), int(stops[column])


def _energy(
    sums: Floats, start: int, cuts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]
) -> Floats:
    """Return m n / (m + n) times the energy distance of [start, cut) and [cut, stop)."""
    left, right = cuts - start, np.maximum(stops - cuts, 2)
    inside_left = sums[cuts, cuts] - 2 * sums[start, cuts] + sums[start, start]
    inside_right = sums[stops, stops] - 2 * sums[cuts, stops] + sums[cuts, cuts]
    between = sums[cuts, stops] - sums[cuts, cuts] - sums[start, stops] + sums[start, cuts]
    distance = (
        2 * between / (left * right)
        - inside_left / (left * (left - 1))
        - inside_right / (right * (right - 1))
    )
    found: Floats = left * right / (left + right) * distance
    return found


def _pruned(
    series: Floats, cuts: Sequence[int], *, alpha: float, min_magnitude: float, floor: float
) -> list[int]:
    """Drop the weakest split until each differs from its neighbours, in p and in size."""
    kept = list(cuts)
    while kept:
        edges = [0, *kept, len(series)]
        weakness = []
        for start, cut, end in zip(edges, edges[1:-1], edges[2:], strict=False):
            before, after = series[start:cut], series[cut:end]
            p = _p(before, after, floor=floor)
            small = abs(float(after.mean() - before.mean())) < min_magnitude
            weakness.append((small, p, cut))
        worst = max(weakness)
        if not worst[0] and worst[1] <= alpha:
            break
        kept.remove(worst[2])
    return kept


def _settled(sums: Floats, cuts: Sequence[int], length: int, *, min_segment: int) -> list[int]:
    """Move each split to the best place between its neighbours, now that those are known."""
    kept = list(cuts)
    for position in range(len(kept)):
        start = kept[position - 1] if position else 0
        end = kept[position + 1] if position + 1 < len(kept) else length
        places = np.arange(start + min_segment, end - min_segment + 1)
        if len(places):
            energy = _energy(sums, start, places, np.full_like(places, end))
            kept[position] = int(places[int(np.argmax(energy))])
    return kept


def _p(before: Floats, after: Floats, *, floor: float) -> float:
    """Return the two-sided p of Student's t test with pooled spread, of at least `floor`.

    Pooled, since a new level of two points has next to no spread of its own to go by.
    """
    from scipy.special import stdtr

    freedom = len(before) + len(after) - 2
    inside = float(((before - before.mean()) ** 2).sum() + ((after - after.mean()) ** 2).sum())
    spread = max(math.sqrt(inside / freedom), floor)
    error = spread * math.sqrt(1 / len(before) + 1 / len(after))
    if error == 0:
        return 1.0
    statistic = abs(float(after.mean() - before.mean())) / error
    return float(2 * stdtr(freedom, -statistic))
