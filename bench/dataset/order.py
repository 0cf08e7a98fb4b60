"""In which order each rank reads which samples: seeded, without overlap or loss.

A permutation of the epoch's units (files, shards or samples) is shared by all ranks; each
takes its own stride of it. Everything derives from (seed, shuffle_seed, epoch).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.dataset.manifest import Manifest
from bench.errors import UsageError
from bench.spec.documents import Access

__all__ = ["EXTENT_DTYPE", "Batch", "check_partition", "epoch_batches", "num_batches"]

EXTENT_DTYPE = np.dtype(
    [("file", "<i8"), ("offset", "<i8"), ("length", "<i8"), ("num_samples", "<i4")]
)
"""One byte range of one file and the samples in it."""

Runs = npt.NDArray[np.int64]
"""Shape (n, 3): file, first sample, number of samples."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one step of one rank."""

    num_samples: int
    payload_bytes: int
    extents: npt.NDArray[np.void]


def _rng(access: Access, seed: int, epoch: int) -> np.random.Generator:
    return np.random.default_rng([seed, access.shuffle_seed, epoch])


def _check_pattern(access: Access) -> None:
    if access.pattern not in ("shuffled-files", "sequential-shards", "random-samples"):
        raise UsageError(
            "workload.access.pattern",
            f"{access.pattern} is not in this version",
            "use shuffled-files, sequential-shards or random-samples",
        )


def _splits_shards(manifest: Manifest, access: Access, num_ranks: int) -> bool:
    """Whether shards must be cut so that no rank is left without samples."""
    return access.pattern == "sequential-shards" and len(manifest.size_bytes) < num_ranks


def _rank_samples(manifest: Manifest, rank: int, num_ranks: int) -> tuple[int, int]:
    """Return the range of a rank where shards are cut: samples [start, stop) of all."""
    total = manifest.total_samples
    return total * rank // num_ranks, total * (rank + 1) // num_ranks


def _runs(
    manifest: Manifest, access: Access, *, rank: int, num_ranks: int, epoch: int, seed: int
) -> Runs:
    """Return a rank's runs of consecutive samples, in reading order."""
    counts = manifest.num_samples
    rng = _rng(access, seed, epoch)
    if access.pattern == "random-samples":
        mine = rng.permutation(int(counts.sum()))[rank::num_ranks]
        first = np.cumsum(counts) - counts
        files = np.searchsorted(first, mine, side="right") - 1
        return np.stack([files, mine - first[files], np.ones_like(mine)], axis=1)
    if _splits_shards(manifest, access, num_ranks):
        start, stop = _rank_samples(manifest, rank, num_ranks)
        first = np.cumsum(counts) - counts
        low = np.maximum(first, start)
        high = np.minimum(first + counts, stop)
        files = rng.permutation(np.flatnonzero(high > low))
        return np.stack([files, (low - first)[files], (high - low)[files]], axis=1)
    files = rng.permutation(len(counts))[rank::num_ranks]
    return np.stack([files, np.zeros_like(files), counts[files]], axis=1)


def _rank_total(
    manifest: Manifest, access: Access, *, rank: int, num_ranks: int, epoch: int, seed: int
) -> int:
    """Return the samples of a rank in an epoch."""
    counts = manifest.num_samples
    if access.pattern == "random-samples":
        total = manifest.total_samples
        return total // num_ranks + (rank < total % num_ranks)
    if _splits_shards(manifest, access, num_ranks):
        start, stop = _rank_samples(manifest, rank, num_ranks)
        return stop - start
    if (counts == counts[0]).all():
        files = len(counts)
        return int(counts[0]) * (files // num_ranks + (rank < files % num_ranks))
    order = _rng(access, seed, epoch).permutation(len(counts))
    return int(counts[order[rank::num_ranks]].sum())


def num_batches(
    manifest: Manifest,
    access: Access,
    *,
    batch_size: int,
    rank: int,
    num_ranks: int,
    epoch: int = 0,
    seed: int = 0,
) -> int:
    """Return the batches of a rank in an epoch; the last one may be short."""
    total = _rank_total(manifest, access, rank=rank, num_ranks=num_ranks, epoch=epoch, seed=seed)
    return -(-total // batch_size)


def check_partition(manifest: Manifest, access: Access, *, batch_size: int, num_ranks: int) -> None:
    """Refuse a data set that cannot be shared out.

    Raises:
        UsageError: The pattern is unknown here, a rank would have no sample, or one step of
            all ranks needs more samples than there are.
    """
    _check_pattern(access)
    total = manifest.total_samples
    units = total if access.pattern != "shuffled-files" else len(manifest.size_bytes)
    if units < num_ranks:
        raise UsageError(
            "data set",
            f"{units} {'files' if units != total else 'samples'} cannot be shared by "
            f"{num_ranks} ranks: some would have none",
            "use fewer ranks or a larger data set (--dataset-size)",
        )
    if batch_size * num_ranks > total:
        raise UsageError(
            "workload.batch_size",
            f"{batch_size} samples x {num_ranks} ranks are more than the data set's {total}",
            "use a smaller batch, fewer ranks or a larger data set (--dataset-size)",
        )


def epoch_batches(
    manifest: Manifest,
    access: Access,
    *,
    batch_size: int,
    rank: int,
    num_ranks: int,
    epoch: int,
    seed: int,
) -> Iterator[Batch]:
    """Yield a rank's batches of one epoch.

    Args:
        manifest: The data set.
        access: Pattern and shuffle seed.
        batch_size: Samples of a batch; the last one may have fewer.
        rank: 0-based.
        num_ranks: Ranks that share the epoch.
        epoch: 0-based; each has an order of its own.
        seed: Of the repeat.
    """
    _check_pattern(access)
    runs = _runs(manifest, access, rank=rank, num_ranks=num_ranks, epoch=epoch, seed=seed)
    ends = np.cumsum(runs[:, 2])
    total = int(ends[-1]) if len(ends) else 0
    strides = manifest.sample_stride_bytes
    for begin in range(0, total, batch_size):
        end = min(begin + batch_size, total)
        first = int(np.searchsorted(ends, begin, side="right"))
        last = int(np.searchsorted(ends, end, side="left")) + 1
        part = runs[first:last].copy()
        starts = ends[first:last] - part[:, 2]
        skip = np.maximum(0, begin - starts)
        part[:, 2] = np.minimum(end, ends[first:last]) - starts - skip
        part[:, 1] += skip
        yield _batch(manifest, part, strides[part[:, 0]])


def _batch(manifest: Manifest, part: Runs, strides: npt.NDArray[np.int64]) -> Batch:
    extents = np.empty(len(part), EXTENT_DTYPE)
    files = part[:, 0]
    extents["file"] = files
    extents["offset"] = part[:, 1] * strides
    whole = part[:, 2] == manifest.num_samples[files]
    extents["length"] = np.where(whole, manifest.size_bytes[files], part[:, 2] * strides)
    extents["num_samples"] = part[:, 2]
    return Batch(int(part[:, 2].sum()), int(extents["length"].sum()), extents)
