"""Whoever dies, nothing is left: no process, no shared memory, no half-written document."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

LONG = ["-s", "simulated", "--duration", "60", "--set", "plan.ring_bytes=64MiB",
        "--set", "storage.simulated.latency_seconds=50ms"]  # fmt: skip


def processes(bench, process, marker):
    return [pid for pid in bench.children(process.pid) if marker in bench.command_line(pid)]


@pytest.fixture
def running(bench):
    """A run in its measured phase, with its rank and its readers."""
    process = bench.start("run", "smoke", *LONG)
    try:
        bench.wait_for(lambda: list(bench.results.glob(".scratch/*/0/pieces-0")))
        readers = processes(bench, process, "bench.loader.reader")
        (rank,) = processes(bench, process, "bench.agent")
        yield process, rank, readers
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def all_gone(bench, pids):
    bench.wait_for(lambda: all(bench.is_gone(pid) for pid in pids), seconds=20)


def test_a_killed_reader(bench, running):
    process, rank, readers = running
    os.kill(readers[0], signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "killed by SIGKILL" in said.splitlines()[-1]
    assert str(readers[0]) in said
    all_gone(bench, [rank, *readers])


def test_a_killed_rank(bench, running):
    process, rank, readers = running
    os.kill(rank, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 5
    assert f"rank 0 (pid {rank})" in said.splitlines()[-1]
    all_gone(bench, [rank, *readers])
    (document,) = bench.results.glob("*/*/*/run.json")
    assert json.loads(document.read_text())["status"] == "failed"


def test_a_killed_parent(bench, running):
    process, rank, readers = running
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    all_gone(bench, [rank, *readers])
    assert not list(bench.results.glob("*/*/*/run.json"))
    # The next run removes what the killed one left in the scratch directory.
    done = bench("run", "smoke", "-s", "simulated", "--steps", "3")
    assert done.code in (0, 4), done.stderr  # 4: the host was too busy for a valid figure
    assert not list(Path(bench.results).glob(".scratch/*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_by_the_user_keeps_a_partial_document(bench, running, number):
    process, rank, readers = running
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    all_gone(bench, [rank, *readers])
    (document,) = bench.results.glob("*/*/*/run.json")
    run = json.loads(document.read_text())
    assert run["status"] == "interrupted"
    assert run["repeats"][0]["status"] == "interrupted"
    assert not list(bench.results.glob(".scratch/*"))


def test_a_stop_while_the_data_set_is_made_resumes_where_it_was(bench):
    options = ["smoke", *bench.local("--dataset-size", "1GiB", "--steps", "2")]
    process = bench.start("run", *options)
    bench.wait_for(lambda: len(list(bench.data.rglob("part-*.bin"))) > 16)
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not list(bench.data.rglob("*.tmp"))
    kept = {f: f.stat().st_mtime_ns for f in bench.data.rglob("part-*.bin")}
    assert 0 < len(kept) < 256
    (document,) = bench.results.glob("*/*/*/run.json")
    assert json.loads(document.read_text())["status"] == "interrupted"
    done = bench("prepare", *options[:-2])
    assert done.code == 0, done.stderr
    assert all(f.stat().st_mtime_ns == when for f, when in kept.items())
    assert len(list(bench.data.rglob("part-*.bin"))) == 256
