"""Made-up runs of chosen figures for comparisons, cheap enough to make a thousand of."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from made_runs import make_run

from bench.analysis.comparison.compare import compare
from bench.analysis.comparison.document import Comparison, Margins, Parameters
from bench.analysis.intervals import summarize
from bench.results.document import document_text, seal
from bench.results.gather import Gathered, GivenRun
from bench.results.ids import new_id
from bench.results.schema import Repeat, Run, Tool

FIRST = datetime(2026, 9, 24, 9, 0, tzinfo=UTC)
NOW = datetime(2026, 10, 1, 12, 0, tzinfo=UTC)
TOOL = Tool(version="0.1.0", commit="c" * 40, python="3.11.7")
STALL = 0.25

LOADER = {
    "engine": "posix",
    "mode": "direct",
    "block_bytes": 4194304,
    "threads": 16,
    "reader_processes": 2,
    "ring_bytes": 268435456,
    "cache": "cold",
    "sync": "step",
}


@functools.cache
def template() -> Run:
    guards = (("stationarity", "pass", "made up"), ("short", "pass", "made up"))
    return make_run(statuses=("ok",), guards=guards).run


def prints(**changes: Any) -> dict[str, Any]:
    """Return a fingerprint; `changes` are dotted paths with __ for the dots."""
    found: dict[str, Any] = {
        "workload": {"name": "unet3d", "batch_size": 7, "division": "certified"},
        "dataset": {"manifest_digest": "e" * 64, "samples": 168},
        "node": {"cpu_model": "made up", "num_cpus": 64},
        "device": {"kind": "emulated", "name": "h100"},
        "kernel": {"release": "6.8.0-40"},
        "storage": {"name": "ceph-a", "facts": {"file_system": "ext4"}},
        "loader": dict(LOADER),
        "tool": {"version": "0.1.0", "image_digest": "sha256:" + "b" * 64},
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        part = found
        for name in parents:
            part = part.setdefault(name, {})
        part[last] = value
    text = json.dumps(found, sort_keys=True)
    return found | {"hash": hashlib.sha256(text.encode()).hexdigest()}


def repeat(
    index: int, rate: float | None, stall: float | None, start: datetime, **more: Any
) -> Repeat:
    first = template().repeats[0]
    assert first.stall is not None
    assert first.throughput is not None
    found = None
    if stall is not None:
        changed = {"ratio": stall, "steady_ratio": stall, "noise_ratio": 0.0001}
        found = first.stall.model_copy(update=changed)
    seconds = 400.0
    speed = None
    if rate is not None:
        speed = first.throughput.model_copy(update={"bytes_per_second": rate})
    return first.model_copy(
        update={
            "index": index,
            "started_at": start.isoformat(),
            "duration_seconds": seconds,
            "bytes_consumed": int((rate or 0.0) * seconds) if np.isfinite(rate or 0.0) else 1,
            "stall": found,
            "throughput": speed,
        }
        | more
    )


def made(
    rates: Sequence[float | None] = (),
    *,
    stalls: Sequence[float | None] | None = None,
    number: int = 1,
    start: datetime = FIRST,
    step: timedelta = timedelta(seconds=500),
    workload: str = "unet3d",
    target: str = "ceph-a",
    accelerator: str = "h100",
    gpus: int = 1,
    print_changes: Mapping[str, Any] | None = None,
    repeat_changes: Mapping[str, Any] | None = None,
    statuses: Sequence[str] | None = None,
    **changes: Any,
) -> Run:
    """Return a sealed run with one repeat a rate; stall follows from the rate by default."""
    base = template()
    stalls = stalls if stalls is not None else [None] * len(rates)
    repeats = [
        repeat(i, rate, stall, start + i * step, **(repeat_changes or {}))
        for i, (rate, stall) in enumerate(zip(rates, stalls, strict=True))
    ]
    for i, status in enumerate(statuses or ()):
        problem = "" if status == "ok" else f"made-up reason for {status}"
        repeats[i] = repeats[i].model_copy(update={"status": status, "problem": problem})
    identity = prints(
        **{
            "workload__name": workload,
            "workload__accelerator": accelerator,
            "workload__gpus_per_node": gpus,
            "storage__name": target,
        }
        | dict(print_changes or {})
    )
    fields: dict[str, Any] = {
        "id": new_id(int(start.timestamp() * 1e9), random=number.to_bytes(10)),
        "created_at": start.isoformat(),
        "workload": {"name": workload, "batch_size": 7, "dataset": {"format": "npz"}},
        "storage": {"name": target, "directory": {"path": "data"}, "facts": {}},
        "plan": base.plan
        | {"accelerator": accelerator, "gpus_per_node": gpus, "ranks": gpus}
        | {name: identity["loader"][name] for name in ("threads", "mode") if identity["loader"]},
        "fingerprint": identity,
        "repeats": repeats,
    }
    run = base.model_copy(update=fields | changes)
    finite = [r for r in repeats if r.throughput and np.isfinite(r.throughput.bytes_per_second)]
    return run.model_copy(update={"summary": summarize(finite)})


def sealed(run: Run) -> Run:
    return seal(run)


def gathered(*runs: Run, given: str = "made") -> Gathered:
    return Gathered(
        given,
        tuple(
            GivenRun(run, hashlib.sha256(run.id.encode()).hexdigest(), f"{given}/{run.id}", True)
            for run in runs
        ),
    )


def parameters(**changes: Any) -> Parameters:
    fields: dict[str, Any] = {
        "rule": "ci",
        "across": [],
        "allow_mismatch": False,
        "alpha": 0.05,
        "confidence": 0.9,
        "margins": Margins(throughput_ratio=0.05, stall_ratio=0.02),
        "min_repeats": 3,
        "pairing": "auto",
    }
    return Parameters(**fields | changes)


def compared(baseline: Gathered | Run, candidate: Gathered | Run, **changes: Any) -> Comparison:
    """Return a comparison of two sides; `changes` are parameters."""
    sides = [
        side if isinstance(side, Gathered) else gathered(side, given=given)
        for given, side in (("before", baseline), ("after", candidate))
    ]
    return compare(*sides, parameters=parameters(**changes), tool=TOOL, created_at=NOW)


def drawn(
    mean: float, *, cv: float = 0.02, n: int = 5, seed: int = 1, need: float = 3.0e9
) -> tuple[list[float], list[float]]:
    """Return lognormal throughputs around `mean` and the stall that each leaves."""
    rng = np.random.default_rng(seed)
    sigma = np.sqrt(np.log1p(cv**2))
    rates = [float(rate) for rate in mean * np.exp(rng.normal(0, sigma, n))]
    return rates, [max(0.0, 1 - rate / need) for rate in rates]


def write(directory: Path, *runs: Run) -> list[Path]:
    """Store documents as a launcher does, without tables."""
    places = []
    for run in runs:
        place = directory / str(run.storage["name"]) / str(run.workload["name"]) / run.id
        place.mkdir(parents=True)
        place.joinpath("run.json").write_text(document_text(seal(run)))
        places.append(place)
    return places


def copy_of(run: Run, **changes: Any) -> Run:
    return copy.deepcopy(run).model_copy(update=changes)
