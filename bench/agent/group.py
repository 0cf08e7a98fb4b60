"""The ranks of one node, as processes of this machine.

The death of the process that starts them ends everything: ranks have it as their parent-death
signal and watch the control pipe that it holds, readers have the rank as theirs.
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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from bench import errors
from bench.agent.rank import RankJob
from bench.agent.site import LocalSite
from bench.errors import BenchError, InfrastructureError, PeerLost
from bench.spec.plan import Plan
from bench.storage.simulated import make_server_state

__all__ = ["RankGroup", "RepeatOutcome", "rebuild_error", "run_ranks", "termination_as_interrupt"]

STOP_TIMEOUT_SECONDS = 15.0
"""Time for ranks to end by themselves before they are killed: a step or two of device time."""

OnEvent = Callable[[int, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class RankGroup:
    """Which ranks a node runs, and how they meet the others.

    Attributes:
        node: Name of the machine, for results.
        ranks: Consecutive rank numbers.
        hubs: Connected to the hub, by rank; each becomes the rank's own.
        same_clock: The hub runs on this machine.
        missing: Returns the ranks that have not come to the start; empty where the hub is
            elsewhere.
    """

    node: str
    ranks: range
    hubs: Mapping[int, socket.socket]
    same_clock: bool
    missing: Callable[[], list[int]]


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


def rebuild_error(event: Mapping[str, Any]) -> BenchError:
    """Return the error that another process told of (`bench.agent.events.error_event`)."""
    kind = getattr(errors, event["class"], InfrastructureError)
    if not issubclass(kind, BenchError) or kind is errors.DocumentError:
        kind = InfrastructureError
    return kind(event["place"], event["problem"], event["remedy"])


@contextlib.contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP like Ctrl-C, so that they clean up as well."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {s: signal.signal(s, interrupt) for s in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_ranks(
    plan: Plan,
    *,
    group: RankGroup,
    repeat: int,
    site: LocalSite,
    scratch: Path,
    on_event: OnEvent,
) -> RepeatOutcome:
    """Run this node's part of one repeat and wait for all of its processes.

    Args:
        plan: The plan document, written to the scratch directory byte for byte.
        group: Ranks of this node.
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
        _start(plan, group, repeat, site, scratch, control_read, processes)
        os.close(control_read)
        try:
            _follow(processes, outcome, stop, on_event, group)
        except KeyboardInterrupt:
            outcome.interrupted = True
            stop()
            with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C: kill at once
                _follow(processes, outcome, stop, on_event, group)
    if outcome.interrupted:
        outcome.error = None
    for rank in group.ranks:
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
    group: RankGroup,
    repeat: int,
    site: LocalSite,
    scratch: Path,
    control_read: int,
    processes: list[_RankProcess],
) -> None:
    plan_file = scratch / "plan.json"
    plan_file.write_bytes(plan.canonical_json())
    simulated_fd = make_server_state() if plan.storage.simulated is not None else -1
    environment = dict(os.environ)
    parent = str(Path(__file__).resolve().parents[2])
    inherited = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = f"{parent}{os.pathsep}{inherited}" if inherited else parent
    for local_rank, rank in enumerate(group.ranks):
        theirs = group.hubs[rank]
        job = RankJob(
            rank=rank,
            local_rank=local_rank,
            repeat=repeat,
            node=group.node,
            scratch=str(scratch),
            data_root=site.data_root,
            align_bytes=site.align_bytes,
            hub_fd=theirs.fileno(),
            control_fd=control_read,
            simulated_fd=simulated_fd,
            same_clock=group.same_clock,
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


def _follow(
    processes: list[_RankProcess],
    outcome: RepeatOutcome,
    stop: _Once,
    on_event: OnEvent,
    group: RankGroup,
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
                    _note_end(process, outcome, stop, group)
                    continue
                for event in events:
                    if event["event"] == "error":
                        process.error = rebuild_error(event)
                    else:
                        on_event(process.rank, event)
            if stop.since is not None and time.monotonic() - stop.since > STOP_TIMEOUT_SECONDS:
                return  # the caller kills what is left


def _note_end(process: _RankProcess, outcome: RepeatOutcome, stop: _Once, group: RankGroup) -> None:
    error = process.conclude()
    if error is None:
        return
    stopped_by_us = isinstance(error, errors.Interrupted) and stop.since is not None
    # A rank that only lost its peer says less than the peer does.
    first = outcome.error is None or isinstance(outcome.error, PeerLost)
    if first and not stopped_by_us:
        missing = group.missing()
        if error.place == "start barrier" and missing and not isinstance(error, PeerLost):
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
