"""What a preparing pod does: make or check the data set, and say what it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bench.agent.pod.environment import PodEnvironment
from bench.agent.site import open_store
from bench.dataset.generate import Progress, ensure
from bench.dataset.manifest import Manifest
from bench.dataset.objects import ensure_objects
from bench.dataset.order import check_partition
from bench.errors import UsageError
from bench.spec.plan import DatasetRef, Plan

__all__ = ["ensure_dataset", "prepare"]

WORKERS = 2
"""Threads that make data sets: the disk is the limit from two on."""

UPLOAD_WORKERS = 8
"""Threads that make and upload objects: one request each is under way."""

PROGRESS_SECONDS = 1.0

Write = Callable[[dict[str, Any]], None]


def ensure_dataset(plan: Plan, environment: PodEnvironment, write: Write) -> DatasetRef:
    """Make or check the plan's data set in this pod's volume; return what it is.

    Raises:
        DatasetError: It cannot be made, or what is there is damaged.
        UsageError: It cannot be shared out over the ranks, or there is no volume.
    """
    if plan.storage.simulated is not None:
        return plan.dataset
    store = open_store(plan.storage)
    if store is None and environment.data_root is None:
        raise UsageError(
            f"storage target {plan.storage_name}",
            "has no volume in this pod",
            "start pods by the manifests of `bench run`",
        )
    told = 0.0

    def progress(now: Progress) -> None:
        nonlocal told
        if time.monotonic() - told < PROGRESS_SECONDS:
            return
        told = time.monotonic()
        write(
            {
                "event": "making",
                "action": now.action,
                "files": now.files,
                "num_files": now.num_files,
                "bytes": now.bytes,
                "total_bytes": now.total_bytes,
                "seconds": now.seconds,
            }
        )

    name, dataset = plan.workload_name, plan.workload.dataset
    if store is not None:
        manifest = ensure_objects(store, name, dataset, workers=UPLOAD_WORKERS, progress=progress)
    elif environment.data_root is not None:
        manifest = ensure(environment.data_root, name, dataset, workers=WORKERS, progress=progress)
    return _reference(plan, manifest)


def prepare(plan: Plan, environment: PodEnvironment, write: Write) -> None:
    """Prepare the data set; the last event says what it is.

    Ephemeral volumes belong to the measuring pods, and simulated ones hold nothing: then this
    pod only shows that the image starts.
    """
    begun = time.monotonic()
    dataset = plan.dataset
    if plan.storage.ephemeral is None:
        dataset = ensure_dataset(plan, environment, write)
    write(
        {
            "event": "dataset",
            "dataset": dataset.model_dump(mode="json"),
            "seconds": time.monotonic() - begun,
        }
    )


def _reference(plan: Plan, manifest: Manifest) -> DatasetRef:
    check_partition(
        manifest,
        plan.workload.access,
        batch_size=plan.workload.batch_size,
        num_ranks=plan.num_ranks,
    )
    return DatasetRef(
        directory=plan.dataset.directory,
        format=plan.dataset.format,
        num_files=len(manifest.size_bytes),
        num_samples=int(manifest.num_samples.sum()),
        total_bytes=manifest.total_bytes,
        num_prefixes=manifest.num_prefixes,
        manifest_digest=manifest.digest,
    )
