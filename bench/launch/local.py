"""Run the ranks of one repeat as processes of this machine.

The launcher's death ends everything: ranks have it as their parent-death signal and watch
the control pipe that it holds, readers have the rank as theirs.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from bench import errors
from bench.agent.hub import Hub
from bench.agent.rank import START_BARRIER, RankJob
from bench.errors import BenchError, InfrastructureError
from bench.spec.plan import Plan
from bench.storage.simulated import make_server_state

__all__ = ["LocalSite", "RepeatOutcome", "run_repeat"]

STOP_TIMEOUT_SECONDS = 15.0
"""Time for ranks to end by themselves before they are killed: a step or two of device time."""

OnEvent = Callable[[int, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class LocalSite:
    """Where things are on this machine.

    Attributes:
        data_root: Directory that holds data sets; empty for simulated targets.
        align_bytes: O_DIRECT alignment there.
    """

    data_root: str
    align_bytes: int


@dataclass(slots=True)
class RepeatOutcome:
    """How the processes of a repeat ended.

    Attributes:
        error: The first failure; None where every rank ended well.
        interrupted: The user stopped it.
        ranks: Results of the ranks that left one, by rank.
    """

    error: BenchError | None = None
    interrupted: bool = False
    ranks: dict[int, dict[str, Any]] = field(default_factory=dict)


class _RankProcess:
    def __init__(self, rank: int, process: subprocess.Popen[bytes], stderr: BinaryIO) -> None:
        self.rank = rank
        self.process = process
        self.stderr = stderr
        self.rest = b""
        self.error: BenchError | None = None
        self.running = True

    def lines(self) -> list[dict[str, Any]] | None:
        """Return events that have arrived; None at the end of the stream."""
        stream = self.process.stdout
        data = os.read(stream.fileno(), 1 << 16) if stream is not None else b""
        if not data:
            return None
        *whole, self.rest = (self.rest + data).split(b"\n")
        return [json.loads(line) for line in whole]

    def conclude(self) -> BenchError | None:
        """Wait for the end; return what went wrong."""
        code = self.process.wait()
        self.running = False
        if self.error is not None or code == 0:
            return self.error
        self.stderr.seek(0)
        said = self.stderr.read().decode(errors="replace").strip().splitlines()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"status {code}"
        return InfrastructureError(
            f"rank {self.rank} (pid {self.process.pid})",
            how + (f", saying {said[-1]!r}" if said else ""),
            "see the kernel log for an out-of-memory kill, lower plan.ring_bytes"
            if code == -signal.SIGKILL
            else "run again; if it repeats, report it with the message above",
        )


def _rebuild(event: dict[str, Any]) -> BenchError:
    kind = getattr(errors, event["class"], InfrastructureError)
    if not issubclass(kind, BenchError) or kind is errors.DocumentError:
        kind = InfrastructureError
    return kind(event["place"], event["problem"], event["remedy"])


def run_repeat(
    plan: Plan, *, repeat: int, site: LocalSite, scratch: Path, on_event: OnEvent
) -> RepeatOutcome:
    """Run one repeat and wait for all of its processes.

    Args:
        plan: The plan document, written to the scratch directory byte for byte.
        repeat: 0-based.
        site: Where the data is.
        scratch: Empty directory for tables and results.
        on_event: Called with (rank, event) as events arrive.

    Returns:
        How it ended. Failures of ranks are returned, not raised, so that what was measured
        can be kept. No process is left.
    """
    outcome = RepeatOutcome()
    with contextlib.ExitStack() as stack:
        control_read, control_write = os.pipe2(os.O_CLOEXEC)
        stop = _Once(lambda: os.close(control_write))
        stack.callback(stop)
        processes: list[_RankProcess] = []
        stack.callback(_end_all, processes, stop)
        hub = _start(plan, repeat, site, scratch, control_read, processes)
        os.close(control_read)
        try:
            _follow(processes, outcome, stop, on_event, hub)
        except KeyboardInterrupt:
            outcome.interrupted = True
            stop()
            with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C: kill at once
                _follow(processes, outcome, stop, on_event, hub)
    if outcome.interrupted:
        outcome.error = None
    for rank in range(plan.num_ranks):
        with contextlib.suppress(FileNotFoundError):
            outcome.ranks[rank] = json.loads((scratch / f"rank-{rank}.json").read_text())
    return outcome


class _Once:
    """Call something the first time only."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action: Callable[[], None] | None = action
        self.since: float | None = None

    def __call__(self) -> None:
        if self._action is not None:
            self._action()
            self._action = None
            self.since = time.monotonic()


