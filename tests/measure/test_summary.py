"""The stall of a run document, from tables of several ranks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from pipeline_model import MS, RankSpec, Service, Table, simulate, uniform

from bench.measure.attribution import attribute
from bench.measure.records import PIECE_DTYPE, STEP_DTYPE
from bench.measure.stall import RankStall, aggregate, rank_stall
from bench.measure.summary import late_ns, stall_document
from bench.measure.sync import RankTables, resolve_sync
from bench.measure.timeline import Timeline
from bench.results.schema import Stall


def stall_of(steps: Table, start_ns: int, step_seconds: float) -> RankStall:
    wall = int(steps["compute_end"][-1]) - start_ns
    found = rank_stall(
        steps, start_ns=start_ns, floor_ns=0, wall_ns=wall, step_seconds=step_seconds
    )
    assert found is not None
    return found


def documents_of(specs: list[RankSpec]) -> Iterator[Stall]:
    """Yield the document of each rank, then that of all."""
    stalls, ranks = [], []
    for spec, (steps, pieces) in zip(specs, simulate(specs, lock_step=True), strict=True):
        stall, timeline = stall_of(steps, spec.start, 0.01), Timeline(steps, pieces)
        found = attribute(timeline, stall.table)
        stalls.append(stall)
        ranks.append(RankTables(timeline, stall.table, found, spec.start, steps["root_rank"]))
    resolved = resolve_sync(ranks)
    states = [rank.attribution.states_ns for rank in ranks]
    for i, stall in enumerate(stalls):
        yield stall_document(
            stall,
            causes_ns=resolved.causes_ns[i],
            states_ns=states[i],
            sync_root=resolved.roots[i],
        )
    yield stall_document(
        aggregate(stalls),
        causes_ns=np.concatenate(resolved.causes_ns),
        states_ns=np.concatenate(states),
        sync_root=resolved.root,
    )


def fast_and_slow() -> list[RankSpec]:
    slow = uniform(30, 4, Service(read=40 * MS), start=5)
    return [uniform(30, 4, Service(read=2 * MS)), slow]


def test_causes_and_states_of_a_document_sum_to_its_stall() -> None:
    documents = list(documents_of(fast_and_slow()))
    for stall in documents:
        assert sum(stall.causes.values()) == pytest.approx(stall.total_seconds)
        assert sum(stall.states.values()) == pytest.approx(stall.total_seconds)
        assert stall.unattributed_seconds == 0
    *ranks, together = documents
    assert together.total_seconds == pytest.approx(sum(rank.total_seconds for rank in ranks))


def test_states_keep_sync_where_causes_name_its_root() -> None:
    *_, stall = documents_of(fast_and_slow())
    assert stall.states["sync"] > 0.3 * stall.total_seconds
    assert stall.causes["sync"] < 0.01 * stall.total_seconds
    assert stall.causes["storage_read"] > 0.9 * stall.total_seconds
    assert stall.sync_root is not None
    assert stall.sync_root.rank == 1


def test_lateness_counts_only_as_far_as_it_reached_a_gap() -> None:
    spec = uniform(20, 4, Service(read=40 * MS))
    steps, _ = simulate([spec])[0]
    stall = stall_of(steps, spec.start, 0.01)
    steps["late_ns"] = 10**15
    assert late_ns(steps, stall.table) == stall.stall_ns
    steps["late_ns"] = 7
    assert late_ns(steps, stall.table) == 7 * np.count_nonzero(stall.table.stall_ns >= 7)


def test_a_step_without_pieces_that_starts_late_waits_for_its_host() -> None:
    steps = np.zeros(1, dtype=STEP_DTYPE)
    steps["enqueued"] = steps["own_ready"] = steps["released"] = steps["compute_start"] = 150
    steps["compute_end"] = 250
    stall = stall_of(steps, 100, 100e-9)
    found = attribute(Timeline(steps, np.zeros(0, dtype=PIECE_DTYPE)), stall.table)
    document = stall_document(
        stall, causes_ns=found.causes_ns, states_ns=found.states_ns, sync_root=None
    )
    assert document.causes["handoff"] == pytest.approx(50e-9)
