"""Sizes, rates and durations with units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from bench.spec.quantities import (
    BYTE_UNITS,
    Bytes,
    BytesPerSecond,
    Seconds,
    parse_bytes,
    parse_rate,
    parse_seconds,
)


class Sizes(BaseModel):
    size: Bytes = 0
    rate: BytesPerSecond = 0.0
    time: Seconds = 0.0


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("2GiB", 2 * 2**30),
        ("512 MB", 512 * 10**6),
        ("1.5Ki", 1536),
        ("1e9", 10**9),
        (" 1kB ", 1000),
        ("9223372036854775807", 2**63 - 1),  # no rounding through a float
        (4096.0, 4096),
    ],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_bytes(text) == size


@given(st.integers(0, 2**60), st.sampled_from([u for u in BYTE_UNITS if u]))
def test_a_size_is_the_number_times_its_unit_exactly(number: int, unit: str) -> None:
    size = number * BYTE_UNITS[unit]
    if size < 10**19:
        assert parse_bytes(f"{number}{unit}") == size


@pytest.mark.parametrize(
    ("text", "rate"), [("3GB/s", 3e9), ("1.5 GiB/s", 1.5 * 2**30), (7, 7), ("10MB", 1e7)]
)
def test_rates(text: object, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("350ms", 0.35), ("5m", 300), ("2h", 7200), ("10us", 1e-5), ("3", 3), (0.323, 0.323)],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("bad", ["", "GiB", "2 G iB", "2XB", "--2", "1e9999", True, None, []])
@pytest.mark.parametrize("field", ["size", "rate", "time"])
def test_nonsense_is_refused_in_every_quantity(field: str, bad: object) -> None:
    with pytest.raises(ValidationError):
        Sizes.model_validate({field: bad})


def test_numbers_too_large_for_64_bits_are_refused() -> None:
    for field, bad in (("size", 2**63), ("size", "9EiB"), ("rate", 1e30), ("time", "1e9h")):
        with pytest.raises(ValidationError):
            Sizes.model_validate({field: bad})
