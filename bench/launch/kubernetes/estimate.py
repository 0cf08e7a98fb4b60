"""What a run will read, write, hold and cost, before anything starts.

A pure function of the plan: bounds, not a forecast. How long reading takes is what the run is
to find out, so time has a least value (nothing ever waits) and a most (the Jobs' deadlines).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.errors import UsageError
from bench.launch.kubernetes.deadlines import measure_deadline_seconds
from bench.spec.plan import Plan

__all__ = ["Estimate", "Rates", "check_budget", "estimate", "lines"]

HOUR_SECONDS = 3600.0
GB = 1e9
MANIFEST_BYTES_PER_SAMPLE = 64
"""Upper bound of what the manifest and file system tables take beside the data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Prices, in any one currency; 0 where something costs nothing.

    Attributes:
        gpu_hour: Of one GPU for an hour.
        million_requests: Of a million reads, as object stores charge them.
        gigabyte_read: Of 1e9 bytes that leave the storage.
        gigabyte_written: Of 1e9 bytes that are written.
    """

    gpu_hour: float = 0.0
    million_requests: float = 0.0
    gigabyte_read: float = 0.0
    gigabyte_written: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Bounds on what a run takes, over all ranks and repeats.

    Attributes:
        read_bytes: Most bytes that measuring ranks read.
        requests: Most reads, each of at most a block of one file.
        written_bytes: Most bytes of data sets that are written; less where they are there.
        volume_bytes: Size of all volumes that the run makes at a time; 0 for none.
        data_bytes: What those volumes must hold.
        least_seconds: Measured time if the accelerators never wait, or at the limit that is
            set, over all repeats one after the other.
        most_seconds: The Jobs' deadlines together.
        least_gpu_hours: Real GPUs held for the least time; 0 for emulated ones.
        most_gpu_hours: The same for the most.
        least_cost: With rates; None without.
        most_cost: With rates; None without.
    """

    read_bytes: int
    requests: int
    written_bytes: int
    volume_bytes: int
    data_bytes: int
    least_seconds: float
    most_seconds: float
    least_gpu_hours: float
    most_gpu_hours: float
    least_cost: float | None
    most_cost: float | None


def _samples(plan: Plan) -> float:
    """Return the samples that one repeat reads at most, over all ranks and epochs."""
    settings, workload = plan.settings, plan.workload
    samples = plan.dataset.num_samples * workload.access.epochs
    if settings.max_steps is not None:
        samples = min(samples, settings.max_steps * workload.batch_size * plan.num_ranks)
    return samples


def _read_bytes(plan: Plan, samples: float) -> float:
    settings = plan.settings
    num_bytes = samples * plan.dataset.total_bytes / plan.dataset.num_samples
    if settings.bytes_per_second_limit is not None and settings.max_seconds is not None:
        num_bytes = min(num_bytes, settings.bytes_per_second_limit * settings.max_seconds)
    if settings.cache == "hot":
        # Each node reads the whole data set once to warm it.
        num_bytes += plan.dataset.total_bytes * settings.nodes
    return num_bytes


def _least_seconds(plan: Plan, samples: float, num_bytes: float) -> float:
    settings = plan.settings
    steps = samples / (plan.workload.batch_size * plan.num_ranks)
    least = steps * (plan.step_seconds or 0.0)
    if settings.bytes_per_second_limit is not None:
        least = max(least, num_bytes / settings.bytes_per_second_limit)
    simulated = plan.storage.simulated
    if simulated is not None and simulated.bandwidth_bytes_per_second is not None:
        # Every node has a pipe of its own.
        pipes = simulated.bandwidth_bytes_per_second * settings.nodes
        least = max(least, num_bytes / pipes)
    return least if settings.max_seconds is None else min(least, settings.max_seconds)


