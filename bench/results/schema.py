"""The run document: what one run found out, immutable, in base units.

A field that this version does not measure is null and its name stands in `not_measured`
with the reason; it is never 0. Ratios are 0 to 1. `repeats[].ranks[]` hold the same fields
for each rank as the repeat holds for all of them together.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "CAUSES",
    "SCHEMA_VERSION",
    "STATES",
    "Cache",
    "CacheTierState",
    "Ceilings",
    "Errors",
    "Guard",
    "Histogram",
    "Host",
    "Interval",
    "Latency",
    "PerStep",
    "RankResult",
    "Repeat",
    "Run",
    "Stall",
    "SyncRoot",
    "Throughput",
    "Tool",
]

SCHEMA_VERSION = 1

CAUSES = (
    "storage_open",
    "storage_first_byte",
    "storage_read",
    "ring_full",
    "rate_limit",
    "reader_idle",
    "decode",
    "client_cpu",
    "run_delay",
    "handoff",
    "h2d",
    "sync",
)
"""Who kept the accelerator waiting (docs/method.md, attribution), storage first."""

STATES = (
    "slot_wait",
    "reader_wait",
    "storage_open",
    "storage_first_byte",
    "storage_read",
    "client_cpu",
    "run_delay",
    "decode",
    "handoff",
    "h2d",
    "sync",
)
"""Where the batch's last piece was."""


class Document(BaseModel):
    """Base of all parts of a run document."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Tool(Document):
    """What measured."""

    version: str
    commit: str
    """Commit of the harness; "unknown" outside a checkout."""
    image_digest: str | None = None
    """Digest of the container image; None for a local run."""
    python: str


class Throughput(Document):
    """Rate of one repeat: bytes of consumed samples over the wall time of the measured phase."""

    bytes_per_second: float
    samples_per_second: float
    first_done_seconds: float
    """When the first rank had finished, from the common start."""
    last_done_seconds: float
    bytes_at_first_done: int
    """Bytes of all ranks when the first one had finished."""


class PerStep(Document):
    """Distribution of stall over steps, the first included, in seconds."""

    p50: float
    p95: float
    p99: float
    max: float


class SyncRoot(Document):
    """Who the others waited for in lock-step, and why that one was late."""

    rank: int
    """The rank that caused the most waiting."""
    causes: dict[str, float]
    """Seconds of waiting for others by the late rank's own cause."""


class Stall(Document):
    """Time the accelerator had nothing to do; None fields in unthrottled mode."""

    total_seconds: float
    """Sum over steps, the first included; over ranks for a repeat."""
    ratio: float
    """total_seconds / (wall time x ranks)."""
    steady_ratio: float
    """The same without the time to first batch, in stall and wall time."""
    noise_ratio: float
    """What the same estimator finds on the replay phase, where there is no stall."""
    floor_seconds: float
    """Launch overhead inside gaps, sum over steps; not stall."""
    time_to_first_batch_seconds: float
    """Largest of the ranks."""
    causes: dict[str, float]
    """Seconds by root cause (CAUSES); `sync` resolved to the late rank's cause."""
    states: dict[str, float]
    """Seconds by where the batch's last piece was (STATES); sums to total_seconds."""
    unattributed_seconds: float
    sync_root: SyncRoot | None = None
    if_removed: dict[str, float] | None = None
    """Stall ratio that would remain without a cause."""
    per_step: PerStep
    epoch_start_seconds: float | None = None
    """Stall at first steps of epochs after the first."""


class Histogram(Document):
    """Counts in logarithmic bins, mergeable by adding counts.

    Bin i holds latencies in [lowest * 2**(i / bins_per_octave), the next bin's edge).
    """

    lowest_seconds: float = 1e-6
    bins_per_octave: int = 8
    counts: dict[int, int]


class Latency(Document):
    """Duration of reads: from a reader thread taking a piece to its last byte, seconds."""

    p50: float
    p90: float
    p99: float
    max: float
    histogram: Histogram


class CacheTierState(Document):
    """What is known about one cache between the medium and us."""

    tier: str
    capacity_bytes: int | None
    state: Literal["cold-verified", "cold-requested", "warm", "unknown"]
    evidence: str


class Cache(Document):
    """Cold or warm: what was asked for, what the evidence says of the client's tier."""

    requested: Literal["cold", "hot", "as-is"]
    verdict: Literal["cold-verified", "cold-requested", "warm", "unknown"]
    tiers: list[CacheTierState]
    evidence: dict[str, Any]
    """Figures: file system, hit_ratio, probes, probe_hits, kernel_read_bytes, ..."""


class Ceilings(Document):
    """What the parts can do by themselves, bytes per second."""

    loader: float | None = None
    storage_yardstick: float | None = None
    storage_saturated: float | None = None
    h2d: float | None = None


