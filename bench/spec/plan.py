"""The plan document: the only input of the agent, the same bytes locally and in a cluster.

A plan is a pure function of workload, target, overrides and seed. It names the data set by
manifest digest and never lists files, so it stays under `MAX_PLAN_BYTES` whatever the size
of the data set (a ConfigMap holds 1 MiB; half of a quarter of that leaves room for others).
"""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import Field

from bench.spec.cluster import ClusterSettings
from bench.spec.documents import Name, StorageSpec, Strict, WorkloadSpec
from bench.spec.quantities import Bytes, BytesPerSecond, Seconds

__all__ = ["MAX_PLAN_BYTES", "DatasetRef", "DeviceSettings", "Plan", "PlanSettings"]

MAX_PLAN_BYTES = 256 * 1024


class DeviceSettings(Strict):
    """How the accelerator is provided."""

    kind: Literal["auto", "emulated", "cuda"] = "auto"
    """auto takes a CUDA GPU where torch finds one, else emulates."""
    copy_mode: Literal["bytes", "none"] = Field(default="bytes", alias="copy")
    """Emulated device: bytes really moves them; none only paces, and the result says so."""
    link_bytes_per_second: BytesPerSecond | None = Field(default=None, gt=0)
    """Emulated device: pace of host-to-device copies; None for as fast as memory goes."""


class PlanSettings(Strict):
    """Settings of the run itself; `--set plan.NAME=VALUE` overrides any of them."""

    nodes: int = Field(default=1, gt=0, le=100_000)
    """Nodes that measure together."""
    gpus_per_node: int = Field(default=1, gt=0, le=256)
    """Ranks on each node."""
    repeats: int = Field(default=1, gt=0, le=1000)
    """Measurements of the cell; the unit of statistics."""
    accelerator: str = "h100"
    """Accelerator of the workload; "none" for the unthrottled mode."""
    sync: Literal["step", "none"] = "step"
    """step: ranks train in lock-step, as data-parallel training does."""
    reader_processes: int = Field(default=2, gt=0, le=256)
    """Reader processes of each rank; its threads are spread over them."""
    ring_bytes: Bytes = Field(default=256 * 2**20, ge=8192)
    """Size of the pinned ring of each rank."""
    cache: Literal["cold", "hot", "as-is"] = "cold"
    """State of the client's page cache that is asked for before each repeat."""
    seed: int = Field(default=1, ge=0, lt=2**63)
    """Mixed into the shuffle seed of each repeat."""
    max_steps: int | None = Field(default=None, gt=0, le=10**12)
    """Stop after so many steps (--steps)."""
    max_seconds: Seconds | None = Field(default=None, gt=0)
    """Stop after so much measured time (--duration)."""
    dataset_bytes: Bytes | None = Field(default=None, gt=0)
    """Scale the number of files to about this size (--dataset-size)."""
    bytes_per_second_limit: BytesPerSecond | None = Field(default=None, gt=0)
    """Guard for other people's production (--max-bytes-per-second): most bytes per second
    that all ranks together ask for; each has its share. Makes a run exploratory."""
    bytes_budget: Bytes | None = Field(default=None, gt=0)
    """Guard for other people's production: most bytes that all ranks and repeats together
    may read. A run that would read more is refused before it starts."""
    barrier_timeout_seconds: Seconds = Field(default=120.0, gt=0)
    """How long ranks wait for each other at the start."""
    device: DeviceSettings = DeviceSettings()
    """How the accelerator is provided."""
    cluster: ClusterSettings = ClusterSettings()
    """How pods are made where the run is one on Kubernetes."""


class DatasetRef(Strict):
    """The data set that the run reads."""

    directory: str
    """Name of the data set's directory under the target's root."""
    format: str
    num_files: int = Field(gt=0)
    num_samples: int = Field(gt=0)
    total_bytes: int = Field(gt=0)
    """Bytes of all files."""
    num_prefixes: int = Field(default=1, gt=0)
    """Directories, or key prefixes, that the files are spread over."""
    manifest_digest: str
    """sha256 of the manifest's rows; empty for simulated targets, which have no files."""


class Plan(Strict):
    """Everything that an agent needs to know."""

    schema_version: Literal[1] = 1
    run_id: str
    tool_version: str
    division: Literal["certified", "exploratory"]
    workload_name: Name
    workload: WorkloadSpec
    """Resolved: samples is the effective number."""
    storage_name: Name
    storage: StorageSpec
    """Resolved: io.threads is set."""
    settings: PlanSettings
    dataset: DatasetRef
    overrides: tuple[str, ...] = ()
    """The --set options as given, for the reader of a result."""

    def canonical_json(self) -> bytes:
        """Return the plan's one serialised form, which is hashed and shipped."""
        return self.model_dump_json(by_alias=True, exclude_none=False).encode() + b"\n"

    def digest(self) -> str:
        """Return the sha256 of `canonical_json` in hexadecimal."""
        return hashlib.sha256(self.canonical_json()).hexdigest()

    @property
    def num_ranks(self) -> int:
        """Number of accelerators of the run."""
        return self.settings.nodes * self.settings.gpus_per_node

    @property
    def step_seconds(self) -> float | None:
        """Step time of the chosen accelerator; None in unthrottled mode."""
        if self.settings.accelerator == "none":
            return None
        return self.workload.accelerators[self.settings.accelerator].step_seconds

    @property
    def num_threads(self) -> int:
        """Concurrent reads of each rank."""
        return self.storage.io.threads or self.workload.reader_threads

    @property
    def rank_bytes_per_second_limit(self) -> float | None:
        """Share of each rank in bytes_per_second_limit; None for no limit."""
        limit = self.settings.bytes_per_second_limit
        return None if limit is None else limit / self.num_ranks

    @property
    def num_slots(self) -> int:
        """Slots of each rank's ring."""
        return self.settings.ring_bytes // self.storage.io.block_bytes