def _copies(plan: Plan) -> tuple[int, int]:
    """Return how many data sets are written, and how many volumes there are at a time."""
    storage, settings = plan.storage, plan.settings
    if storage.simulated is not None:
        return 0, 0
    if storage.ephemeral is not None:  # each pod of each repeat fills its own
        return settings.nodes * settings.repeats, settings.nodes
    created = storage.pvc is not None and storage.pvc.claim_name is None
    return 1, int(created)


def _volume_bytes(plan: Plan) -> int:
    volume = plan.storage.pvc or plan.storage.ephemeral
    return volume.size or 0 if volume is not None else 0


def estimate(plan: Plan, *, rates: Rates | None = None) -> Estimate:
    """Return what a run takes.

    Args:
        plan: What is run.
        rates: Prices; None leaves cost out.
    """
    settings, cluster = plan.settings, plan.settings.cluster
    samples = _samples(plan)
    each_bytes = _read_bytes(plan, samples)
    read_bytes = each_bytes * settings.repeats
    mean = plan.dataset.total_bytes / plan.dataset.num_samples
    requests_each = -(-mean // plan.storage.io.block_bytes)
    requests = requests_each * (each_bytes / mean) * settings.repeats
    num_copies, num_volumes = _copies(plan)
    written = num_copies * plan.dataset.total_bytes
    least = _least_seconds(plan, samples, each_bytes) * settings.repeats
    most = float(measure_deadline_seconds(plan, cluster)) * settings.repeats
    gpus = plan.num_ranks if cluster.gpu != "none" else 0
    least_hours, most_hours = gpus * least / HOUR_SECONDS, gpus * max(least, most) / HOUR_SECONDS
    costs: tuple[float | None, float | None] = (None, None)
    if rates is not None:
        fixed = (
            rates.million_requests * requests / 1e6
            + rates.gigabyte_read * read_bytes / GB
            + rates.gigabyte_written * written / GB
        )
        costs = (fixed + rates.gpu_hour * least_hours, fixed + rates.gpu_hour * most_hours)
    extra = MANIFEST_BYTES_PER_SAMPLE * plan.dataset.num_samples
    return Estimate(
        read_bytes=round(read_bytes),
        requests=round(requests),
        written_bytes=written,
        volume_bytes=num_volumes * _volume_bytes(plan),
        data_bytes=num_volumes * (plan.dataset.total_bytes + extra),
        least_seconds=least,
        most_seconds=max(least, most),
        least_gpu_hours=least_hours,
        most_gpu_hours=most_hours,
        least_cost=costs[0],
        most_cost=costs[1],
    )


def check_budget(plan: Plan, found: Estimate) -> None:
    """Refuse a run that may read more than it is allowed.

    Args:
        plan: With the budget.
        found: Its estimate.

    Raises:
        UsageError: It may read more than plan.bytes_budget.
    """
    budget = plan.settings.bytes_budget
    if budget is not None and found.read_bytes > budget:
        raise UsageError(
            "plan.bytes_budget",
            f"the run reads up to {found.read_bytes} bytes over all repeats, and the budget is "
            f"{budget}",
            "use fewer --repeats or --steps, a smaller --dataset-size, or raise the budget",
        )


def lines(found: Estimate) -> Iterator[str]:
    """Yield the estimate as lines for a person."""
    yield f"reads up to {found.read_bytes / GB:.1f} GB in {found.requests:,} requests"
    if found.written_bytes:
        yield f"writes up to {found.written_bytes / GB:.1f} GB of data sets"
    if found.volume_bytes:
        yield f"makes volumes of {found.volume_bytes / GB:.1f} GB together"
    least, most = found.least_seconds, found.most_seconds
    yield f"measures for {least:.0f} s at least, and {most:.0f} s at most"
    if found.most_gpu_hours:
        yield f"holds GPUs for {found.least_gpu_hours:.2f} to {found.most_gpu_hours:.2f} hours"
    if found.least_cost is not None and found.most_cost is not None:
        yield f"costs {found.least_cost:.2f} to {found.most_cost:.2f} at the rates given"
