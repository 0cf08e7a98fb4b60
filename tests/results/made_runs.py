"""Made-up runs: a small pipeline computed in closed form, with documents and tables that agree.

Pieces arrive at a constant rate with seeded jitter; a step starts when its batch is there and
the step before has ended. Nothing of the harness is used, only its table layouts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.analysis.series import RankTables
from bench.analysis.summary import sentence, summarize
from bench.loader.records import PIECE_DTYPE, STEP_DTYPE
from bench.results import schema
from bench.results.ids import new_id
from bench.results.schema import CAUSES, STATES
from bench.results.store import RunKey, Store

Table = npt.NDArray[Any]
MIB = 2**20
NOW_NS = 1_790_000_000 * 10**9


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a made-up run looks like."""

    workload: str = "unet3d"
    target: str = "local-dir"
    accelerator: str = "h100"
    step_seconds: float = 0.323
    bytes_per_second: float = 1.9e9
    batch_bytes: int = 960 * 10**6
    num_steps: int = 60
    pieces_per_step: int = 8
    num_ranks: int = 1
    first_seconds: float = 0.2
    mix: dict[str, float] = field(
        default_factory=lambda: {"storage_read": 0.83, "ring_full": 0.09, "client_cpu": 0.06}
    )
    statuses: tuple[str, ...] = ("ok", "ok", "ok")
    division: str = "certified"
    requested: str = "cold"
    verdict: str = "cold-verified"
    mode: str = "direct"
    guards: tuple[tuple[str, str, str], ...] = ()
    seed: int = 1
    id_number: int = 1


@dataclass(frozen=True)
class MadeTables:
    """Tables of one rank of one repeat, as recorded."""

    steps: dict[str, Table]
    pieces: Table
    start_ns: int


@dataclass(frozen=True)
class MadeRun:
    """A document with its tables by (repeat, rank)."""

    run: schema.Run
    tables: dict[tuple[int, int], MadeTables]


def _tables(shape: Shape, rng: np.random.Generator) -> MadeTables:
    start_ns = 5_000_000_000
    count, per_step = shape.num_steps, shape.pieces_per_step
    size = shape.batch_bytes // per_step
    gaps = size / shape.bytes_per_second * rng.gamma(8, 1 / 8, count * per_step)
    ends = start_ns + np.rint(1e9 * (shape.first_seconds + np.cumsum(gaps))).astype(np.int64)
    latency = np.rint(1e9 * size / shape.bytes_per_second * 4 * rng.lognormal(0, 0.4, len(ends)))
    pieces = np.zeros(len(ends), PIECE_DTYPE)
    pieces["piece"] = np.arange(len(ends))
    pieces["step"] = pieces["piece"] // per_step
    pieces["slot"] = pieces["piece"] % 64
    pieces["previous"] = np.maximum(-1, pieces["piece"] - 64)
    pieces["num_extents"] = 1
    pieces["payload_bytes"] = pieces["transferred_bytes"] = size
    pieces["read_end"] = ends
    pieces["start"] = pieces["grant"] = ends - latency.astype(np.int64)
    for delay, name in enumerate(
        ("ready", "taken", "copy_queued", "h2d_start", "h2d_end", "freed")
    ):
        pieces[name] = ends + 10_000 * (delay + 1)
    pieces["cpu_ns"] = 300_000
    steps = np.zeros(count, STEP_DTYPE)
    steps["step"] = np.arange(count)
    steps["num_samples"] = 7
    steps["payload_bytes"] = size * per_step
    steps["first_piece"] = steps["step"] * per_step
    steps["num_pieces"] = per_step
    ready = pieces["h2d_end"][per_step - 1 :: per_step]
    step_ns, previous = round(shape.step_seconds * 1e9), start_ns
    for i in range(count):
        steps["compute_start"][i] = max(int(ready[i]), previous + 20_000)
        previous = steps["compute_end"][i] = steps["compute_start"][i] + step_ns
    steps["own_ready"] = steps["released"] = steps["enqueued"] = ready
    columns: dict[str, Table] = {n: np.ascontiguousarray(steps[n]) for n in steps.dtype.names}
    if shape.accelerator != "none":
        columns |= _accounts(shape, steps, start_ns, rng)
    return MadeTables(columns, pieces, start_ns)


