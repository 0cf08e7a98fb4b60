"""Waiting for other ranks is resolved to what kept the late one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_model import MS, RankSpec, Service, simulate, uniform
from test_attribution import specs

from bench.measure.attribution import attribute, seconds_by_name
from bench.measure.segments import CAUSE
from bench.measure.stall import stall_table
from bench.measure.sync import RankTables, resolve_sync
from bench.measure.timeline import Timeline
from bench.results.schema import CAUSES


def tables_of(all_specs: list[RankSpec]) -> list[RankTables]:
    ranks = []
    for spec, (steps, pieces) in zip(all_specs, simulate(all_specs, lock_step=True), strict=True):
        table = stall_table(steps, start_ns=spec.start, floor_ns=0)
        timeline = Timeline(steps, pieces)
        found = attribute(timeline, table)
        ranks.append(RankTables(timeline, table, found, spec.start, steps["root_rank"]))
    return ranks


def rank(service: Service, start: int = 1, **settings: Any) -> RankSpec:
    return uniform(30, 4, service, step=10 * MS, start=start, **settings)


def test_a_straggler_on_slow_storage_makes_the_others_wait_on_storage() -> None:
    fast, slow = Service(read=2 * MS), Service(read=40 * MS)
    ranks = tables_of([rank(fast), rank(fast, start=10**12), rank(slow, start=5 * 10**9)])
    waiting = seconds_by_name(ranks[0].attribution.causes_ns, CAUSES)
    assert waiting["sync"] > 0.9 * ranks[0].table.total_ns / 1e9
    found = resolve_sync(ranks)
    for own, causes in zip(ranks, found.causes_ns, strict=True):
        resolved = seconds_by_name(causes, CAUSES)
        assert resolved["storage_read"] >= 0.9 * own.table.total_ns / 1e9
        np.testing.assert_array_equal(causes.sum(axis=1), own.table.stall_ns)
    assert found.root is not None
    assert found.root.rank == 2
    assert found.root.causes["storage_read"] >= 0.9 * sum(found.root.causes.values())
    assert found.roots[2] is None


def test_waiting_for_a_slow_step_stays_sync() -> None:
    spec = rank(Service(read=MS))
    slow = rank(Service(read=MS), slow_steps=dict.fromkeys(range(30), 30 * MS))
    found = resolve_sync(tables_of([spec, slow]))
    assert found.root is not None
    assert found.root.rank == 1
    causes = seconds_by_name(found.causes_ns[0], CAUSES)
    assert causes["sync"] >= 0.9 * sum(causes.values())


def test_a_rank_alone_does_not_wait() -> None:
    found = resolve_sync(tables_of([rank(Service(read=40 * MS))]))
    assert found.root is None
    assert found.causes_ns[0][:, CAUSE["sync"]].sum() == 0


@given(st.lists(specs(num_steps=st.just(5)), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_resolving_keeps_every_sum_and_leaves_nothing_negative(all_specs: list[RankSpec]) -> None:
    ranks = tables_of(all_specs)
    found = resolve_sync(ranks)
    waited = 0
    for own, causes in zip(ranks, found.causes_ns, strict=True):
        np.testing.assert_array_equal(causes.sum(axis=1), own.table.stall_ns)
        assert causes.min() >= 0
        waited += int(own.attribution.causes_ns[:, CAUSE["sync"]].sum())
    assert (found.root is None) == (waited == 0)


def test_an_unknown_root_stays_sync() -> None:
    ranks = tables_of([rank(Service(read=2 * MS)), rank(Service(read=40 * MS))])
    found = resolve_sync([ranks[0]])
    assert found.causes_ns[0].tolist() == ranks[0].attribution.causes_ns.tolist()
    assert found.root is None


def test_each_rank_names_the_one_that_it_waited_for_most() -> None:
    ranks = tables_of([rank(Service(read=2 * MS)), rank(Service(read=40 * MS))])
    roots = resolve_sync(ranks).roots
    assert roots[0] is not None
    assert roots[0].rank == 1
    assert sum(roots[0].causes.values()) == pytest.approx(
        ranks[0].attribution.causes_ns[:, CAUSE["sync"]].sum() / 1e9
    )