def _start(
    plan: Plan,
    repeat: int,
    site: LocalSite,
    scratch: Path,
    control_read: int,
    processes: list[_RankProcess],
) -> Hub:
    plan_file = scratch / "plan.json"
    plan_file.write_bytes(plan.canonical_json())
    simulated_fd = make_server_state() if plan.storage.simulated is not None else -1
    pairs = [socket.socketpair() for _ in range(plan.num_ranks)]
    environment = dict(os.environ)
    parent = str(Path(__file__).resolve().parents[2])
    inherited = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = f"{parent}{os.pathsep}{inherited}" if inherited else parent
    for rank, (_, theirs) in enumerate(pairs):
        job = RankJob(
            rank=rank,
            local_rank=rank % plan.settings.gpus_per_node,
            repeat=repeat,
            scratch=str(scratch),
            data_root=site.data_root,
            align_bytes=site.align_bytes,
            hub_fd=theirs.fileno(),
            control_fd=control_read,
            simulated_fd=simulated_fd,
        )
        job_file = scratch / f"job-{rank}.json"
        job_file.write_text(json.dumps(asdict(job)))
        stderr = (scratch / f"stderr-{rank}").open("w+b")
        fds = (job.hub_fd, control_read) + ((simulated_fd,) if simulated_fd >= 0 else ())
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.agent", str(plan_file), str(job_file), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            pass_fds=fds,
            env=environment,
            process_group=0,  # a terminal's Ctrl-C reaches the launcher only
        )
        processes.append(_RankProcess(rank, process, stderr))
        theirs.close()
    if simulated_fd >= 0:
        os.close(simulated_fd)
    hub = Hub([ours for ours, _ in pairs])
    hub.start()
    return hub


def _follow(
    processes: list[_RankProcess],
    outcome: RepeatOutcome,
    stop: _Once,
    on_event: OnEvent,
    hub: Hub,
) -> None:
    """Read events until every rank has ended; stop the others when one fails."""
    with selectors.DefaultSelector() as selector:
        for process in processes:
            if process.running and process.process.stdout is not None:
                selector.register(process.process.stdout, selectors.EVENT_READ, process)
        while selector.get_map():
            for key, _ in selector.select(timeout=0.5):
                process = key.data
                events = process.lines()
                if events is None:
                    selector.unregister(key.fileobj)
                    _note_end(process, outcome, stop, hub)
                    continue
                for event in events:
                    if event["event"] == "error":
                        process.error = _rebuild(event)
                    else:
                        on_event(process.rank, event)
            if stop.since is not None and time.monotonic() - stop.since > STOP_TIMEOUT_SECONDS:
                return  # the caller kills what is left


def _note_end(process: _RankProcess, outcome: RepeatOutcome, stop: _Once, hub: Hub) -> None:
    error = process.conclude()
    if error is None:
        return
    stopped_by_us = isinstance(error, errors.Interrupted) and stop.since is not None
    if outcome.error is None and not stopped_by_us:
        missing = hub.missing(START_BARRIER)
        if error.place == "start barrier" and missing:
            error = InfrastructureError(
                error.place, f"{error.problem}: missing ranks {missing}", error.remedy
            )
        outcome.error = error
    stop()


def _end_all(processes: list[_RankProcess], stop: _Once) -> None:
    """Leave no process and no descriptor behind, whatever happened before."""
    stop()
    for process in processes:
        if process.running:
            process.process.kill()
            process.process.wait()
        if process.process.stdout is not None:
            process.process.stdout.close()
        process.stderr.close()