def _accounts(
    shape: Shape, steps: Table, start_ns: int, rng: np.random.Generator
) -> dict[str, Table]:
    previous = np.concatenate(([start_ns], steps["compute_end"][:-1]))
    gap = steps["compute_start"] - previous
    floor = np.minimum(gap, 20_000)
    stall = gap - floor
    columns = {"gap_ns": gap, "floor_ns": floor, "stall_ns": stall}
    columns |= {f"state_{name}_ns": np.zeros_like(stall) for name in STATES}
    columns["state_storage_read_ns"] = stall.copy()
    left = stall.copy()
    causes = np.zeros((len(stall), len(CAUSES) + 1), np.int64)
    for name, share in shape.mix.items():
        wobble = share * rng.uniform(0.7, 1.15, len(stall))
        amount = np.minimum(left, (stall * wobble).astype(np.int64))
        causes[:, CAUSES.index(name)] = amount
        left = left - amount
    causes[:, CAUSES.index(next(iter(shape.mix)))] += left - left // 500
    causes[:, -1] = left // 500
    for index, name in enumerate(CAUSES):
        columns[f"cause_{name}_ns"] = np.ascontiguousarray(causes[:, index])
    columns["unattributed_ns"] = causes[:, -1].copy()
    largest = causes.argmax(axis=1).astype(np.int8)
    largest[stall == 0] = -1
    columns["cause"] = largest
    return columns


def _stall(tables: list[MadeTables], wall: float) -> schema.Stall:
    joined = {n: np.concatenate([t.steps[n] for t in tables]) for n in tables[0].steps}
    stall = joined["stall_ns"] / 1e9
    first = max(float(t.steps["stall_ns"][0]) for t in tables) / 1e9
    total, ranks = float(stall.sum()), len(tables)
    firsts = sum(float(t.steps["stall_ns"][0]) for t in tables) / 1e9
    return schema.Stall(
        total_seconds=total,
        ratio=total / (wall * ranks),
        steady_ratio=(total - firsts) / (wall * ranks - firsts),
        noise_ratio=0.0004,
        floor_seconds=float(joined["floor_ns"].sum()) / 1e9,
        time_to_first_batch_seconds=first,
        causes={name: float(joined[f"cause_{name}_ns"].sum()) / 1e9 for name in CAUSES},
        states={name: float(joined[f"state_{name}_ns"].sum()) / 1e9 for name in STATES},
        unattributed_seconds=float(joined["unattributed_ns"].sum()) / 1e9,
        per_step=schema.PerStep(
            p50=float(np.quantile(stall, 0.5)),
            p95=float(np.quantile(stall, 0.95)),
            p99=float(np.quantile(stall, 0.99)),
            max=float(stall.max()),
        ),
    )


def _latency(tables: list[MadeTables]) -> schema.Latency:
    seconds = np.concatenate([t.pieces["read_end"] - t.pieces["start"] for t in tables]) / 1e9
    bins, counts = np.unique(np.floor(8 * np.log2(seconds / 1e-6)).astype(int), return_counts=True)
    return schema.Latency(
        p50=float(np.quantile(seconds, 0.5)),
        p90=float(np.quantile(seconds, 0.9)),
        p99=float(np.quantile(seconds, 0.99)),
        max=float(seconds.max()),
        histogram=schema.Histogram(counts=dict(zip(bins.tolist(), counts.tolist(), strict=True))),
    )


def _wall(table: MadeTables) -> float:
    return float(table.steps["compute_end"][-1] - table.start_ns) / 1e9


