"""One rank: owns an accelerator, runs the phases of a repeat, leaves tables and counts behind.

Phases: start-up (ring, readers, device), cache (evict and probe, one rank per node), replay
(R0, R1), barrier, measure, collect. The measured phase's tables are spilled to files in the
scratch directory; `bench.agent.collect` turns them into the repeat's document.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import resource
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.agent.events import phase_event, progress_event, send
from bench.agent.hub import HubClient
from bench.agent.planning import plan_steps, repeat_seed
from bench.agent.replay import REPLAY_STEP_SECONDS, copy_rate, replay_steps
from bench.agent.source import object_source, open_source
from bench.dataset.manifest import Manifest
from bench.dataset.objects import load_manifest
from bench.device.base import Device
from bench.device.select import open_device
from bench.errors import BenchError, DatasetError, Interrupted
from bench.loader.phase import Limits, PhaseResult
from bench.loader.pipeline import Pipeline
from bench.loader.planner import PlannedStep, largest_batch_bytes
from bench.loader.pool import ReaderPool, SourceConfig, read_failure
from bench.loader.recorder import PieceRecorder, StepRecorder
from bench.loader.ring import Ring
from bench.loader.wire import Completion
from bench.measure.cgroup import throttled_seconds
from bench.measure.pagecache import evict, probe, warm
from bench.measure.process import ProcessMeter
from bench.spec.plan import Plan
from bench.storage.object.access import Access, open_access
from bench.storage.object.store import ObjectStore

__all__ = ["RankJob", "run_rank"]

READY_BARRIER, START_BARRIER = 1, 2

MAX_EVICTED_FILES = 200_000
"""Evicting a file takes some 5 us; beyond this many, O_DIRECT or the data set's size must do."""


@dataclass(frozen=True, slots=True)
class RankJob:
    """What the launcher tells a rank beside the plan.

    Attributes:
        rank: 0-based.
        local_rank: Within its node.
        repeat: 0-based.
        node: Name of the machine, for the result.
        scratch: Directory for tables and results.
        data_root: Directory that holds data sets; empty for simulated targets.
        align_bytes: O_DIRECT alignment there.
        hub_fd: Connected to the hub.
        control_fd: Hung up when the rank must stop.
        simulated_fd: Shared state of a simulated server; -1 for none.
        same_clock: The hub runs on this machine.
    """

    rank: int
    local_rank: int
    repeat: int
    node: str
    scratch: str
    data_root: str
    align_bytes: int
    hub_fd: int
    control_fd: int
    simulated_fd: int
    same_clock: bool = True


NUM_PROBES = 200
"""Pages probed before a repeat: 200 misses put the cached share below 1.5 % with 95 %
confidence."""


