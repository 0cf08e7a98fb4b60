"""From the documents that a person wrote to a plan that an agent can run.

Everything that can be refused is refused here, before a byte is made or read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench import __version__
from bench.dataset.manifest import Manifest
from bench.dataset.order import check_partition
from bench.dataset.shape import directory_name, scaled
from bench.errors import UsageError
from bench.launch.kubernetes.estimate import check_budget, estimate
from bench.spec.documents import Dataset, StorageSpec, StorageTarget, Workload
from bench.spec.plan import MAX_PLAN_BYTES, DatasetRef, Plan, PlanSettings
from bench.storage.base import PAGE_BYTES

__all__ = [
    "MIN_STEPS",
    "Cell",
    "build_plan",
    "dataset_directory",
    "effective_dataset",
    "resolve_cell",
    "target_root",
]

MIN_STEPS = 30
"""Steps that a measured phase needs to mean something (docs/method.md, throughput)."""

CACHE_FACTOR = 5
"""A data set of 5 times the memory that could cache it makes hits rare; the rule of
MLPerf Storage, applied to the pod's limit instead of the node's memory."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What is to be measured, checked, before its data set exists.

    Attributes:
        workload: With the effective data set.
        target: With io.threads set.
        settings: As given.
    """

    workload: Workload
    target: StorageTarget
    settings: PlanSettings

    @property
    def num_ranks(self) -> int:
        """Accelerators of the run."""
        return self.settings.nodes * self.settings.gpus_per_node


def _check_accelerator(workload: Workload, settings: PlanSettings) -> None:
    known = sorted(workload.spec.accelerators)
    if settings.accelerator not in ("none", *known):
        raise UsageError(
            f"-a {settings.accelerator}",
            f"workload {workload.metadata.name} has no step time for it",
            f"choose one of {', '.join(known)}, none, or add it with --set "
            f"workload.accelerators.{settings.accelerator}.step_seconds=SECONDS",
        )


def _check_ring(
    settings: PlanSettings, storage: StorageSpec, *, num_threads: int, memory_bytes: int | None
) -> None:
    block = storage.io.block_bytes
    if block % PAGE_BYTES:
        raise UsageError(
            "storage.io.block_bytes",
            f"{block} is not a multiple of the page size {PAGE_BYTES}",
            f"use {block // PAGE_BYTES * PAGE_BYTES or PAGE_BYTES}",
        )
    slots = settings.ring_bytes // block
    if slots < num_threads:
        raise UsageError(
            "plan.ring_bytes",
            f"{settings.ring_bytes} holds {slots} slots of {block} bytes, fewer than the "
            f"{num_threads} reader threads",
            f"set at least plan.ring_bytes={2 * num_threads * block}",
        )
    ranks_per_node = settings.gpus_per_node
    needed = settings.ring_bytes * ranks_per_node
    if memory_bytes is not None and needed > memory_bytes:
        raise UsageError(
            "plan.ring_bytes",
            f"{ranks_per_node} ring(s) of {settings.ring_bytes} bytes exceed the memory "
            f"limit of {memory_bytes} bytes",
            "set a smaller plan.ring_bytes or raise the limit",
        )


def effective_dataset(
    workload: Workload,
    settings: PlanSettings,
    *,
    num_ranks: int,
    cacheable_bytes: int,
) -> Dataset:
    """Return the data set that a run reads.

    The declared samples are a minimum: a run needs MIN_STEPS steps on every rank, and a data
    set that the client cannot cache. `--dataset-size` overrides both.

    Args:
        workload: As declared.
        settings: Of the run.
        num_ranks: Ranks that share the data set.
        cacheable_bytes: Memory that could cache it; 0 where O_DIRECT is verified or warm
            data is asked for.
    """
    spec = workload.spec
    dataset = spec.dataset
    if settings.dataset_bytes is not None:
        return scaled(dataset, total_bytes=settings.dataset_bytes)
    per_epoch = -(-MIN_STEPS * spec.batch_size * num_ranks // spec.access.epochs)
    mean = dataset.sample_bytes.mean
    wanted = max(dataset.samples, per_epoch, -(-CACHE_FACTOR * cacheable_bytes // mean))
    files = -(-wanted // dataset.samples_per_file)
    return dataset.model_copy(update={"samples": files * dataset.samples_per_file})


def _engine(storage: StorageSpec) -> str:
    """Return the client library that reads the target.

    Raises:
        UsageError: The one that is named cannot read it.
    """
    engine = storage.io.engine
    if storage.object is None:
        if engine != "posix" and storage.simulated is None:
            raise UsageError("storage.io.engine", f"{engine!r} cannot read files", "use posix")
        return engine
    if engine == "posix":  # the default, which no object store knows
        return "http"
    return engine


def resolve_cell(
    workload: Workload,
    target: StorageTarget,
    settings: PlanSettings,
    *,
    memory_bytes: int | None,
    cacheable_bytes: int,
) -> Cell:
    """Check and complete what the documents leave open.

    Args:
        workload: With overrides applied.
        target: With overrides applied.
        settings: Of the run.
        memory_bytes: Memory limit of a node's measuring processes; None where unknown.
        cacheable_bytes: See `effective_dataset`.

    Raises:
        UsageError: Something does not fit; names it and the remedy.
    """
    _check_accelerator(workload, settings)
    num_threads = target.spec.io.threads or workload.spec.reader_threads
    _check_ring(settings, target.spec, num_threads=num_threads, memory_bytes=memory_bytes)
    num_ranks = settings.nodes * settings.gpus_per_node
    dataset = effective_dataset(
        workload, settings, num_ranks=num_ranks, cacheable_bytes=cacheable_bytes
    )
    spec = workload.spec.model_copy(update={"dataset": dataset})
    io = target.spec.io.model_copy(update={"threads": num_threads, "engine": _engine(target.spec)})
    return Cell(
        workload.model_copy(update={"spec": spec}),
        target.model_copy(update={"spec": target.spec.model_copy(update={"io": io})}),
        settings,
    )


def dataset_directory(cell: Cell) -> str:
    """Return the name of the cell's data set directory."""
    return directory_name(cell.workload.metadata.name, cell.workload.spec.dataset)


