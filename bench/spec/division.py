"""Certified or exploratory: was a run made with its workload and target as declared?

Location, accelerator, ranks, repeats, reader settings (`io`, `reader_threads`) and `plan.*`
define the cell of a result and are part of its key, so they may vary. What changes the
training job or the thing that is measured, or makes the run smaller, is named here
(docs/decisions/0003-certified-and-exploratory.md).
"""

from __future__ import annotations

from typing import Literal

from bench.spec.documents import StorageTarget, Strict, Workload
from bench.spec.plan import PlanSettings

__all__ = ["deviations", "division"]

CELL_OF_WORKLOAD = frozenset({"source", "accelerators", "reader_threads"})
"""Accelerators are judged apart: only the chosen one's step time matters."""

CELL_OF_STORAGE = frozenset(
    {
        "io",
        "directory.path",
        "pvc.claim_name",
        "pvc.sub_path",
        "object.url",
        "object.endpoint_url",
        "object.region",
        "object.addressing",
        "object.ca_bundle",
        "object.credentials",
        "pod.node_selector",
        "pod.tolerations",
    }
)
"""Where the target is and how it is read; not what it is."""


def _changed(declared: object, used: object, path: str, free: frozenset[str]) -> list[str]:
    if path in free or declared == used:
        return []
    if isinstance(declared, Strict) and isinstance(used, Strict):
        prefix = f"{path}." if path else ""
        return [
            line
            for name in type(declared).model_fields
            for line in _changed(
                getattr(declared, name), getattr(used, name), f"{prefix}{name}", free
            )
        ]
    return [path]


def deviations(
    *,
    declared_workload: Workload,
    workload: Workload,
    declared_storage: StorageTarget,
    storage: StorageTarget,
    settings: PlanSettings,
) -> list[str]:
    """Return what makes a run exploratory, one setting each; empty for a certified run.

    Args:
        declared_workload: As loaded without overrides.
        workload: With overrides, before the effective number of samples is worked out.
        declared_storage: As loaded without overrides.
        storage: With overrides.
        settings: Of the run.
    """
    found = [
        f"workload.{path}"
        for path in _changed(declared_workload.spec, workload.spec, "", CELL_OF_WORKLOAD)
    ]
    chosen = settings.accelerator
    before = declared_workload.spec.accelerators.get(chosen)
    if chosen != "none" and workload.spec.accelerators.get(chosen) != before:
        found.append(f"workload.accelerators.{chosen}.step_seconds")
    found += [
        f"storage.{path}"
        for path in _changed(declared_storage.spec, storage.spec, "", CELL_OF_STORAGE)
    ]
    dataset = declared_workload.spec.dataset
    declared_bytes = dataset.samples * dataset.sample_bytes.mean
    if settings.dataset_bytes is not None and settings.dataset_bytes < declared_bytes:
        found.append("plan.dataset_bytes")
    if settings.max_steps is not None:
        found.append("plan.max_steps")
    if settings.max_seconds is not None:
        found.append("plan.max_seconds")
    if settings.bytes_per_second_limit is not None:
        found.append("plan.bytes_per_second_limit")
    return found


def division(
    *,
    declared_workload: Workload,
    workload: Workload,
    declared_storage: StorageTarget,
    storage: StorageTarget,
    settings: PlanSettings,
) -> Literal["certified", "exploratory"]:
    """Return the division of a run; arguments as for `deviations`."""
    found = deviations(
        declared_workload=declared_workload,
        workload=workload,
        declared_storage=declared_storage,
        storage=storage,
        settings=settings,
    )
    return "exploratory" if found else "certified"