class _Clock:
    """Durations of the phases of a rank."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()
        self._phase = ""

    def enter(self, phase: str) -> None:
        now = time.perf_counter()
        if self._phase:
            self.seconds[self._phase] = now - self._since
        self._phase, self._since = phase, now
        if phase:
            send(phase_event(phase))


def open_manifest(
    plan: Plan, job: RankJob, access: Access | None = None
) -> tuple[Path | None, Manifest]:
    """Return the data set's directory (of files) and manifest, checked against the plan.

    Raises:
        DatasetError: It is another data set than the one planned for.
    """
    if plan.storage.simulated is not None:
        return None, Manifest.synthetic(plan.workload_name, plan.workload.dataset)
    directory = Path(job.data_root) / plan.dataset.directory if access is None else None
    if directory is not None:
        manifest = Manifest.load(directory)
    elif access is not None:
        manifest = load_manifest(ObjectStore(access), plan.dataset.directory)
    if manifest.digest != plan.dataset.manifest_digest:
        raise DatasetError(
            str(directory or plan.dataset.directory),
            "the manifest is not the one that the run was planned with",
            "do not change a data set under a run; run again",
        )
    return directory, manifest


def _open_access(plan: Plan) -> Access | None:
    target, io = plan.storage.object, plan.storage.io
    if target is None:
        return None
    return open_access(target, timeout_seconds=io.timeout_seconds, max_attempts=io.max_attempts)


def run_rank(plan: Plan, job: RankJob) -> None:
    """Run one repeat of one rank; results go to `<scratch>/rank-<r>.json` and tables beside it.

    Raises:
        BenchError: As the class says; partial tables stay in the scratch directory.
    """
    clock = _Clock()
    clock.enter("start-up")
    scratch = Path(job.scratch)
    access = _open_access(plan)
    directory, manifest = open_manifest(plan, job, access)
    with contextlib.ExitStack() as stack:
        hub = HubClient(socket.socket(fileno=job.hub_fd), rank=job.rank, same_clock=job.same_clock)
        stack.callback(hub.close)
        ring = Ring(plan.num_slots, plan.storage.io.block_bytes)
        if access is not None:
            objects = object_source(
                plan.storage,
                access,
                directory=plan.dataset.directory,
                manifest=manifest,
                seed=repeat_seed(plan, job.repeat) + job.rank,
            )
            stack.callback(objects.close)
            source = SourceConfig("object", objects.settings, objects.fds)
        else:
            source = open_source(
                plan.storage,
                directory=directory,
                manifest=manifest,
                align_bytes=job.align_bytes,
                simulated_fd=job.simulated_fd,
            )
        pool = ReaderPool(
            ring,
            source,
            num_processes=plan.settings.reader_processes,
            num_threads=plan.num_threads,
            decode_seconds_per_sample=(
                plan.workload.decode.seconds_per_sample
                if plan.workload.decode.kind == "emulated"
                else 0.0
            ),
        )
        stack.callback(pool.close)
        device = open_device(
            plan.settings.device,
            accelerator=plan.settings.accelerator,
            local_rank=job.local_rank,
        )
        stack.callback(device.close)
        device.register(ring.memory)
        rank = _Rank(plan, job, manifest, ring, pool, device, hub, clock, scratch)
        rank.run(directory)


class _Rank:
    """The phases, once everything is open."""

    def __init__(
        self,
        plan: Plan,
        job: RankJob,
        manifest: Manifest,
        ring: Ring,
        pool: ReaderPool,
        device: Device,
        hub: HubClient,
        clock: _Clock,
        scratch: Path,
    ) -> None:
        self.plan = plan
        self.job = job
        self.manifest = manifest
        self.ring = ring
        self.pool = pool
        self.device = device
        self.hub = hub
        self.clock = clock
        self.scratch = scratch
        self.gate = hub if plan.num_ranks > 1 and plan.settings.sync == "step" else None
        self.step_seconds = plan.step_seconds or 0.0
        self.batch_bytes = largest_batch_bytes(
            manifest.sample_stride_bytes,
            plan.workload.batch_size,
            block_bytes=plan.storage.io.block_bytes,
        )

    def run(self, directory: Path | None) -> None:
        """Run every phase and write the result."""
        result: dict[str, Any] = {"rank": self.job.rank, "node": self.job.node}
        self.clock.enter("cache")
        result["cache"] = self._prepare_cache(directory) if self.job.local_rank == 0 else None
        self.clock.enter("replay")
        timeout = self.plan.settings.barrier_timeout_seconds
        self.hub.barrier(READY_BARRIER, timeout_seconds=timeout)
        self._replay()
        result["h2d_bytes_per_second"] = copy_rate(self.device, self.ring)
        self.device.start(self.batch_bytes, self.step_seconds)
        before = self._meters()
        self._raise_if_stopped()
        rank, repeat = self.job.rank, self.job.repeat
        steps = plan_steps(self.plan, self.manifest, rank=rank, repeat=repeat)
        # The first batch is planned before the start: shuffling is no part of any wait.
        steps = itertools.chain(list(itertools.islice(steps, 1)), steps)
        self.clock.enter("measure")
        started_at = time.time()
        start_ns = self.hub.barrier(START_BARRIER, timeout_seconds=timeout)
        phase = self._measure(start_ns, steps)
        self.hub.leave()
        after = self._meters()
        self.clock.enter("collect")
        result |= {
            "started_at": started_at,
            "start_ns": start_ns,
            "end_ns": phase.end_ns,
            "interrupted": phase.interrupted,
            "counts": asdict(phase),
            **{name: _minus(after[name], before[name]) for name in after},
            "pss_bytes": self._pss_bytes(),
            "device": asdict(self.device.facts()),
        }
        self.clock.enter("")
        result["phases_seconds"] = self.clock.seconds
        (self.scratch / f"rank-{self.job.rank}.json").write_text(json.dumps(result))
        if phase.interrupted:
            raise Interrupted(f"rank {self.job.rank}", "stopped by the launcher")

    def _prepare_cache(self, directory: Path | None) -> dict[str, Any] | None:
        """Bring the client's page cache into the state asked for, and probe what is there."""
        if directory is None:
            return None
        names = [f"{directory}/{name.decode()}" for name in self.manifest.names[:MAX_EVICTED_FILES]]
        sizes = self.manifest.size_bytes[: len(names)].tolist()
        seed = self.plan.settings.seed + self.job.repeat
        try:
            if self.plan.settings.cache == "cold":
                evict(names, written_by="us")
            elif self.plan.settings.cache == "hot":
                warm(names)
            return asdict(probe(names, sizes, num_probes=NUM_PROBES, seed=seed))
        except OSError as error:
            raise DatasetError(
                str(error.filename or directory),
                f"cannot be opened ({error.strerror})",
                "run `bench prepare` to check the data set",
            ) from error

    def _meters(self) -> dict[str, Any]:
        """Read all counters of this rank and its readers."""
        readers = [ProcessMeter(pid) for pid in self.pool.pids]
        readings = [meter.read() for meter in readers]
        device_cpu = _device_cpu_seconds(self.device)
        own = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "cpu_seconds": time.process_time() - device_cpu + self.pool.cpu_seconds(),
            "device_cpu_seconds": device_cpu,
            "major_faults": own.ru_majflt + (_sum_or_none([r.major_faults for r in readings]) or 0),
            "kernel_read_bytes": _sum_or_none([r.read_bytes for r in readings]),
            "throttled_seconds": throttled_seconds(),
        }

    def _pss_bytes(self) -> dict[str, int | None]:
        sizes = {"rank": ProcessMeter.own().read().pss_bytes}
        for index, pid in enumerate(self.pool.pids):
            sizes[f"reader-{index}"] = ProcessMeter(pid).read().pss_bytes
        return sizes

    def _replay(self) -> None:
        step_seconds = min(self.step_seconds, REPLAY_STEP_SECONDS)
        self.device.start(self.batch_bytes, step_seconds)
        with (
            PieceRecorder(self.scratch / f"replay-pieces-{self.job.rank}") as pieces,
            StepRecorder(self.scratch / f"replay-{self.job.rank}", rank=self.job.rank) as steps,
        ):
            self._pipeline(pieces, steps).run(
                replay_steps(),
                start_ns=time.perf_counter_ns(),
                limits=Limits(control_fd=self.job.control_fd),
                progress=lambda _: None,
            )

    def _measure(self, start_ns: int, plan: Iterator[PlannedStep]) -> PhaseResult:
        limits = Limits(
            max_seconds=self.plan.settings.max_seconds,
            bytes_per_second=self.plan.rank_bytes_per_second_limit,
            drain_epochs=self.plan.workload.access.drain,
            control_fd=self.job.control_fd,
        )
        rank = self.job.rank
        with (
            PieceRecorder(self.scratch / f"pieces-{rank}") as pieces,
            StepRecorder(self.scratch / f"steps-{rank}", rank=rank) as steps,
        ):
            return self._pipeline(pieces, steps).run(
                plan,
                start_ns=start_ns,
                limits=limits,
                progress=lambda snapshot: send(progress_event(snapshot)),
            )

    def _pipeline(self, pieces: PieceRecorder, steps: StepRecorder) -> Pipeline:
        return Pipeline(
            ring=self.ring,
            pool=self.pool,
            device=self.device,
            pieces=pieces,
            steps=steps,
            fail=self._read_failure,
            gate=self.gate,
        )

    def _read_failure(self, completion: Completion) -> BenchError:
        name = self.manifest.names[completion.file].decode()
        size = int(self.manifest.size_bytes[completion.file])
        return read_failure(completion, f"{self.plan.dataset.directory}/{name}", size)

    def _raise_if_stopped(self) -> None:
        if select.select([self.job.control_fd], [], [], 0)[0]:
            raise Interrupted(f"rank {self.job.rank}", "stopped by the launcher")


def _device_cpu_seconds(device: Device) -> float:
    """Return the CPU that the device's emulation has used; a real one uses none."""
    meter = getattr(device, "cpu_seconds", None)
    return float(meter()) if meter is not None else 0.0


def _minus(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _sum_or_none(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
