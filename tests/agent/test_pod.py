"""Two pods as processes of this machine: what they send home is all that a document needs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.agent.pod.codes import BAD_INPUT_CODE
from bench.agent.pod.wire import lines_of
from bench.dataset.generate import ensure
from bench.launch.document import fresh_id
from bench.launch.kubernetes.collect import outcome_of
from bench.launch.kubernetes.logs import PodLog
from bench.launch.resolve import build_plan, resolve_cell
from bench.loader.records import PIECE_DTYPE
from bench.spec.load import load_storage, load_workload
from bench.spec.overrides import plan_settings

SETTINGS = (
    "plan.gpus_per_node=1",
    "plan.reader_processes=1",
    "plan.ring_bytes=16MiB",
    "plan.dataset_bytes=64MiB",
    "plan.barrier_timeout_seconds=30",
    "plan.accelerator=none",
)
BLOCKS = ("storage.io.block_bytes=64KiB", "storage.io.mode=buffered", "storage.io.threads=2")


class Pods:
    """Starts agents with the environment that the manifests give them."""

    def __init__(self, directory: Path, *overrides: str, nodes: int) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.data.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
        workload = load_workload("smoke", overrides=overrides)
        target = load_storage("local-dir", overrides=BLOCKS)
        settings = plan_settings((*SETTINGS, f"plan.nodes={nodes}"))
        cell = resolve_cell(workload, target, settings, memory_bytes=None, cacheable_bytes=0)
        manifest = ensure(
            self.data, "smoke", cell.workload.spec.dataset, workers=2, progress=lambda _: None
        )
        self.plan = build_plan(
            cell, manifest, run_id=fresh_id(), division="exploratory", overrides=()
        )
        self.running: list[subprocess.Popen[str]] = []

    def start(self, index: int, *words: str, **environment: str) -> subprocess.Popen[str]:
        """Start the pod of an index."""
        scratch = self.directory / f"scratch-{index}"
        scratch.mkdir()
        plan = self.directory / "plan.json"
        plan.write_bytes(self.plan.canonical_json())
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.agent.pod", *(words or ("measure",)),
             "--verdict-file", str(self.directory / f"verdict-{index}")],
            env=os.environ | {
                "BENCH_PLAN": str(plan),
                "BENCH_SCRATCH": str(scratch),
                "BENCH_DATA_ROOT": str(self.data),
                "BENCH_NODE_NAME": f"node-{index}",
                "BENCH_POD_NAME": f"pod-{index}",
                "BENCH_POD_UID": f"uid-{index}",
                "JOB_COMPLETION_INDEX": str(index),
                "BENCH_COORDINATOR": f"127.0.0.1:{self.port}",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self.running.append(process)
        return process

    def end(
        self, process: subprocess.Popen[str], index: int, *, early: Sequence[str] = ()
    ) -> tuple[int, PodLog, str, dict[str, Any]]:
        """Wait for a pod; return its status, its log as the launcher keeps it, the log, and its
        verdict."""
        out, err = process.communicate(timeout=60)
        assert err == ""
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        log = PodLog(f"pod-{index}", home, lambda _: None)
        for line in lines_of(iter([*early, *out.splitlines()])):
            log.take(line)
        verdict = json.loads((self.directory / f"verdict-{index}").read_text())
        return process.returncode, log, out, verdict


@pytest.fixture
def pods(tmp_path):
    made = []

    def make(nodes, *overrides):
        made.append(Pods(tmp_path, *overrides, nodes=nodes))
        return made[0]

    yield make
    for process in made[0].running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_what_comes_home_of_two_pods_is_what_they_measured(pods):
    both = pods(2)
    ends = [both.end(p, i) for i, p in enumerate([both.start(0), both.start(1)])]
    assert [code for code, *_ in ends] == [0, 0]
    logs = [log for _, log, _, _ in ends]
    assert all(log.whole for log in logs)
    outcome = outcome_of(both.plan, both.directory / "home", logs, None)
    assert outcome.error is None
    assert {rank: result["node"] for rank, result in outcome.ranks.items()} == {
        0: "node-0",
        1: "node-1",
    }
    for rank in (0, 1):
        sent = both.directory / f"scratch-{rank}" / f"pieces-{rank}"
        assert (both.directory / "home" / sent.name).read_bytes() == sent.read_bytes()
    verdicts = [verdict for *_, verdict in ends]
    assert [verdict["status"] for verdict in verdicts] == ["ok", "ok"]
    consumed = sum(result["counts"]["bytes_consumed"] for result in outcome.ranks.values())
    assert sum(verdict["bytes_consumed"] for verdict in verdicts) == consumed > 0


def test_a_read_takes_at_most_80_bytes_of_log(pods):
    """docs/kubernetes.md: 8 MiB of log hold some 100,000 reads."""
    one = pods(1)
    _, log, out, _ = one.end(one.start(0), 0)
    pieces = (one.directory / "home" / "pieces-0").stat().st_size // PIECE_DTYPE.itemsize
    assert log.whole
    assert pieces >= 1000
    tables = sum(len(line) for line in out.splitlines() if '"event":"file"' in line)
    print(f"{tables / pieces:.1f} bytes of log a read")
    assert tables / pieces < 80


def read_until(process, words):
    """Read a pod's log up to a line with these words."""
    read = []
    for line in process.stdout:
        read.append(line)
        if words in line:
            return read
    raise AssertionError(f"ended without {words}: {''.join(read)}")


def test_a_pod_whose_peer_is_killed_says_so_and_keeps_its_tables(pods):
    both = pods(2, "workload.access.epochs=1000")
    first, second = both.start(0), both.start(1)
    early = read_until(first, '"phase":"measure"')
    second.kill()
    code, log, _, verdict = both.end(first, 0, early=early)
    assert code == 5
    assert verdict["error"]["class"] == "PeerLost"
    assert "rank 1 ended early" in verdict["error"]["problem"]
    assert log.whole


def test_a_pod_that_is_asked_to_end_sends_what_it_has(pods):
    one = pods(1, "workload.access.epochs=1000")
    process = one.start(0)
    early = read_until(process, '"phase":"measure"')
    process.send_signal(signal.SIGTERM)
    code, log, _, verdict = one.end(process, 0, early=early)
    assert code == 130
    assert verdict["status"] == "interrupted"
    assert {"rank-0.json", "steps-0", "pieces-0", "replay-0"} <= log.files


def test_another_plan_is_bad_input_that_no_second_try_would_help(pods):
    one = pods(1)
    process = one.start(0, BENCH_PLAN=str(one.directory / "none.json"))
    code, log, _, verdict = one.end(process, 0)
    assert code == BAD_INPUT_CODE
    assert (
        "none.json: cannot be read"
        in verdict["error"]["place"] + ": " + (verdict["error"]["problem"])
    )
    assert log.error["class"] == "UsageError"


def test_preparing_says_what_the_data_set_is(pods):
    one = pods(1)
    code, log, _, _ = one.end(one.start(0, "prepare"), 0)
    assert code == 0
    assert log.dataset["dataset"]["manifest_digest"] == one.plan.dataset.manifest_digest
