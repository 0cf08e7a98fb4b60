"""The stall of a run document, from tables of several ranks."""

from __future__ import annotations

import numpy as np
import pytest
from pipeline_model import MS, RankSpec, Service, simulate, uniform

from bench.measure.records import PIECE_DTYPE, STEP_DTYPE
from bench.measure.summary import Accounts, RankInput, account, late_ns


def inputs_of(specs: list[RankSpec]) -> list[RankInput]:
    return [
        RankInput(
            steps=steps,
            pieces=pieces,
            steps_r0=None,
            start_ns=spec.start,
            floor_ns=0,
            wall_ns=int(steps["compute_end"][-1]) - spec.start,
        )
        for spec, (steps, pieces) in zip(specs, simulate(specs, lock_step=True), strict=True)
    ]


def accounts_of(specs: list[RankSpec]) -> Accounts:
    found = account(inputs_of(specs), step_seconds=0.01)
    assert found is not None
    return found


def test_causes_and_states_of_a_document_sum_to_its_stall() -> None:
    slow = uniform(30, 4, Service(read=40 * MS), start=5)
    found = accounts_of([uniform(30, 4, Service(read=2 * MS)), slow])
    for stall in (*found.rank_documents, found.document):
        assert sum(stall.causes.values()) == pytest.approx(stall.total_seconds)
        assert sum(stall.states.values()) == pytest.approx(stall.total_seconds)
        assert stall.unattributed_seconds == 0
    assert found.document.total_seconds == pytest.approx(
        sum(stall.total_seconds for stall in found.rank_documents)
    )


def test_states_keep_sync_where_causes_name_its_root() -> None:
    slow = uniform(30, 4, Service(read=40 * MS), start=5)
    stall = accounts_of([uniform(30, 4, Service(read=2 * MS)), slow]).document
    assert stall.states["sync"] > 0.3 * stall.total_seconds
    assert stall.causes["sync"] < 0.01 * stall.total_seconds
    assert stall.causes["storage_read"] > 0.9 * stall.total_seconds
    assert stall.sync_root is not None
    assert stall.sync_root.rank == 1


def test_unthrottled_mode_has_no_accounts() -> None:
    inputs = inputs_of([uniform(3, 2, Service())])
    assert account(inputs, step_seconds=None) is None


def test_lateness_counts_only_as_far_as_it_reached_a_gap() -> None:
    (rank,) = inputs_of([uniform(20, 4, Service(read=40 * MS))])
    found = account([rank], step_seconds=0.01)
    assert found is not None
    rank.steps["late_ns"] = 10**15
    assert late_ns(rank, found.ranks[0]) == found.ranks[0].stall_ns
    rank.steps["late_ns"] = 7
    stalled = np.count_nonzero(found.ranks[0].table.stall_ns >= 7)
    assert late_ns(rank, found.ranks[0]) == 7 * stalled


def test_an_accelerator_without_pieces_of_its_own_is_accounted_for() -> None:
    steps = np.zeros(1, dtype=STEP_DTYPE)
    steps["enqueued"] = steps["own_ready"] = steps["released"] = steps["compute_start"] = 150
    steps["compute_end"] = 250
    rank = RankInput(steps, np.zeros(0, dtype=PIECE_DTYPE), None, 100, 0, 150)
    found = account([rank], step_seconds=100e-9)
    assert found is not None
    assert found.document.causes["handoff"] == pytest.approx(50e-9)