def _rank(shape: Shape, rank: int, table: MadeTables) -> schema.RankResult:
    wall, paced = _wall(table), shape.accelerator != "none"
    payload = int(table.pieces["payload_bytes"].sum())
    return schema.RankResult(
        rank=rank,
        node="node-a",
        wall_seconds=wall,
        steps=shape.num_steps,
        samples=7 * shape.num_steps,
        bytes_read=payload,
        bytes_consumed=payload,
        bytes_transferred=payload,
        stall=_stall([table], wall) if paced else None,
        accelerator_utilization=shape.num_steps * shape.step_seconds / wall if paced else None,
        read_latency=_latency([table]),
        cpu_seconds=1.2,
        pss_peak_bytes={"rank": 180 * MIB, "reader-0": 60 * MIB, "reader-1": 61 * MIB},
        errors=schema.Errors(),
        identity_error_ratio=0.0001 if paced else None,
    )


GUARDS = (
    ("bytes_cross_check", "pass", "57600000000 bytes arrived, as planned"),
    ("errors", "pass", "none"),
    ("cache", "pass", "cold asked for, cold-verified: every byte came from the device"),
    ("short", "pass", "60 steps and 214.6 ring fills (at least 30 and 20)"),
    ("memory_headroom", "pass", "93% of 8589934592 bytes stayed free (at least 10%)"),
    ("identity", "pass", "utilization + stall + floor is off the host's wall time by 0.010%"),
    ("emulation_fidelity", "pass", "late wake-ups delayed batches for 0.020% of the time"),
    ("stationarity", "not measured", "not in this version"),
)


def _repeat(shape: Shape, index: int, status: str, tables: list[MadeTables]) -> schema.Repeat:
    wall, paced = max(map(_wall, tables)), shape.accelerator != "none"
    ranks = [_rank(shape, rank, table) for rank, table in enumerate(tables)]
    payload = sum(rank.bytes_read for rank in ranks)
    changed = {name: (name, state, detail) for name, state, detail in shape.guards}
    guards = [changed.pop(name, (name, state, detail)) for name, state, detail in GUARDS]
    return schema.Repeat(
        index=index,
        status=status,
        problem="" if status == "ok" else f"made-up reason for {status}",
        started_at=f"2026-09-21T15:0{index % 10}:00.000+00:00",
        duration_seconds=wall,
        bytes_read=payload,
        bytes_requested=payload,
        bytes_consumed=payload,
        bytes_prefetched=0,
        bytes_transferred=payload,
        kernel_read_bytes=payload,
        samples=sum(rank.samples for rank in ranks),
        steps=shape.num_steps,
        throughput=schema.Throughput(
            bytes_per_second=payload / wall,
            samples_per_second=7 * shape.num_steps * len(ranks) / wall,
            first_done_seconds=min(map(_wall, tables)),
            last_done_seconds=wall,
            bytes_at_first_done=payload,
        ),
        stall=_stall(tables, wall) if paced else None,
        accelerator_utilization=shape.num_steps * shape.step_seconds / wall if paced else None,
        read_latency=_latency(tables),
        cache=schema.Cache(
            requested=shape.requested,
            verdict=shape.verdict,
            tiers=[
                schema.CacheTierState(
                    tier="client page cache",
                    capacity_bytes=8 * 2**30,
                    state=shape.verdict,
                    evidence="every byte came from the device",
                )
            ],
            evidence={"file_system": "ext4", "hit_ratio": 0.0, "probes": 256, "probe_hits": 0},
        ),
        ceilings=schema.Ceilings(h2d=11.2e9),
        host=schema.Host(
            cpu_seconds=6.3,
            cpu_seconds_per_gb=0.109,
            device_cpu_seconds=4.0,
            cpu_utilization=0.21,
            throttled_seconds=0.0,
            memory_peak_bytes=402 * MIB,
            memory_limit_bytes=8 * 2**30,
            major_faults=0,
        ),
        errors=schema.Errors(),
        guards=[
            schema.Guard(name=n, status=s, detail=d) for n, s, d in (*guards, *changed.values())
        ],
        ranks=ranks,
        ring_occupancy=[0.71, 0.1, 0.06, 0.04, 0.03, 0.02, 0.01, 0.01, 0.01, 0.005, 0.005],
        phases_seconds={"start-up": 1.1, "cache": 0.4, "replay": 1.0, "measure": wall},
    )


