"""Gaps, floor, noise and the identity of one rank and of several."""

from __future__ import annotations

import numpy as np
import pytest
from pipeline_model import MS, US, Service, Table, simulate, uniform

from bench.measure.records import STEP_DTYPE
from bench.measure.stall import (
    RankStall,
    aggregate,
    floor_from_replay,
    noise_ratio,
    rank_stall,
    stall_table,
)


def steps_with_gaps(
    gaps: list[int],
    *,
    step_ns: int = 10 * MS,
    start_ns: int = 7_000,
    epochs: list[int] | None = None,
) -> Table:
    """Return a step table whose gaps are as given, the first from the start."""
    steps = np.zeros(len(gaps), dtype=STEP_DTYPE)
    at = start_ns
    for i, gap in enumerate(gaps):
        steps[i]["compute_start"] = at + gap
        at += gap + step_ns
        steps[i]["compute_end"] = at
    if epochs is not None:
        steps["epoch"] = epochs
    return steps


def stall_of(
    gaps: list[int],
    *,
    floor_ns: int = 0,
    wall_extra_ns: int = 0,
    epochs: list[int] | None = None,
    steps_r0: Table | None = None,
) -> RankStall:
    step_ns = 10 * MS
    steps = steps_with_gaps(gaps, epochs=epochs)
    wall = sum(gaps) + len(gaps) * step_ns + wall_extra_ns
    result = rank_stall(
        steps,
        start_ns=7_000,
        floor_ns=floor_ns,
        wall_ns=wall,
        step_seconds=step_ns / 1e9,
        steps_r0=steps_r0,
    )
    assert result is not None
    return result


def test_a_gap_is_floor_first_and_stall_beyond_it() -> None:
    table = stall_table(steps_with_gaps([50, 3, 20]), start_ns=7_000, floor_ns=5)
    assert table.gap_ns.tolist() == [50, 3, 20]
    assert table.floor_ns.tolist() == [5, 3, 5]
    assert table.stall_ns.tolist() == [45, 0, 15]
    assert table.begin_ns.tolist() == [7_000, 7_000 + 50 + 10 * MS, 7_000 + 53 + 20 * MS]


def test_the_floor_is_the_median_gap_of_the_replay_without_its_first() -> None:
    assert floor_from_replay(steps_with_gaps([9_000_000, 4, 60, 5])) == 5


def test_a_replay_without_a_gap_between_steps_gives_no_floor() -> None:
    with pytest.raises(ValueError, match="needs 2"):
        floor_from_replay(steps_with_gaps([1]))


def test_noise_is_per_step_of_the_replay_scaled_to_the_steps_of_the_measured_phase() -> None:
    replay = steps_with_gaps([999, 0, 100 * US, 0, 100 * US], step_ns=0)
    floor = floor_from_replay(replay)
    assert floor == 50 * US
    # Excess over the floor: 0, 50, 0, 50 us: 25 us a step, of a step of 10 ms.
    assert noise_ratio(replay, floor, mean_step_wall_ns=10 * MS) == pytest.approx(0.0025)


def test_steady_ratio_leaves_the_first_batch_out_of_stall_and_of_time() -> None:
    result = stall_of([30 * MS, 5 * MS, 5 * MS])
    assert result.ratio == pytest.approx(40 / 70)
    assert result.steady_ratio == pytest.approx(10 / 40)
    assert result.time_to_first_batch_ns == 30 * MS


def test_the_identity_holds_against_a_true_wall_clock() -> None:
    assert stall_of([30 * MS, 2 * MS, 0], floor_ns=MS).identity_error_ratio < 1e-12


def test_the_identity_fails_when_the_host_saw_more_time_than_the_steps_account_for() -> None:
    result = stall_of([10 * MS] * 5, wall_extra_ns=10 * MS)
    assert result.identity_error_ratio == pytest.approx(10 / 110)


def test_the_identity_fails_when_steps_took_longer_than_was_asked_for() -> None:
    steps = steps_with_gaps([0] * 10, step_ns=11 * MS)
    result = rank_stall(steps, start_ns=7_000, floor_ns=0, wall_ns=110 * MS, step_seconds=0.01)
    assert result is not None
    assert result.identity_error_ratio == pytest.approx(10 / 110)


def test_unthrottled_mode_has_no_stall() -> None:
    steps = steps_with_gaps([1, 2])
    assert rank_stall(steps, start_ns=0, floor_ns=0, wall_ns=1, step_seconds=None) is None


def test_epoch_start_counts_first_steps_of_later_epochs_only() -> None:
    result = stall_of([8 * MS, MS, 4 * MS, MS, 3 * MS], epochs=[0, 0, 1, 1, 2])
    assert result.epoch_start_ns == 7 * MS
    assert stall_of([8 * MS, MS]).epoch_start_ns is None


def test_ranks_add_up_with_a_tail_for_those_that_ended_earlier() -> None:
    short, long = stall_of([10 * MS] * 2), stall_of([10 * MS] * 4)
    total = aggregate([short, long])
    assert (total.wall_ns, total.tail_ns, total.stall_ns) == (80 * MS, 40 * MS, 60 * MS)
    assert total.ratio == pytest.approx(60 / 160)
    whole = total.accelerator_utilization + total.ratio + total.floor_ns / (2 * total.wall_ns)
    assert whole + total.tail_ns / (2 * total.wall_ns) == pytest.approx(1)
    assert total.per_step.max == pytest.approx(0.01)
    assert total.steady_ratio == pytest.approx(40 / 140)


def test_a_known_pipeline_has_the_stall_of_its_arithmetic() -> None:
    # 4 threads, 8 pieces of 40 ms a step: 80 ms to read, 20 ms to compute.
    spec = uniform(50, 8, Service(read=40 * MS), step=20 * MS, num_slots=16)
    ((steps, _),) = simulate([spec])
    wall = int(steps["compute_end"][-1]) - spec.start
    result = rank_stall(steps, start_ns=spec.start, floor_ns=0, wall_ns=wall, step_seconds=0.02)
    assert result is not None
    assert result.steady_ratio == pytest.approx(49 * 60 / (49 * 80 + 20), abs=1e-4)
    assert result.identity_error_ratio < 1e-9


def test_noise_of_the_replay_is_reported_beside_the_stall() -> None:
    replay = steps_with_gaps([0, 0, 100 * US, 0, 100 * US])
    quiet = stall_of([0] * 9, floor_ns=floor_from_replay(replay), steps_r0=replay)
    assert quiet.noise_ratio == pytest.approx(25 * US / (10 * MS))
    assert aggregate([quiet, quiet]).noise_ratio == pytest.approx(quiet.noise_ratio)
