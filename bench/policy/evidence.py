"""May a decision rest on these runs? Every reason against it, by name.

Nothing here looks at a limit, and nothing is weighed: one reason is enough. What limits a
decision without forbidding it stands in `bench.policy.limits`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from bench.analysis.facts import device_kind
from bench.analysis.wording import percent
from bench.policy.document import Note
from bench.policy.occasions import Group, Pair, pair_names
from bench.results.fingerprint import differences
from bench.results.schema import Repeat, Run
from bench.spec.documents import Workload, WorkloadSpec
from bench.spec.requirements import Requirement, RequirementsSpec

__all__ = ["invalid_because", "refused_because", "storage_class_of"]

NOISE_SHARE = 4
"""The estimator's noise may be at most a quarter of the limit that is decided on."""

CLOCK_SKEW = timedelta(minutes=10)
"""Clocks of measuring machines may run ahead of ours by this."""

APPROVABLE_CACHE = ("cold-verified", "cold-requested")


def invalid_because(runs: Sequence[Run], groups: Sequence[Group]) -> list[Note]:
    """Return why the figures themselves must not be believed.

    Args:
        runs: All that are of the cell.
        groups: Their repeats that count, by occasion.
    """
    pairs = [(run, repeat) for run in runs for repeat in run.repeats]
    counted = [pair for group in groups for pair in group.repeats]
    return [*_failed_guards(pairs), *_impossible(counted)]


def refused_because(
    runs: Sequence[Run],
    groups: Sequence[Group],
    *,
    requirement: Requirement,
    spec: RequirementsSpec,
    workload: Workload | None,
    now: datetime,
) -> list[Note]:
    """Return why these runs cannot carry a decision on the requirement.

    Args:
        runs: All that are of the cell, each once.
        groups: Their repeats that count, by occasion.
        requirement: What is asked of them.
        spec: Conditions of every approval.
        workload: The workload as the approver has it; None where it was not found.
        now: UTC.
    """
    counted = [pair for group in groups for pair in group.repeats]
    return [
        *_division(runs),
        *_incomplete(runs),
        *_unlike(runs),
        *_workload(runs, workload, requirement),
        *_place(runs),
        *_cache(counted),
        *_short(counted),
        *_guards(counted, spec.guards),
        *_noise(counted, requirement),
        *_amount(counted, spec),
        *_future(groups, now),
    ]


def _guard_status(repeat: Repeat, name: str) -> str:
    return next((g.status for g in repeat.guards if g.name == name), "not measured")


def _failed_guards(pairs: Sequence[Pair]) -> Iterator[Note]:
    failed: dict[str, list[Pair]] = {}
    details: dict[str, str] = {}
    for run, repeat in pairs:
        bad = [guard for guard in repeat.guards if guard.status == "fail"]
        for guard in bad:
            failed.setdefault(f"guard {guard.name} failed", []).append((run, repeat))
            details.setdefault(f"guard {guard.name} failed", guard.detail)
        if repeat.status == "invalid" and not bad:
            failed.setdefault("marked invalid", []).append((run, repeat))
            details.setdefault("marked invalid", repeat.problem)
    for what, where in failed.items():
        yield Note(code="invalid", text=f"{what} in {pair_names(where)}: {details[what]}")


def _impossible(counted: Sequence[Pair]) -> Iterator[Note]:
    for run, repeat in counted:
        figures: dict[str, float | None] = {
            "throughput": repeat.throughput.bytes_per_second if repeat.throughput else None,
            "stall ratio": repeat.stall.ratio if repeat.stall else None,
            "time to first batch": (
                repeat.stall.time_to_first_batch_seconds if repeat.stall else None
            ),
            "duration": repeat.duration_seconds,
        }
        for name, value in figures.items():
            least = 0.0 if name in ("stall ratio", "time to first batch") else math.ulp(0.0)
            most = 1.0 if name == "stall ratio" else math.inf
            if value is not None and not (math.isfinite(value) and least <= value <= most):
                where = pair_names([(run, repeat)])
                yield Note(code="impossible", text=f"the {name} of {where} is {value}")


