"""Stall partitions exactly, and planted bottlenecks are named."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_model import MS, US, RankSpec, Service, Table, simulate, uniform

from bench.measure.attribution import (
    Attribution,
    attribute,
    dominant_causes,
    seconds_by_name,
    step_columns,
)
from bench.measure.segments import CAUSE
from bench.measure.stall import StallTable, stall_table
from bench.measure.timeline import Timeline
from bench.results.schema import CAUSES, STATES


def accounts(
    spec: RankSpec, tables: tuple[Table, Table], floor_ns: int = 0
) -> tuple[StallTable, Attribution]:
    """Attribute one rank; return (stall table, attribution)."""
    steps, pieces = tables
    table = stall_table(steps, start_ns=spec.start, floor_ns=floor_ns)
    return table, attribute(Timeline(steps, pieces), table)


def shares(spec: RankSpec) -> dict[str, float]:
    """Return cause -> share of the stall of one rank by itself."""
    table, found = accounts(spec, simulate([spec])[0])
    assert found.unattributed_ns == 0
    seconds = seconds_by_name(found.causes_ns, CAUSES)
    return {name: s / (table.total_ns / 1e9) for name, s in seconds.items()}


def services() -> st.SearchStrategy[Service]:
    small = st.integers(0, 300 * US)
    return st.builds(
        Service,
        read=st.integers(1, 20 * MS),
        opening=small,
        first_byte=small,
        cpu=st.integers(0, 8 * MS),
        run_delay=st.integers(0, 8 * MS),
        decode=st.one_of(st.just(0), st.integers(0, 10 * MS)),
        copy=st.integers(1, 5 * MS),
        wake=st.integers(0, 2 * MS),
        wake_accounted=st.integers(0, 3 * MS),
        notice=small,
        queue=small,
        free=small,
        grant=st.integers(1, 300 * US),
        extents=st.integers(1, 3),
    )


STEPS = st.integers(1, 12)


@st.composite
def specs(draw: st.DrawFn, num_steps: st.SearchStrategy[int] = STEPS) -> RankSpec:
    counts = draw(num_steps.flatmap(lambda n: st.lists(st.integers(0, 6), min_size=n, max_size=n)))
    total = sum(counts)
    return RankSpec(
        counts,
        draw(st.lists(services(), min_size=total, max_size=total)),
        num_slots=draw(st.integers(1, 9)),
        num_threads=draw(st.integers(1, 6)),
        num_readers=draw(st.integers(1, 3)),
        step=draw(st.integers(1, 20 * MS)),
        launch=draw(st.integers(0, 50 * US)),
        plan=draw(st.integers(0, 5 * MS)),
        start=draw(st.integers(1, 10**12)),
    )


@given(specs(), st.integers(0, 100 * US))
@settings(max_examples=150, deadline=None)
def test_states_and_causes_partition_the_stall_of_any_valid_pipeline(
    spec: RankSpec, floor_ns: int
) -> None:
    table, found = accounts(spec, simulate([spec])[0], floor_ns)
    np.testing.assert_array_equal(found.states_ns.sum(axis=1), table.stall_ns)
    np.testing.assert_array_equal(found.causes_ns.sum(axis=1), table.stall_ns)
    assert found.states_ns.min() >= 0
    assert found.causes_ns.min() >= 0
    assert found.unattributed_ns == 0
    assert found.causes_ns[:, CAUSE["ring_full"]].sum() == 0  # cannot be with plan-order grants


def handled_at(pieces: Table, thread: tuple[int, int], instant: int) -> Any:
    for piece in pieces:
        is_own = (piece["reader"], piece["thread"]) == thread
        if is_own and 0 < piece["start"] <= instant < piece["ready"]:
            return piece
    return None


def root_of(pieces: Table, piece: Any, instant: int, step: int) -> set[str]:
    """The definition, word by word and recursively: what is at the root of a piece's state."""
    if instant < piece["grant"]:
        if piece["previous"] < 0:
            return {"handoff"}
        holder = pieces[piece["previous"]]
        return {"handoff"} if instant >= holder["freed"] else root_of(pieces, holder, instant, step)
    if instant < piece["start"]:
        busy = handled_at(pieces, (piece["reader"], piece["thread"]), instant)
        return (
            {"reader_idle", "run_delay"} if busy is None else root_of(pieces, busy, instant, step)
        )
    if instant < piece["read_end"]:
        return {"storage_open", "storage_first_byte", "storage_read", "client_cpu", "run_delay"}
    if instant < piece["ready"]:
        return {"decode"}
    if piece["step"] > step:
        return {"ring_full"} if instant < piece["freed"] else {"handoff"}
    if instant < piece["copy_queued"]:
        return {"handoff"}
    return {"h2d"} if instant < piece["h2d_end"] else {"handoff"}


