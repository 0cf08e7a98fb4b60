"""The loader delivers every byte in order, in bounded memory, and says when it cannot."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from bench.device.emulated import EmulatedDevice
from bench.errors import InfrastructureError, ReadFailed
from bench.loader.pace import BURST_NS, patience_ms
from bench.loader.phase import Limits, Snapshot
from bench.loader.pipeline import Pipeline
from bench.loader.planner import PlannedStep, plan_pieces
from bench.loader.pool import ReaderPool, SourceConfig, make_file_table, read_failure
from bench.loader.recorder import PieceRecorder, StepRecorder, read_rows
from bench.loader.records import PIECE_DTYPE, STEP_DTYPE
from bench.loader.ring import Ring
from bench.measure.attribution import attribute, seconds_by_name
from bench.measure.stall import stall_table
from bench.measure.timeline import Timeline
from bench.results.schema import CAUSES

BLOCK = 64 * 1024


def simulated(**settings):
    from bench.storage.simulated import make_server_state

    fd = make_server_state()
    defaults = {
        "bandwidth_bytes_per_second": None, "latency_seconds": 0.0, "jitter_seconds": 0.0,
        "slow_every": 0, "slow_seconds": 0.0, "seed": 1, "state_fd": fd,
    }  # fmt: skip
    return SourceConfig("simulated", {**defaults, **settings}, (fd,))


class Rig:
    """A ring, readers and an emulated device over a few real files."""

    def __init__(self, tmp_path: Path, *, sizes, slots=8, threads=4, processes=2, sink=None,
                 source=None, decode_seconds=0.0):  # fmt: skip
        self.tmp_path = tmp_path
        rng = np.random.default_rng(1)
        self.contents = [rng.bytes(size) for size in sizes]
        self.sizes = np.array(sizes, np.int64)
        names = np.array([f"f{i:05d}".encode() for i in range(len(sizes))])
        for name, content in zip(names, self.contents, strict=True):
            (tmp_path / name.decode()).write_bytes(content)
        table_fd, sizes_at, width = make_file_table(names, self.sizes)
        posix = SourceConfig(
            "posix",
            {"root": str(tmp_path), "table_fd": table_fd, "sizes_at": sizes_at,
             "name_width": width, "mode": "buffered", "align_bytes": 1},
            (table_fd,),
        )  # fmt: skip
        self.names = names
        self.ring = Ring(slots, BLOCK)
        self.pool = ReaderPool(
            self.ring, source or posix, num_processes=processes, num_threads=threads,
            decode_seconds_per_sample=decode_seconds,
        )  # fmt: skip
        self.device = EmulatedDevice("test", sink=sink)
        self.device.register(self.ring.memory)

    def plan(self, *, batch=2, epochs=1):
        step = 0
        for epoch in range(epochs):
            for first in range(0, len(self.sizes), batch):
                files = np.arange(first, min(first + batch, len(self.sizes)))
                rows = np.stack([files, np.zeros_like(files), self.sizes[files]], axis=1)
                pieces = plan_pieces(rows, np.ones(len(files), np.int64), block_bytes=BLOCK)
                yield PlannedStep(step, epoch, len(files), int(rows[:, 2].sum()), pieces)
                step += 1

    def run(self, plan, *, step_seconds=0.0, limits=None, on_progress=None):
        self.device.start(64 * BLOCK, step_seconds)
        snapshots: list[Snapshot] = []

        def progress(snapshot):
            snapshots.append(snapshot)
            if on_progress is not None:
                on_progress(snapshot)

        with (
            PieceRecorder(self.tmp_path / "pieces") as pieces,
            StepRecorder(self.tmp_path / "steps", rank=0) as steps,
        ):
            pipeline = Pipeline(
                ring=self.ring, pool=self.pool, device=self.device, pieces=pieces, steps=steps,
                fail=self.failure,
            )  # fmt: skip
            return pipeline.run(
                plan, start_ns=time.perf_counter_ns(), limits=limits or Limits(), progress=progress
            )

    def failure(self, completion):
        name, size = self.names[completion.file].decode(), int(self.sizes[completion.file])
        return read_failure(completion, name, size)

    def tables(self):
        return (
            read_rows(self.tmp_path / "pieces", PIECE_DTYPE),
            read_rows(self.tmp_path / "steps", STEP_DTYPE),
        )

    def close(self):
        self.pool.close()
        self.device.close()


@pytest.fixture
def rig(tmp_path):
    rigs = []

    def make(**settings):
        rigs.append(Rig(tmp_path, **settings))
        return rigs[-1]

    yield make
    for each in rigs:
        each.close()


class Arrivals:
    """What reached the device, by piece."""

    def __init__(self):
        self.data: dict[int, bytearray] = {}

    def __call__(self, piece, view):
        self.data.setdefault(piece, bytearray()).extend(view)


@pytest.mark.parametrize("slots", [4, 7, 64])
def test_every_byte_reaches_the_device_unharmed(rig, slots):
    arrivals = Arrivals()
    sizes = [10, 4096, 70_000, 300_000, 65_536, 65_537, 5_000, 5_000, 1, 200_000]
    r = rig(sizes=sizes, slots=slots, sink=arrivals)
    plan = list(r.plan(batch=3, epochs=3))
    result = r.run(iter(plan))
    number = 0
    for step in plan:
        for piece in step.pieces:
            for file, offset, length, at in piece.extents.tolist():
                got = bytes(arrivals.data[number][at : at + length])
                assert zlib.crc32(got) == zlib.crc32(r.contents[file][offset : offset + length])
            number += 1
    assert result.bytes_read == result.bytes_consumed == 3 * sum(sizes)
    assert result.samples == 3 * len(sizes)


def test_tables_are_complete_and_ordered(rig):
    r = rig(sizes=[200_000] * 12, slots=5)
    result = r.run(r.plan(batch=2, epochs=2), step_seconds=0.001)
    pieces, steps = r.tables()
    assert list(steps["step"]) == list(range(12)) == list(range(result.steps))
    assert list(pieces["piece"]) == list(range(len(pieces)))
    assert steps["num_pieces"].sum() == len(pieces)
    for row in steps:
        mine = pieces[row["first_piece"] : row["first_piece"] + row["num_pieces"]]
        assert set(mine["step"]) == {row["step"]}
        assert mine["payload_bytes"].sum() == row["payload_bytes"]
        assert mine["h2d_end"].max() <= row["own_ready"] <= row["compute_start"]
    for name, later in [("grant", "start"), ("start", "read_end"), ("read_end", "ready"),
                        ("ready", "taken"), ("taken", "copy_queued"),
                        ("copy_queued", "h2d_end"), ("h2d_end", "freed")]:  # fmt: skip
        assert (pieces[name] <= pieces[later]).all(), (name, later)
    held = pieces[pieces["previous"] >= 0]
    assert (pieces["freed"][held["previous"]] <= held["grant"]).all()
    assert (pieces["slot"][held["previous"]] == held["slot"]).all()


def test_emulated_decoding_burns_cpu_for_each_sample(rig):
    r = rig(sizes=[1000] * 8, decode_seconds=0.005)
    r.run(r.plan(batch=1))
    pieces, _ = r.tables()
    assert (pieces["decode_cpu_ns"] >= 5_000_000).all()
    assert (pieces["ready"] - pieces["read_end"] >= 5_000_000).all()


def test_time_ends_a_phase_and_prefetched_bytes_are_told_apart(rig):
    r = rig(sizes=[200_000] * 40, slots=32)
    result = r.run(r.plan(batch=1, epochs=100), step_seconds=0.01, limits=Limits(max_seconds=0.3))
    assert 10 < result.steps < 100
    assert result.bytes_consumed == result.steps * 200_000
    assert result.bytes_read > result.bytes_consumed


def test_a_rate_limit_holds_requests_back_and_is_named_as_the_cause(rig):
    r = rig(sizes=[100_000] * 10, slots=8)
    limit = 1_000_000
    result = r.run(r.plan(batch=1), limits=Limits(bytes_per_second=limit))
    pieces, steps = r.tables()
    start_ns = int(pieces["grant"].min())
    for first, last in ((0, 5), (0, len(pieces) - 1), (3, 9)):
        asked = int(pieces["payload_bytes"][first:last].sum())
        seconds = (int(pieces["grant"][last]) - int(pieces["grant"][first]) + BURST_NS) / 1e9
        assert asked <= limit * seconds * 1.000001
    assert result.held_ns == pieces["held_ns"].sum() > 0
    assert result.bytes_read == 1_000_000
    table = stall_table(steps, start_ns=start_ns, floor_ns=0)
    found = attribute(Timeline(steps, pieces), table)
    seconds_of = seconds_by_name(found.causes_ns, CAUSES)
    assert max(seconds_of, key=seconds_of.__getitem__) == "rate_limit"
    assert found.unattributed_ns == 0


def test_a_rate_limit_does_not_keep_the_loop_awake_when_nothing_is_left(rig, monkeypatch):
    r = rig(sizes=[50_000] * 4, source=simulated(latency_seconds=0.4))
    sleeps = []

    def noted(*arguments):
        sleeps.append(patience_ms(*arguments))
        return sleeps[-1]

    monkeypatch.setattr("bench.loader.pipeline.patience_ms", noted)
    r.run(r.plan(batch=1), limits=Limits(bytes_per_second=2_000_000))
    assert 1 < len(sleeps) < 200


def test_without_a_limit_nothing_is_held_back(rig):
    r = rig(sizes=[100_000] * 10)
    assert r.run(r.plan()).held_ns == 0
    assert r.tables()[0]["held_ns"].sum() == 0


def test_an_epoch_is_drained_before_the_next_is_read(rig):
    r = rig(sizes=[100_000] * 6, slots=64)
    r.run(r.plan(batch=1, epochs=3), limits=Limits(drain_epochs=True))
    pieces, steps = r.tables()
    for epoch in (1, 2):
        last_enqueued = steps["enqueued"][steps["epoch"] == epoch - 1].max()
        first = steps["first_piece"][steps["epoch"] == epoch].min()
        assert pieces["grant"][first] >= last_enqueued


def test_a_killed_reader_is_an_error_that_names_it(rig):
    r = rig(sizes=[100_000] * 4, source=simulated(latency_seconds=0.2))
    victim = r.pool.pids[0]

    def kill(_):
        os.kill(victim, signal.SIGKILL)

    with pytest.raises(InfrastructureError, match=rf"pid {victim}.*killed by SIGKILL"):
        r.run(r.plan(epochs=50), on_progress=kill)


def test_a_file_that_shrank_fails_the_run_with_its_name(rig):
    r = rig(sizes=[100_000] * 4)
    os.truncate(r.tmp_path / "f00002", 60_000)
    with pytest.raises(ReadFailed, match=r"f00002: ended at byte 60000 of 100000"):
        r.run(r.plan())


def test_a_stop_request_interrupts_and_keeps_what_was_recorded(rig):
    r = rig(sizes=[100_000] * 4)
    control_read, control_write = os.pipe()
    closer = threading.Event()

    def stop(snapshot):
        if snapshot.steps and not closer.is_set():
            closer.set()
            os.close(control_write)

    result = r.run(
        r.plan(epochs=100_000), step_seconds=0.002, limits=Limits(control_fd=control_read),
        on_progress=stop,
    )  # fmt: skip
    os.close(control_read)
    assert result.interrupted
    _, steps = r.tables()
    assert len(steps) == result.steps > 0


def test_readers_end_when_the_pool_is_closed(rig):
    r = rig(sizes=[1000])
    handles = [os.pidfd_open(pid) for pid in r.pool.pids]
    r.pool.close()
    for handle in handles:
        assert select.select([handle], [], [], 10)[0]
        os.close(handle)


def test_readers_hold_few_bytes_beyond_the_ring(rig):
    r = rig(sizes=[1000] * 4, slots=64)
    r.run(r.plan())
    for pid in r.pool.pids:
        pss = private_pss_bytes(pid)
        assert pss < 60e6


def private_pss_bytes(pid):
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return (
        next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1024
    )