def _division(runs: Sequence[Run]) -> Iterator[Note]:
    for run in runs:
        if run.division != "certified":
            yield Note(
                code="exploratory",
                text=f"run {run.id} is {run.division}: workload or target were not as declared",
            )


def _incomplete(runs: Sequence[Run]) -> Iterator[Note]:
    for run in runs:
        ended = {repeat.status for repeat in run.repeats} - {"ok", "invalid"}
        if run.status in ("failed", "interrupted") or ended:
            how = run.status if run.status in ("failed", "interrupted") else ", ".join(ended)
            yield Note(
                code="incomplete",
                text=f"run {run.id} was {how}; why it stopped may have to do with its figures",
            )
        elif not run.repeats:
            yield Note(code="incomplete", text=f"run {run.id} has no repeats")


def storage_class_of(run: Run) -> str | None:
    """Return the Kubernetes storage class that a run read from; None where it names none."""
    facts = run.storage.get("facts")
    places: list[tuple[Any, str]] = [
        (run.storage.get("pvc"), "storageClassName"),
        (run.storage.get("ephemeral"), "storageClassName"),
        (facts, "storage_class"),
        (facts, "storageClass"),
    ]
    for place, key in places:
        value = place.get(key) if isinstance(place, Mapping) else None
        if isinstance(value, Mapping):
            value = value.get("name")
        if isinstance(value, str) and value not in ("", "unknown"):
            return value
    return None


def _unlike(runs: Sequence[Run]) -> Iterator[Note]:
    unknown = [run.id for run in runs if not run.fingerprint.get("hash")]
    if unknown:
        yield Note(code="no_fingerprint", text=f"run {unknown[0]} has no fingerprint")
        return
    scales = {(run.plan.get("nodes"), run.plan.get("gpus_per_node")) for run in runs}
    if len(scales) > 1:
        text = ", ".join(sorted(f"{nodes} x {gpus}" for nodes, gpus in scales))
        yield Note(
            code="several_scales",
            text=f"the runs are of several scales (nodes x accelerators: {text}); say which in "
            "the requirement",
        )
        return
    classes = {storage_class_of(run) or "none" for run in runs}
    if len(classes) > 1:
        text = f"the runs are of several storage classes: {', '.join(sorted(classes))}"
        yield Note(code="several_classes", text=text)
    for run in runs[1:]:
        unlike = differences(runs[0].fingerprint, run.fingerprint)
        if unlike or run.fingerprint["hash"] != runs[0].fingerprint["hash"]:
            what = ", ".join(unlike[:5]) + (", ..." if len(unlike) > 5 else "") or "their hash"
            yield Note(
                code="unlike",
                text=f"runs {runs[0].id} and {run.id} are not of one cell; they differ in {what}",
            )


SHAPE = ("dataset", "access", "batch_size", "decode")
"""Parts of a workload's spec that make it what it is."""


def _workload(
    runs: Sequence[Run], workload: Workload | None, requirement: Requirement
) -> Iterator[Note]:
    if workload is None:
        yield Note(
            code="unknown_workload",
            text=f"there is no workload {requirement.workload} to hold the runs against; give "
            "its file with --workload",
        )
        return
    declared = workload.spec.model_dump(mode="json", by_alias=True)
    pace = workload.spec.accelerators.get(requirement.accelerator)
    for run in runs:
        used = _spec_of(run)
        unlike = (
            ["everything: it cannot be read"]
            if used is None
            else [path for name in SHAPE for path in _changed(declared[name], used[name], name)]
        )
        step = run.plan.get("step_seconds")
        if requirement.accelerator != "none" and (pace is None or step != pace.step_seconds):
            unlike.append("step_seconds")
        if unlike:
            yield Note(
                code="changed_workload",
                text=f"run {run.id} is not of the workload {requirement.workload} as it is "
                f"declared here; it differs in {', '.join(unlike[:5])}",
            )