class Host(Document):
    """Cost on the host during the measured phase, readers and ranks together."""

    cpu_seconds: float
    cpu_seconds_per_gb: float
    """CPU seconds of readers and ranks per 1e9 payload bytes, device emulation left out."""
    device_cpu_seconds: float
    """CPU of the emulated device's own copies."""
    cpu_utilization: float | None
    """Of the whole machine or cpu limit."""
    throttled_seconds: float | None
    """From cgroup cpu.stat; None where not readable."""
    memory_peak_bytes: int
    """Largest PSS sum of a rank and its readers, ring included."""
    memory_limit_bytes: int | None
    major_faults: int


class Errors(Document):
    """Trouble that did not stop the repeat."""

    reads_failed: int = 0
    retries: int = 0
    short_reads: int = 0
    fallback_reads: int = 0
    """O_DIRECT reads that had to go through a buffered descriptor."""
    slow_downs: int = 0
    """Retries that an object store asked for (429, 503, SlowDown)."""


class Guard(Document):
    """One condition of a believable measurement."""

    name: str
    status: Literal["pass", "warn", "fail", "not measured"]
    detail: str


class RankResult(Document):
    """One rank of one repeat."""

    rank: int
    node: str
    wall_seconds: float
    """Host clock, from the start to this rank's own last compute end."""
    steps: int
    samples: int
    bytes_read: int
    """Payload bytes that arrived in slots."""
    bytes_consumed: int
    """Payload bytes of the steps that ran."""
    bytes_transferred: int
    """What the storage moved, alignment included."""
    stall: Stall | None
    accelerator_utilization: float | None
    read_latency: Latency | None
    cpu_seconds: float
    pss_peak_bytes: dict[str, int]
    """PSS by process ("rank", "reader-0", ...), ring included where mapped and touched."""
    errors: Errors
    identity_error_ratio: float | None
    """|utilization + stall + floor - 1| against the host's wall clock."""


class Repeat(Document):
    """One measurement of the cell."""

    index: int
    status: Literal["ok", "invalid", "failed", "interrupted"]
    problem: str = ""
    """Why it is not ok."""
    started_at: str
    duration_seconds: float
    """Common start (barrier release) to the last rank's end."""
    bytes_read: int
    bytes_requested: int
    """Bytes that the plan asked for."""
    bytes_consumed: int
    bytes_prefetched: int
    """Read but never consumed: bytes_read - bytes_consumed."""
    bytes_transferred: int
    kernel_read_bytes: int | None
    """Sum of read_bytes in /proc/<reader>/io; None where not readable."""
    samples: int
    steps: int
    """Steps in lock-step; the largest count of any rank otherwise."""
    throughput: Throughput | None
    stall: Stall | None
    accelerator_utilization: float | None
    read_latency: Latency | None
    cache: Cache | None
    ceilings: Ceilings
    limiter: str | None = None
    host: Host | None
    errors: Errors
    guards: list[Guard]
    ranks: list[RankResult]
    ring_occupancy: list[float] | None = None
    """Share of time with k/10 of the slots holding data, k = 0..10: 0 storage-bound, 10 not."""
    phases_seconds: dict[str, float]
    """cache, start-up, replay, measure, collect."""


class Interval(Document):
    """Estimate over repeats with its 90 % two-sided interval; None for fewer than two."""

    estimate: float
    low: float | None
    high: float | None
    n: int


class Run(Document):
    """One run: all repeats of one cell."""

    schema_version: Literal[1] = 1
    id: str
    """Lower-case ULID."""
    created_at: str
    """UTC, ISO 8601."""
    tool: Tool
    division: Literal["certified", "exploratory"]
    status: Literal["ok", "invalid", "failed", "interrupted"]
    fingerprint: dict[str, Any]
    """What must match for two runs to be comparable, by theme; `fingerprint["hash"]`."""
    workload: dict[str, Any]
    """name and resolved spec."""
    storage: dict[str, Any]
    """name, resolved spec, facts (file system, mount options, device, free space)."""
    plan: dict[str, Any]
    """nodes, gpus_per_node, ranks, accelerator, step_seconds, device facts, mode, engine,
    threads, reader_processes, block_bytes, ring_bytes, sync, seed, digest, overrides."""
    dataset: dict[str, Any]
    """directory, format, files, samples, bytes, manifest digest."""
    repeats: list[Repeat]
    summary: dict[str, Interval]
    """throughput_bytes_per_second, stall_ratio, steady_stall_ratio,
    accelerator_utilization, time_to_first_batch_seconds."""
    not_measured: dict[str, str] = Field(default_factory=dict)
    """Field path -> why it is null."""
    sentence: str
    """What limits this run, in one plain sentence."""
    checksum: str = ""
    """sha256 of the document with this field empty; finds edits by hand."""
