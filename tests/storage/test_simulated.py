"""The simulated server keeps its own arithmetic, whatever the wake-ups do."""

from __future__ import annotations

import os
import statistics
import threading
import time

import pytest

from bench.storage.base import Extent, ReadStats
from bench.storage.simulated import SimulatedBackend, jitter_ns, make_server_state


@pytest.fixture
def server():
    fds = []

    def make(**settings):
        fd = make_server_state()
        fds.append(fd)
        defaults = {
            "bandwidth_bytes_per_second": None, "latency_seconds": 0.0, "jitter_seconds": 0.0,
            "slow_every": 0, "slow_seconds": 0.0, "seed": 1,
        }  # fmt: skip
        return SimulatedBackend(fd, **{**defaults, **settings})

    yield make
    for fd in fds:
        os.close(fd)


def read_all(backend, pieces, num_bytes, num_threads):
    """Read pieces from several threads; return the elapsed seconds."""
    todo = iter(pieces)
    lock = threading.Lock()

    def work():
        reader = backend.thread_reader()
        stats = ReadStats()
        while True:
            with lock:
                piece = next(todo, None)
            if piece is None:
                break
            reader.read(piece, [Extent(0, 0, num_bytes, 0)], memoryview(b""), stats)
        reader.close()

    threads = [threading.Thread(target=work) for _ in range(num_threads)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin


@pytest.mark.parametrize("num_threads", [1, 4])
def test_the_pipe_is_shared_and_never_faster_than_its_bandwidth(server, num_threads):
    backend = server(bandwidth_bytes_per_second=100e6)
    elapsed = read_all(backend, range(20), 1_000_000, num_threads)
    assert elapsed >= 0.2


def test_latencies_of_concurrent_requests_overlap(server):
    backend = server(latency_seconds=0.02)
    elapsed = read_all(backend, range(16), 1_000_000, 8)
    assert elapsed >= 0.04
    assert elapsed < 16 * 0.02, "requests waited for each other's latency"


def test_two_backends_on_one_state_share_one_pipe(server):
    first = server(bandwidth_bytes_per_second=100e6)
    second = SimulatedBackend(
        first.state_fd, bandwidth_bytes_per_second=100e6, latency_seconds=0, jitter_seconds=0,
        slow_every=0, slow_seconds=0, seed=1,
    )  # fmt: skip
    begin = time.perf_counter()
    thread = threading.Thread(target=read_all, args=(first, range(10), 1_000_000, 2))
    thread.start()
    read_all(second, range(10), 1_000_000, 2)
    thread.join()
    assert time.perf_counter() - begin >= 0.2


def test_first_byte_and_transfer_are_told_apart(server):
    backend = server(latency_seconds=0.01, bandwidth_bytes_per_second=100e6)
    stats = ReadStats()
    begin = time.perf_counter_ns()
    backend.thread_reader().read(0, [Extent(0, 0, 1_000_000, 0)], memoryview(b""), stats)
    assert stats.first_byte_ns == 10_000_000
    assert time.perf_counter_ns() - begin >= 20_000_000
    assert stats.transferred_bytes == 1_000_000


def test_every_nth_piece_is_slow(server):
    backend = server(slow_every=4, slow_seconds=0.01)
    reader = backend.thread_reader()
    firsts = []
    for piece in range(8):
        stats = ReadStats()
        reader.read(piece, [Extent(0, 0, 10, 0)], memoryview(b""), stats)
        firsts.append(stats.first_byte_ns)
    assert firsts == [0, 0, 0, 10_000_000] * 2


def test_jitter_is_seeded_and_exponential():
    draws = [jitter_ns(3, piece, 1e6) for piece in range(20_000)]
    assert draws == [jitter_ns(3, piece, 1e6) for piece in range(20_000)]
    assert draws != [jitter_ns(4, piece, 1e6) for piece in range(20_000)]
    assert statistics.mean(draws) == pytest.approx(1e6, rel=0.03)
    assert statistics.stdev(draws) == pytest.approx(1e6, rel=0.05)
