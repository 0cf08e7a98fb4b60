"""What lists, summaries and pages say of a run, read from the free-form parts of its document.

`workload`, `storage` and `plan` of a run hold what was resolved and found out, which differs
by target and version, so a missing entry is "unknown" here and no error.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from bench.results.schema import Guard, Repeat, Run

__all__ = [
    "accelerator_label",
    "cache_label",
    "device_kind",
    "guard_overview",
    "name_of",
    "num_ranks",
    "reproduce_command",
    "step_seconds",
]

STATUS_ORDER = ("fail", "warn", "not measured", "pass")
"""Worst first."""


def name_of(part: Mapping[str, Any]) -> str:
    """Return the name of a run's workload or storage."""
    return str(part.get("name") or "unknown")


def num_ranks(run: Run) -> int:
    """Return the number of accelerators."""
    return int(run.plan.get("ranks") or 1)


def step_seconds(run: Run) -> float | None:
    """Return the step time; None in unthrottled mode."""
    value = run.plan.get("step_seconds")
    return float(value) if value else None


def device_kind(run: Run) -> str:
    """Return "emulated", "cuda" or "unknown"."""
    device = run.plan.get("device")
    kind = device.get("kind") if isinstance(device, Mapping) else device
    return str(kind or "unknown")


def accelerator_label(run: Run) -> str:
    """Return the accelerator for people: "h100 (emulated)", "2 x h100 (cuda)", "none"."""
    name = str(run.plan.get("accelerator") or "unknown")
    if name == "none":
        label = "none (unthrottled)"
    else:
        kind = device_kind(run)
        device = run.plan.get("device")
        model = device.get("name") if isinstance(device, Mapping) and kind == "cuda" else None
        label = f"{name} steps on {model}" if model else f"{name} ({kind})"
    ranks = num_ranks(run)
    return label if ranks == 1 else f"{ranks} x {label}"


OPTIONS = {
    "accelerator": "-a",
    "nodes": "--nodes",
    "gpus_per_node": "--gpus-per-node",
    "dataset_bytes": "--dataset-size",
    "max_steps": "--steps",
    "max_seconds": "--duration",
}
"""Entries of `plan` that have an option of `bench run`."""


def reproduce_command(run: Run) -> str:
    """Return the command line that measures the same cell again."""
    words = ["bench", "run", name_of(run.workload), "-s", name_of(run.storage)]
    for entry, option in OPTIONS.items():
        value = run.plan.get(entry)
        if value is not None and not (entry in ("nodes", "gpus_per_node") and value == 1):
            words += [option, str(value)]
    words += ["--repeats", str(run.plan.get("repeats") or len(run.repeats))]
    for override in run.plan.get("overrides") or ():
        words += ["--set", str(override)]
    return shlex.join(words)


def cache_label(repeats: list[Repeat]) -> str:
    """Return the cache verdicts of repeats: one where they agree; "unknown" without any."""
    verdicts = list(dict.fromkeys(r.cache.verdict for r in repeats if r.cache is not None))
    return ", ".join(verdicts) if verdicts else "unknown"


def guard_overview(repeats: list[Repeat]) -> list[tuple[Guard, list[int]]]:
    """Return each guard at its worst status over repeats, with the repeats that had it so.

    Sorted worst first, then in the order of the documents.
    """
    worst: dict[str, tuple[Guard, list[int]]] = {}
    for repeat in repeats:
        for guard in repeat.guards:
            known = worst.get(guard.name)
            if known is None or _rank(guard) < _rank(known[0]):
                worst[guard.name] = (guard, [repeat.index])
            elif _rank(guard) == _rank(known[0]):
                known[1].append(repeat.index)
    return sorted(worst.values(), key=lambda item: _rank(item[0]))


def _rank(guard: Guard) -> int:
    return STATUS_ORDER.index(guard.status)