def _empty(index: int) -> schema.Repeat:
    """Return a repeat that never came to measure."""
    return schema.Repeat(
        index=index,
        status="failed",
        problem="rank 0 (pid 4711): was killed by SIGKILL",
        started_at="2026-09-21T15:00:00.000+00:00",
        duration_seconds=0.0,
        bytes_read=0,
        bytes_requested=0,
        bytes_consumed=0,
        bytes_prefetched=0,
        bytes_transferred=0,
        kernel_read_bytes=None,
        samples=0,
        steps=0,
        throughput=None,
        stall=None,
        accelerator_utilization=None,
        read_latency=None,
        cache=None,
        ceilings=schema.Ceilings(),
        host=None,
        errors=schema.Errors(),
        guards=[],
        ranks=[],
        phases_seconds={},
    )


def make_run(**changes: Any) -> MadeRun:
    """Return a made-up run of a `Shape` with these changes."""
    shape = Shape(**changes)
    rng = np.random.default_rng(shape.seed)
    tables: dict[tuple[int, int], MadeTables] = {}
    repeats = []
    for index, status in enumerate(shape.statuses):
        if status == "failed":
            repeats.append(_empty(index))
            continue
        made = [_tables(shape, rng) for _ in range(shape.num_ranks)]
        tables |= {(index, rank): table for rank, table in enumerate(made)}
        repeats.append(_repeat(shape, index, status, made))
    paced = shape.accelerator != "none"
    plan = {
        "nodes": 1,
        "gpus_per_node": shape.num_ranks,
        "ranks": shape.num_ranks,
        "accelerator": shape.accelerator,
        "step_seconds": shape.step_seconds if paced else None,
        "device": {"kind": "emulated", "name": shape.accelerator, "copy": "bytes"},
        "mode": shape.mode,
        "engine": "posix",
        "threads": 16,
        "reader_processes": 2,
        "block_bytes": 4 * MIB,
        "ring_bytes": 256 * MIB,
        "repeats": len(repeats),
        "sync": "step",
        "seed": 1,
        "digest": "d" * 64,
        "overrides": [],
    }
    whole = [r for r in repeats if r.status == "ok"]
    run = schema.Run(
        id=new_id(NOW_NS + shape.id_number * 10**9, random=bytes([shape.id_number % 256] * 10)),
        created_at="2026-09-21T15:00:00+00:00",
        tool=schema.Tool(version="0.1.0", commit="a" * 40, python="3.11.7"),
        division=shape.division,
        status="ok" if whole else next(iter(shape.statuses), "interrupted"),
        fingerprint={"workload": {"name": shape.workload}, "hash": "f" * 64},
        workload={"name": shape.workload, "batch_size": 7, "dataset": {"format": "npz"}},
        storage={
            "name": shape.target,
            "directory": {"path": "/data"},
            "facts": {"file_system": "ext4", "mount_options": ["rw", "relatime"]},
        },
        plan=plan,
        dataset={
            "directory": f"bench-{shape.workload}-0123456789ab",
            "format": "npz",
            "files": 168,
            "samples": 168,
            "bytes": 24_600_000_000,
            "manifest_digest": "e" * 64,
        },
        repeats=repeats,
        summary=summarize(repeats),
        not_measured={"repeats[].limiter": "ceilings are not compared in this version"},
        sentence=sentence(repeats, plan=plan),
    )
    return MadeRun(run, tables)


def put_in(store: Store, made: MadeRun) -> RunKey:
    """Store a made-up run with its tables, as a launcher does."""
    key = store.key(made.run)
    for (repeat, rank), table in made.tables.items():
        store.write_tables(
            key,
            repeat=repeat,
            rank=rank,
            steps=table.steps,
            pieces=table.pieces,
            start_ns=table.start_ns,
        )
    store.write_run(made.run)
    return key


def tables_in(store: Store, key: RunKey, made: MadeRun) -> list[RankTables]:
    """Return the stored tables of a made-up run."""
    return [
        RankTables(
            repeat,
            rank,
            store.read_steps(key, repeat=repeat, rank=rank),
            store.read_pieces(key, repeat=repeat, rank=rank),
        )
        for repeat, rank in made.tables
    ]