def build_plan(
    cell: Cell,
    manifest: Manifest,
    *,
    run_id: str,
    division: str,
    overrides: tuple[str, ...],
) -> Plan:
    """Return the plan document of a run.

    Raises:
        UsageError: The data set cannot be shared out over the ranks, the plan is too large, or
            the run could read more than its budget.
    """
    workload = cell.workload.spec
    check_partition(
        manifest, workload.access, batch_size=workload.batch_size, num_ranks=cell.num_ranks
    )
    simulated = cell.target.spec.simulated is not None
    plan = Plan.model_validate(
        {
            "run_id": run_id,
            "tool_version": __version__,
            "division": division,
            "workload_name": cell.workload.metadata.name,
            "workload": workload,
            "storage_name": cell.target.metadata.name,
            "storage": cell.target.spec,
            "settings": cell.settings,
            "dataset": DatasetRef(
                directory=dataset_directory(cell),
                format=workload.dataset.format,
                num_files=len(manifest.size_bytes),
                num_samples=int(manifest.num_samples.sum()),
                total_bytes=manifest.total_bytes,
                num_prefixes=manifest.num_prefixes,
                manifest_digest="" if simulated else manifest.digest,
            ),
            "overrides": overrides,
        }
    )
    size = len(plan.canonical_json())
    if size > MAX_PLAN_BYTES:
        raise UsageError(
            "plan",
            f"the plan document has {size} bytes, more than {MAX_PLAN_BYTES}",
            "shorten descriptions and labels",
        )
    check_budget(plan, estimate(plan))
    return plan


def target_root(target: StorageTarget) -> Path | None:
    """Return the directory that holds data sets on a local target; None where there is none.

    Raises:
        UsageError: The target is not one that the local launcher can read.
    """
    if target.spec.directory is not None:
        return Path(target.spec.directory.path).expanduser().resolve()
    if target.spec.simulated is not None or target.spec.object is not None:
        return None
    raise UsageError(
        f"storage target {target.metadata.name}",
        f"is of kind {target.spec.kind}, which the local launcher cannot read",
        "choose a directory, object or simulated target",
    )
