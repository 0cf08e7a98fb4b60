"""Drive the loader as a rank does, on files of our own, with a device that takes no time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.device.base import CopyDone, DeviceEvent, DeviceFacts, StepDone
from bench.errors import BenchError
from bench.loader.phase import Limits
from bench.loader.pipeline import Pipeline
from bench.loader.planner import PlannedStep, plan_pieces
from bench.loader.pool import ReaderPool, SourceConfig, make_file_table, read_failure
from bench.loader.recorder import PieceRecorder, StepRecorder
from bench.loader.ring import Ring
from bench.loader.wire import Completion
from bench.measure.process import ProcessMeter

BLOCK_BYTES = 4 * 2**20


class NullDevice:
    """Accepts everything at once: what is left is the loader."""

    def __init__(self) -> None:
        self._events: list[DeviceEvent] = []
        self._fd = os.eventfd(0, os.EFD_NONBLOCK)

    def register(self, ring: memoryview) -> None:
        del ring

    def start(self, max_batch_bytes: int, step_seconds: float) -> None:
        del max_batch_bytes, step_seconds

    def copy(self, piece: int, step: int, offset: int, num_bytes: int) -> None:
        del step, offset, num_bytes
        now = time.perf_counter_ns()
        self._events.append(CopyDone(piece, now, now))

    def step(self, step: int, *, gated: bool = False) -> None:
        del gated
        now = time.perf_counter_ns()
        self._events.append(StepDone(step, now, now, now))

    def release(self, step: int, not_before_ns: int) -> None:
        del step, not_before_ns

    def fileno(self) -> int:
        return self._fd

    def events(self) -> list[DeviceEvent]:
        events, self._events = self._events, []
        return events

    def finish(self) -> list[DeviceEvent]:
        return self.events()

    def facts(self) -> DeviceFacts:
        return DeviceFacts("emulated", "null", "none", None, None, {})

    def close(self) -> None:
        os.close(self._fd)


@dataclass(frozen=True, slots=True)
class Files:
    """Files of one directory."""

    directory: Path
    names: list[str]
    sizes: list[int]

    @property
    def total_bytes(self) -> int:
        return sum(self.sizes)


def make_files(directory: Path, *, sizes: list[int]) -> Files:
    """Write files of random bytes, on the medium when this returns."""
    directory.mkdir(parents=True)
    rng = np.random.default_rng(1)
    names = []
    for index, size in enumerate(sizes):
        name = f"f{index:05d}"
        with (directory / name).open("wb") as file:
            file.write(rng.bytes(size))
            if size >= BLOCK_BYTES:
                os.fdatasync(file.fileno())
        names.append(name)
    os.sync()
    return Files(directory, names, sizes)


def evict(files: Files) -> None:
    """Drop the files from the page cache."""
    for name in files.names:
        fd = os.open(files.directory / name, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def warm(files: Files) -> None:
    """Bring the files into the page cache."""
    for name in files.names:
        with (files.directory / name).open("rb", buffering=0) as file:
            while file.read(BLOCK_BYTES):
                pass


@dataclass(frozen=True, slots=True)
class Sample:
    """One timed pass."""

    bytes_per_second: float
    cpu_seconds_per_gb: float
    rank_pss_bytes: int
    reader_pss_bytes: int


def plan(
    files: Files, *, batch: int, passes: int, block_bytes: int = BLOCK_BYTES
) -> Iterator[PlannedStep]:
    """Yield steps of `batch` files each."""
    step = 0
    sizes = np.array(files.sizes, np.int64)
    for epoch in range(passes):
        for first in range(0, len(sizes), batch):
            index = np.arange(first, min(first + batch, len(sizes)))
            rows = np.stack([index, np.zeros_like(index), sizes[index]], axis=1)
            pieces = plan_pieces(rows, np.ones(len(index), np.int64), block_bytes=block_bytes)
            yield PlannedStep(step, epoch, len(index), int(rows[:, 2].sum()), pieces)
            step += 1


def read_all(
    files: Files, *, mode: str, threads: int, slots: int, batch: int = 1, passes: int = 1
) -> Sample:
    """Read every file `passes` times through the whole loader."""
    names = np.array([name.encode() for name in files.names])
    table_fd, sizes_at, width = make_file_table(names, np.array(files.sizes, np.int64))
    settings = {
        "root": str(files.directory), "table_fd": table_fd, "sizes_at": sizes_at,
        "name_width": width, "mode": mode, "align_bytes": 512,
    }  # fmt: skip
    source = SourceConfig("posix", settings, (table_fd,))
    try:
        return drive(source, files, threads=threads, slots=slots, batch=batch, passes=passes)
    finally:
        os.close(table_fd)


def drive(
    source: SourceConfig,
    files: Files,
    *,
    threads: int,
    slots: int,
    batch: int = 1,
    passes: int = 1,
    block_bytes: int = BLOCK_BYTES,
) -> Sample:
    """Read every file `passes` times from a source, through the whole loader."""
    ring = Ring(slots, block_bytes)
    pool = ReaderPool(ring, source, num_processes=2, num_threads=threads)
    device = NullDevice()

    def fail(row: Completion) -> BenchError:
        return read_failure(row, files.names[row.file], files.sizes[row.file])

    null = Path(os.devnull)
    try:
        with PieceRecorder(null) as pieces, StepRecorder(null, rank=0) as steps:
            pipeline = Pipeline(
                ring=ring, pool=pool, device=device, pieces=pieces, steps=steps, fail=fail
            )
            cpu = time.process_time() + pool.cpu_seconds()
            begin = time.perf_counter_ns()
            result = pipeline.run(
                plan(files, batch=batch, passes=passes, block_bytes=block_bytes),
                start_ns=begin, limits=Limits(), progress=lambda _: None,
            )  # fmt: skip
            seconds = (time.perf_counter_ns() - begin) / 1e9
            cpu = time.process_time() + pool.cpu_seconds() - cpu
            rank = ProcessMeter.own().read().pss_bytes or 0
            readers = [ProcessMeter(pid).read().pss_bytes or 0 for pid in pool.pids]
    finally:
        pool.close()
        device.close()
    share = ring.num_bytes // (1 + len(readers))
    return Sample(
        result.bytes_read / seconds,
        cpu / (result.bytes_read / 1e9),
        rank - share,
        max(readers) - share,
    )
