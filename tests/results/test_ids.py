"""Ids sort by time and are fit for paths and Kubernetes names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.results.ids import created_ms, is_id, new_id

MOMENTS = st.integers(0, ((1 << 48) - 1) * 1_000_000)
RANDOM = st.binary(min_size=10, max_size=10)


def test_the_example_of_the_ulid_libraries() -> None:
    """The seed time 1469918176385 of the reference implementation's own tests."""
    made = new_id(1_469_918_176_385 * 1_000_000, random=bytes(10))
    assert made == "01aryz6s41" + "0" * 16


@given(MOMENTS, RANDOM)
def test_an_id_is_valid_and_tells_its_time(now_ns: int, random: bytes) -> None:
    made = new_id(now_ns, random=random)
    assert is_id(made)
    assert created_ms(made) == now_ns // 1_000_000


@given(MOMENTS, MOMENTS, RANDOM, RANDOM)
def test_ids_sort_by_time(one: int, other: int, first: bytes, second: bytes) -> None:
    if one // 1_000_000 < other // 1_000_000:
        assert new_id(one, random=first) < new_id(other, random=second)


@given(RANDOM, RANDOM)
def test_ids_of_one_moment_differ_by_their_randomness(one: bytes, other: bytes) -> None:
    assert (new_id(5, random=one) == new_id(5, random=other)) == (one == other)


@pytest.mark.parametrize("now_ns", [-1, (1 << 48) * 1_000_000])
def test_a_clock_beyond_the_ids_range_is_refused(now_ns: int) -> None:
    with pytest.raises(ValueError, match="no id for the instant"):
        new_id(now_ns, random=bytes(10))


def test_too_little_randomness_is_refused() -> None:
    with pytest.raises(ValueError, match="10 random bytes, got 9"):
        new_id(0, random=bytes(9))


@pytest.mark.parametrize("text", ["", "01ARYZ6S41", "8" + "0" * 25, "0" * 25 + "u", "0" * 27])
def test_what_is_no_id(text: str) -> None:
    assert not is_id(text)
    with pytest.raises(ValueError, match="is not a run id"):
        created_ms(text)
