"""Series for charts agree with the tables and documents that they come from."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_runs import MadeRun, make_run, put_in, tables_in

from bench.analysis.series import (
    COMPUTE,
    OVERHEAD,
    RankTables,
    condense,
    latency_bins,
    throughput_series,
    window,
)
from bench.analysis.stalls import stall_rows
from bench.results.schema import CAUSES
from bench.results.store import open_store


@pytest.fixture(scope="module")
def made() -> MadeRun:
    return make_run(num_steps=80, num_ranks=2, statuses=("ok", "ok"))


@pytest.fixture
def tables(made: MadeRun, tmp_path: Path) -> list[RankTables]:
    store = open_store(str(tmp_path))
    return tables_in(store, put_in(store, made), made)


def steps_of(table: RankTables) -> pd.DataFrame:
    assert table.steps is not None
    return table.steps


def test_throughput_over_time_adds_up_to_the_bytes(made: MadeRun, tables: list[RankTables]) -> None:
    found = throughput_series(tables, repeat=1)
    assert found is not None
    assert found.edges[0] == 0
    total = float((found.rates * np.diff(found.edges)).sum())
    assert total == pytest.approx(made.run.repeats[1].bytes_read)


def test_without_tables_there_is_no_series() -> None:
    assert throughput_series([], repeat=0) is None
    assert throughput_series([RankTables(0, 0, None, None)], repeat=0) is None


def test_the_condensed_run_adds_up_to_the_accounts(made: MadeRun, tables: list[RankTables]) -> None:
    found = condense(steps_of(tables[0]))
    rank = made.run.repeats[0].ranks[0]
    assert found is not None
    assert rank.stall is not None
    width = found.edges[1] - found.edges[0]
    seconds = {kind: float(shares.sum() * width) for kind, shares in found.shares.items()}
    assert seconds[COMPUTE] == pytest.approx(80 * 0.323)
    assert seconds[OVERHEAD] == pytest.approx(rank.stall.floor_seconds)
    for cause in CAUSES:
        assert seconds[cause] == pytest.approx(rank.stall.causes[cause], abs=1e-9), cause
    whole = np.sum(list(found.shares.values()), axis=0)
    assert whole == pytest.approx(np.ones_like(whole))


def test_a_window_leaves_no_time_out(tables: list[RankTables]) -> None:
    steps = steps_of(tables[0])
    segments = window(steps, first=10, count=5)
    assert segments[0].start == pytest.approx(steps["compute_end_seconds"][9])
    for one, following in pairwise(segments):
        assert one.start + one.seconds == pytest.approx(following.start)
    assert sum(s.kind == COMPUTE for s in segments) == 5


def test_a_window_beyond_the_end_is_empty(tables: list[RankTables]) -> None:
    assert window(steps_of(tables[0]), first=80, count=5) == []


def test_unthrottled_tables_have_no_condensed_run(tmp_path: Path) -> None:
    made = make_run(num_steps=9, accelerator="none", statuses=("ok",))
    store = open_store(str(tmp_path))
    (table,) = tables_in(store, put_in(store, made), made)
    assert condense(steps_of(table)) is None


def test_latencies_of_all_repeats_are_counted(made: MadeRun) -> None:
    found = latency_bins(made.run.repeats)
    assert found is not None
    assert found.counts.sum() == 2 * 2 * 80 * 8
    assert len(found.edges) == len(found.counts) + 1
    latency = made.run.repeats[0].read_latency
    assert latency is not None
    assert found.edges[0] <= latency.p50 <= latency.max <= found.edges[-1] * 1.1


def test_shares_of_causes_add_up_to_the_stall(made: MadeRun) -> None:
    for row, repeat in zip(stall_rows(made.run.repeats), made.run.repeats, strict=True):
        assert repeat.stall is not None
        assert sum(row.shares.values()) == pytest.approx(repeat.stall.ratio)
        assert sum(row.of_stall(name) for name in row.shares) == pytest.approx(1)