def _spec_of(run: Run) -> dict[str, Any] | None:
    """Return a run's workload with the defaults of this version; None where it is none."""
    stored = {key: value for key, value in run.workload.items() if key != "name"}
    try:
        return WorkloadSpec.model_validate(stored).model_dump(mode="json", by_alias=True)
    except ValidationError:
        return None


def _changed(declared: Any, used: Any, path: str) -> list[str]:
    if isinstance(declared, Mapping) and isinstance(used, Mapping):
        keys = sorted(declared.keys() | used.keys())
        return [
            name
            for key in keys
            for name in _changed(declared.get(key), used.get(key), f"{path}.{key}")
        ]
    if path == "dataset.samples" and isinstance(used, int) and used >= declared:
        return []  # declared samples are a minimum
    return [] if declared == used else [path]


def _place(runs: Sequence[Run]) -> Iterator[Note]:
    for run in runs:
        if run.storage.get("simulated") is not None:
            yield Note(code="simulated", text=f"run {run.id} read simulated storage")
        elif device_kind(run) not in ("cuda", "emulated") and run.plan.get("accelerator") != "none":
            yield Note(
                code="unknown_device", text=f"run {run.id} does not say what its accelerator was"
            )


def _cache(counted: Sequence[Pair]) -> Iterator[Note]:
    states: dict[str, list[Pair]] = {}
    for run, repeat in counted:
        verdict = repeat.cache.verdict if repeat.cache is not None else "unknown"
        if verdict not in APPROVABLE_CACHE:
            states.setdefault(verdict, []).append((run, repeat))
    for state, where in states.items():
        text = {
            "warm": "data came from a cache and not from the storage",
            "unknown": "whether data came from a cache is unknown",
        }[state]
        yield Note(code=f"{state}_cache", text=f"{text}: {pair_names(where)}")
    if len({r.cache.verdict for _, r in counted if r.cache}) > 1 and not states:
        yield Note(
            code="mixed_cache",
            text="some repeats are cold-verified and some cold-requested; they are not one sample",
        )


def _short(counted: Sequence[Pair]) -> Iterator[Note]:
    short = [(run, repeat) for run, repeat in counted if _guard_status(repeat, "short") != "pass"]
    if short:
        guards = [g.detail for g in short[0][1].guards if g.name == "short"]
        yield Note(
            code="short",
            text=f"too short to mean something: {pair_names(short)}; "
            + (guards[0] if guards else "not measured"),
        )


def _guards(counted: Sequence[Pair], names: Sequence[str]) -> Iterator[Note]:
    for name in names:
        bad = [(run, repeat) for run, repeat in counted if _guard_status(repeat, name) != "pass"]
        if bad:
            status = _guard_status(bad[0][1], name)
            yield Note(
                code="guard",
                text=f"guard {name}, which the requirements name, is {status!r} in "
                f"{pair_names(bad)}",
            )


def _noise(counted: Sequence[Pair], requirement: Requirement) -> Iterator[Note]:
    limit = requirement.max_stall_ratio
    if limit is None:
        return
    noisy = [
        (run, repeat)
        for run, repeat in counted
        if repeat.stall is not None and repeat.stall.noise_ratio > limit / NOISE_SHARE
    ]
    if noisy:
        worst = max(repeat.stall.noise_ratio for _, repeat in noisy if repeat.stall)
        yield Note(
            code="noise",
            text=f"the estimator finds {percent(worst)} of stall where there is none, more than "
            f"a quarter of the limit of {percent(limit)}: {pair_names(noisy)}",
        )


def _amount(counted: Sequence[Pair], spec: RequirementsSpec) -> Iterator[Note]:
    if len(counted) < spec.min_repeats:
        yield Note(
            code="few_repeats",
            text=f"{len(counted)} repeats count; {spec.min_repeats} are required",
        )


def _future(groups: Sequence[Group], now: datetime) -> Iterator[Note]:
    late = [group for group in groups if group.end > now + CLOCK_SKEW]
    if late:
        ends = late[0].end.isoformat(timespec="seconds")
        yield Note(code="future", text=f"a repeat ends at {ends}, which is still to come")
