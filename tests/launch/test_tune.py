"""The knee of a sweep is the fewest requests that are nearly as fast as the fastest."""

from __future__ import annotations

import pytest

from bench.launch.tune import Point, knee


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        ([1.0, 2.0, 3.9, 4.0, 3.0], 16),
        ([4.0, 4.0, 4.0, 4.0, 4.0], 4),
        ([1.0, 2.0, 4.0, 8.0, 16.0], 64),
        ([5.0, 4.0, 3.0, 2.0, 1.0], 4),
    ],
)
def test_the_knee(rates, chosen):
    points = [Point(4 * 2**i, rate * 1e9, 0) for i, rate in enumerate(rates)]
    assert knee(points).in_flight == chosen
