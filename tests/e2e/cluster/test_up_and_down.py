"""However its start or its life is cut short, `down` leaves nothing of a cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.settings import ClusterError, Layout

ROOT = Path(__file__).parents[3]


@pytest.fixture
def second(cluster, monkeypatch):
    """Another cluster beside the one under test, which is not up and shares nothing with it."""
    cluster.require_own()
    monkeypatch.setenv("BENCH_CLUSTER_NAME", "second")
    second = Cluster(Layout.of_environment())
    second.down()
    yield second
    second.down()


def left_of(cluster: Cluster) -> list[str]:
    """Return what the machine still has of a cluster."""
    state = str(cluster.layout.state)
    found = [str(cluster.layout.state)] if cluster.layout.state.exists() else []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if state in words:
                found.append(f"process {folder.name}: {words}")
    found += [str(p) for p in Path("/sys/fs/cgroup").glob(f"**/{cluster.layout.cgroup}")]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if state in line]
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if state in backing.read_text():
                found.append(str(backing))
    return found


def start_up() -> subprocess.Popen:
    """Begin to bring the second cluster up, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.cluster", "up"],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def kill(process: subprocess.Popen) -> None:
    """End a process and its group at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def running(cluster: Cluster) -> dict[str, int]:
    """Return the processes of a cluster; none where it does not answer."""
    try:
        return cluster.processes.running()
    except (ClusterError, OSError):
        return {}


@pytest.mark.parametrize("started", ["etcd", "kube-apiserver", "node-1-mounts", "node-2-kubelet"])
def test_an_interrupted_start_is_cleaned_up(second, started):
    up = start_up()
    deadline = time.monotonic() + 60
    while started not in running(second):
        assert up.poll() is None, "it was complete before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    kill(up)
    assert left_of(second) != []
    second.down()
    assert left_of(second) == []


def test_an_interrupted_start_can_be_continued(second):
    up = start_up()
    deadline = time.monotonic() + 60
    while "node-1-containerd" not in running(second):
        assert up.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    kill(up)
    second.up()
    with second.inside():
        names = {item["metadata"]["name"] for item in second.api.get("/api/v1/nodes")["items"]}
    assert names == {"node-1", "node-2"}
    second.down()
    assert left_of(second) == []


def test_when_the_first_process_dies_all_end_and_the_rest_can_be_removed(second):
    second.up()
    init = second.processes.required_init()
    os.kill(init.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while any(line.startswith("process") for line in left_of(second)):
        assert time.monotonic() < deadline, left_of(second)
        time.sleep(0.05)
    assert not second.is_up
    second.down()
    assert left_of(second) == []


def test_down_ends_nothing_that_took_over_a_process_id(second):
    second.layout.state.mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        record = f'{{"pid": {stranger.pid}, "start_ticks": 1}}'
        second.layout.init_record.write_text(record)
        second.down()
        assert stranger.poll() is None
        stranger.kill()
    assert left_of(second) == []
