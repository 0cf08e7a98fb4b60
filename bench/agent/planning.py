"""From a plan document to the steps of one rank."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.dataset.manifest import Manifest
from bench.dataset.order import epoch_batches, num_batches
from bench.loader.planner import PlannedStep, plan_pieces
from bench.spec.plan import Plan

__all__ = ["plan_steps", "repeat_seed"]


def repeat_seed(plan: Plan, repeat: int) -> int:
    """Return the shuffle seed of a repeat: each one reads in a new order (docs/method.md)."""
    return (plan.settings.seed * 1_000_003 + repeat) % 2**63


def _steps_of_epoch(plan: Plan, manifest: Manifest, *, rank: int, epoch: int, seed: int) -> int:
    """Return the steps of an epoch: in lock-step, those of the rank with the most batches."""
    lock_step = plan.num_ranks > 1 and plan.settings.sync == "step"
    return max(
        num_batches(
            manifest,
            plan.workload.access,
            batch_size=plan.workload.batch_size,
            rank=other,
            num_ranks=plan.num_ranks,
            epoch=epoch,
            seed=seed,
        )
        for other in (range(plan.num_ranks) if lock_step else (rank,))
    )


def plan_steps(plan: Plan, manifest: Manifest, *, rank: int, repeat: int) -> Iterator[PlannedStep]:
    """Yield the steps of one rank, all epochs; empty ones where other ranks have more batches."""
    limit = plan.settings.max_steps
    seed = repeat_seed(plan, repeat)
    step = 0
    for epoch in range(plan.workload.access.epochs):
        first = step
        num_steps = _steps_of_epoch(plan, manifest, rank=rank, epoch=epoch, seed=seed)
        for batch in epoch_batches(
            manifest,
            plan.workload.access,
            batch_size=plan.workload.batch_size,
            rank=rank,
            num_ranks=plan.num_ranks,
            epoch=epoch,
            seed=seed,
        ):
            if limit is not None and step >= limit:
                return
            columns = [batch.extents[name] for name in ("file", "offset", "length")]
            pieces = plan_pieces(
                np.stack(columns, axis=1),
                batch.extents["num_samples"].astype(np.int64),
                block_bytes=plan.storage.io.block_bytes,
            )
            yield PlannedStep(step, epoch, batch.num_samples, batch.payload_bytes, pieces)
            step += 1
        while step - first < num_steps and (limit is None or step < limit):
            yield PlannedStep(step, epoch, 0, 0, [])
            step += 1