@given(specs())
@settings(max_examples=60, deadline=None)
def test_every_segment_has_the_root_that_the_recursive_definition_gives(spec: RankSpec) -> None:
    ((steps, pieces),) = simulate([spec])
    table = stall_table(steps, start_ns=spec.start, floor_ns=0)
    timeline = Timeline(steps, pieces)
    for step in np.flatnonzero(table.stall_ns).tolist():
        first, count = steps[step]["first_piece"], steps[step]["num_pieces"]
        begin = int(table.begin_ns[step])
        segments = timeline.explain(step, begin, begin + int(table.stall_ns[step]))
        assert segments[0].begin == begin
        for segment, after in itertools.pairwise(segments):
            assert segment.end == after.begin
        if count == 0:
            continue
        rows = pieces[first : first + count]
        laggard = rows[rows["h2d_end"].argmax()]
        for segment in segments:
            found = {CAUSES[index] for index, _ in segment.causes}
            for instant in (segment.begin, (segment.begin + segment.end) // 2, segment.end - 1):
                if instant < laggard["h2d_end"]:
                    assert found <= root_of(pieces, laggard, instant, step)


def test_storage_bound_is_storage_read_though_pieces_wait_for_slots_and_readers() -> None:
    spec = uniform(40, 20, Service(read=40 * MS), num_slots=12, num_threads=4, step=10 * MS)
    steps, pieces = simulate([spec])[0]
    table, found = accounts(spec, (steps, pieces))
    waiting = seconds_by_name(found.states_ns, STATES)
    assert waiting["slot_wait"] + waiting["reader_wait"] > 0.5 * table.total_ns / 1e9
    assert shares(spec)["storage_read"] >= 0.9


@pytest.mark.parametrize("pieces", [1, 6])
def test_a_slow_link_is_h2d(pieces: int) -> None:
    service = Service(read=MS, copy=10 * MS)
    assert shares(uniform(40, pieces, service, step=5 * MS, num_slots=4))["h2d"] >= 0.9


def test_slow_decoding_is_decode() -> None:
    service = Service(read=MS, decode=30 * MS)
    assert shares(uniform(40, 8, service, step=5 * MS))["decode"] >= 0.9


def test_a_read_that_burns_cpu_is_client_cpu() -> None:
    service = Service(read=40 * MS, cpu=38 * MS)
    assert shares(uniform(40, 8, service, step=5 * MS))["client_cpu"] >= 0.9


def test_a_read_that_waits_for_a_core_is_run_delay() -> None:
    service = Service(read=40 * MS, run_delay=38 * MS)
    assert shares(uniform(40, 8, service, step=5 * MS))["run_delay"] >= 0.9


def test_opening_and_first_byte_are_storage_by_their_own_name() -> None:
    service = Service(read=40 * MS, opening=20 * MS, first_byte=16 * MS)
    found = shares(uniform(60, 1, service, num_threads=1, step=MS))
    assert found["storage_open"] == pytest.approx(0.5, abs=0.05)
    assert found["storage_first_byte"] == pytest.approx(0.4, abs=0.05)
    packed = shares(uniform(60, 1, replace(service, extents=9), num_threads=1, step=MS))
    assert packed["storage_open"] == pytest.approx(0.5, abs=0.05)


def test_amounts_beyond_the_read_leave_no_negative_share() -> None:
    service = Service(read=10 * MS, opening=40 * MS, cpu=90 * MS, run_delay=10 * MS)
    found = shares(uniform(20, 4, service, step=MS))
    assert min(found.values()) >= 0
    assert found["client_cpu"] == pytest.approx(0.9, abs=0.02)


def test_a_late_wake_is_run_delay_where_the_scheduler_says_so_and_else_the_harness() -> None:
    late = Service(read=MS, wake=30 * MS, wake_accounted=30 * MS)
    assert shares(uniform(40, 4, late, step=5 * MS))["run_delay"] >= 0.9
    unaccounted = replace(late, wake_accounted=0)
    assert shares(uniform(40, 4, unaccounted, step=5 * MS))["reader_idle"] >= 0.9


def test_a_rank_that_notices_late_is_handoff() -> None:
    service = Service(read=MS, notice=30 * MS)
    assert shares(uniform(40, 4, service, step=5 * MS))["handoff"] >= 0.9


def test_a_ring_of_one_slot_shows_what_fills_it() -> None:
    # With grants in plan order a slot that is waited for is always held by an earlier piece
    # at work: a tiny ring lengthens the stall of its root, which the counterfactual tells.
    reading = uniform(30, 6, Service(read=10 * MS), num_slots=1, step=5 * MS)
    assert shares(reading)["storage_read"] >= 0.9
    copying = uniform(30, 6, Service(read=US, copy=10 * MS), num_slots=1, step=5 * MS)
    assert shares(copying)["h2d"] >= 0.9


def test_slots_held_by_finished_pieces_of_later_batches_are_ring_full() -> None:
    # A loader that grants out of order: piece 1 of step 1 took the only slot before piece 0.
    spec = uniform(2, 1, Service(), num_slots=1)
    steps, pieces = simulate([spec])[0]
    start = spec.start
    pieces[1]["previous"], pieces[0]["previous"] = -1, 1
    for name, at in {"grant": 0, "start": 10, "read_end": 20, "ready": 30, "taken": 31}.items():
        pieces[1][name], pieces[0][name] = start + at, start + 1_000 + at
    for name, at in {"copy_queued": 900, "h2d_start": 900, "h2d_end": 950, "freed": 980}.items():
        pieces[1][name], pieces[0][name] = start + at, start + 1_000 + at
    steps[0]["enqueued"], steps[0]["own_ready"] = start + 1_950, start + 1_950
    steps[0]["released"], steps[0]["compute_start"] = start + 1_950, start + 1_950
    table, found = accounts(spec, (steps[:1], pieces))
    assert table.total_ns == 1_950
    assert found.causes_ns[0, CAUSE["ring_full"]] == 980 - 30
    assert found.unattributed_ns == 0


@pytest.mark.parametrize("column", ["grant", "start", "ready", "copy_queued", "h2d_end"])
def test_missing_stamps_are_unattributed_and_the_sum_still_holds(column: str) -> None:
    spec = uniform(20, 4, Service(read=40 * MS), step=5 * MS)
    steps, pieces = simulate([spec])[0]
    pieces[column] = 0
    table, found = accounts(spec, (steps, pieces))
    np.testing.assert_array_equal(found.causes_ns.sum(axis=1), table.stall_ns)
    np.testing.assert_array_equal(found.states_ns.sum(axis=1), table.stall_ns)
    assert found.unattributed_ns > 0.5 * table.total_ns


@pytest.mark.parametrize(
    ("column", "change"),
    [("read_end", -50 * MS), ("freed", 10**12), ("slot", np.arange(160))],
    ids=["read_end", "freed", "slot"],
)
def test_contradictory_stamps_are_unattributed_and_the_sum_still_holds(
    column: str, change: Any
) -> None:
    spec = uniform(20, 8, Service(read=40 * MS), step=5 * MS, num_slots=2, num_threads=2)
    steps, pieces = simulate([spec])[0]
    pieces[column] += change
    table, found = accounts(spec, (steps, pieces))
    np.testing.assert_array_equal(found.causes_ns.sum(axis=1), table.stall_ns)
    assert found.unattributed_ns > 0


def test_a_slot_that_waits_for_itself_ends_as_unattributed() -> None:
    spec = uniform(1, 1, Service(), num_slots=1)
    steps, pieces = simulate([spec])[0]
    pieces[0]["previous"] = 0
    for column in ("grant", "start", "read_end", "ready", "taken", "copy_queued", "freed"):
        pieces[column] = pieces["h2d_end"]
    table, found = accounts(spec, (steps, pieces))
    assert found.unattributed_ns == table.total_ns > 0


def test_a_thread_that_handled_two_pieces_at_once_explains_nothing() -> None:
    spec = uniform(20, 4, Service(read=20 * MS), step=5 * MS, num_threads=2)
    steps, pieces = simulate([spec])[0]
    pieces["reader"] = pieces["thread"] = 0  # two threads that go by one name
    table, found = accounts(spec, (steps, pieces))
    np.testing.assert_array_equal(found.causes_ns.sum(axis=1), table.stall_ns)
    assert found.unattributed_ns > 0


def test_a_copy_that_ended_long_before_it_was_enqueued_explains_nothing() -> None:
    spec = uniform(20, 4, Service(read=20 * MS), step=5 * MS)
    steps, pieces = simulate([spec])[0]
    pieces["h2d_end"] -= 2 * MS
    _, found = accounts(spec, (steps, pieces))
    assert found.unattributed_ns > 0


def test_stamps_of_the_device_may_be_off_by_the_clock_error() -> None:
    spec = uniform(20, 4, Service(read=20 * MS, copy=20 * US), step=5 * MS)
    steps, pieces = simulate([spec])[0]
    pieces["h2d_end"] -= 30 * US  # a copy that seems to end before it was enqueued
    _, found = accounts(spec, (steps, pieces))
    assert found.unattributed_ns == 0


def test_the_dominant_cause_and_the_stored_columns_agree_with_the_table() -> None:
    spec = uniform(10, 4, Service(read=40 * MS), step=5 * MS)
    steps, pieces = simulate([spec])[0]
    table, found = accounts(spec, (steps, pieces))
    columns = step_columns(steps, table, found)
    assert {CAUSES[i] for i in columns["cause"][1:]} == {"storage_read"}
    total = sum(columns[f"cause_{name}_ns"] for name in CAUSES) + columns["unattributed_ns"]
    np.testing.assert_array_equal(total, columns["stall_ns"])
    np.testing.assert_array_equal(dominant_causes(np.zeros_like(found.causes_ns)), -1)
