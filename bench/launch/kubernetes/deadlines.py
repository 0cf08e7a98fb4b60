"""How long Jobs may live: bounds that end a run which hangs, not estimates of its length.

Seconds, whole ones, as Jobs take them. Pure functions of the plan.
"""

from __future__ import annotations

import math

from bench.spec.cluster import ClusterSettings
from bench.spec.plan import Plan

__all__ = ["anchor_ttl_seconds", "measure_deadline_seconds", "prepare_deadline_seconds"]

SLOWEST_BYTES_PER_SECOND = 20e6
"""Reads and writes of a whole run: a tenth of what one disk drive does in sequence. Storage
below that is told apart from storage that hangs by plan.cluster.deadline_seconds."""

SLACK_SECONDS = 300
"""Start of the interpreter, cache state, verification of the manifest, tables sent home."""

MAX_SECONDS = 2**31 - 1
"""A Job's ttlSecondsAfterFinished is a signed 32-bit number."""


def _whole(seconds: float) -> int:
    return max(1, min(MAX_SECONDS, math.ceil(seconds)))


def _slowest(plan: Plan) -> float:
    rates = [SLOWEST_BYTES_PER_SECOND]
    if plan.settings.bytes_per_second_limit is not None:
        rates.append(plan.settings.bytes_per_second_limit)
    simulated = plan.storage.simulated
    if simulated is not None and simulated.bandwidth_bytes_per_second is not None:
        rates.append(simulated.bandwidth_bytes_per_second)
    return min(rates)


def _latency_seconds(plan: Plan, num_bytes: float) -> float:
    """Return what the latencies of simulated storage add up to on each reader thread."""
    simulated = plan.storage.simulated
    if simulated is None:
        return 0.0
    mean_bytes = plan.dataset.total_bytes / plan.dataset.num_samples
    requests = num_bytes / min(plan.storage.io.block_bytes, mean_bytes)
    slow = simulated.slow_seconds / simulated.slow_every if simulated.slow_every else 0.0
    each = simulated.latency_seconds + simulated.jitter_seconds + slow
    return requests * each / (plan.num_threads * plan.num_ranks)


def _measured_seconds(plan: Plan) -> float:
    """Return how long a repeat takes if reading, decoding and computing never overlap."""
    settings, workload = plan.settings, plan.workload
    samples: float = plan.dataset.num_samples * workload.access.epochs
    if settings.max_steps is not None:
        samples = min(samples, settings.max_steps * workload.batch_size * plan.num_ranks)
    num_bytes = plan.dataset.total_bytes * samples / plan.dataset.num_samples
    steps = samples / (workload.batch_size * plan.num_ranks)
    bound = (
        num_bytes / _slowest(plan)
        + steps * (plan.step_seconds or 0.0)
        + samples * workload.decode.seconds_per_sample / plan.num_ranks
        + _latency_seconds(plan, num_bytes)
    )
    if settings.max_seconds is not None:
        bound = min(bound, 2 * settings.max_seconds)  # ends with the step that is under way
    if settings.cache == "hot":
        bound += plan.dataset.total_bytes / _slowest(plan)
    return bound


def _making_seconds(plan: Plan) -> float:
    return plan.dataset.total_bytes / SLOWEST_BYTES_PER_SECOND


def measure_deadline_seconds(plan: Plan, cluster: ClusterSettings) -> int:
    """Return the longest life of the Job of one repeat, from its admission on.

    Includes making the data set where each pod has a volume of its own.
    """
    if cluster.deadline_seconds is not None:
        return _whole(cluster.deadline_seconds)
    making = _making_seconds(plan) if plan.storage.ephemeral is not None else 0.0
    return _whole(
        cluster.start_timeout_seconds
        + plan.settings.barrier_timeout_seconds
        + making
        + _measured_seconds(plan)
        + SLACK_SECONDS
    )


def prepare_deadline_seconds(plan: Plan, cluster: ClusterSettings) -> int:
    """Return the longest life of the preparing Job, from its admission on."""
    if cluster.prepare_deadline_seconds is not None:
        return _whole(cluster.prepare_deadline_seconds)
    made_here = plan.storage.pvc is not None or plan.storage.object is not None
    making = _making_seconds(plan) if made_here else 0.0
    return _whole(cluster.start_timeout_seconds + making + SLACK_SECONDS)


def anchor_ttl_seconds(plan: Plan, cluster: ClusterSettings) -> int:
    """Return how long the finished preparing Job stays.

    It owns all else, so it must outlive the run: every repeat queued and run for as long as
    it may be, and then the time left for a launcher that lost the run to come back.
    """
    queued = cluster.queue_timeout_seconds if cluster.queue_name is not None else 0.0
    each = queued + measure_deadline_seconds(plan, cluster)
    return _whole(plan.settings.repeats * each + cluster.ttl_seconds_after_finished)
