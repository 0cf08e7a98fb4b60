"""In which order each rank reads which samples: seeded, without overlap or loss.

A permutation of the epoch's units (files, shards or samples) is shared by all ranks; each
takes its own stride of it. Everything derives from (seed, shuffle_seed, epoch). Batches are
computed a window at a time, in columns: what is not read yet is not planned yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.dataset.manifest import Manifest
from bench.dataset.permutation import Permutation, shuffled
from bench.errors import UsageError
from bench.spec.documents import Access

__all__ = ["EXTENT_DTYPE", "Batch", "check_partition", "epoch_batches", "num_batches"]

EXTENT_DTYPE = np.dtype(
    [("file", "<i8"), ("offset", "<i8"), ("length", "<i8"), ("num_samples", "<i4")]
)
"""One byte range of one file and the samples in it."""

WINDOW_SAMPLES = 16384
"""Planned at once: columns of this length cost some ten ms, and less than a MiB."""

Column = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one step of one rank.

    Attributes:
        num_samples: In all extents.
        payload_bytes: Of all extents; what lies in the files, framing included.
        extents: Shape (n,), EXTENT_DTYPE, in reading order.
    """

    num_samples: int
    payload_bytes: int
    extents: npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class _Runs:
    """Runs of consecutive samples of a file, in reading order; each column of shape (n,)."""

    files: Column
    first: Column
    """First sample of the run inside its file."""
    counts: Column


def _seeds(access: Access, seed: int, epoch: int) -> tuple[int, int, int]:
    return seed, access.shuffle_seed, epoch


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
) -> _Runs:
    """Return a rank's runs where whole files, or shards in sequence, are read."""
    counts = manifest.num_samples
    seeds = _seeds(access, seed, epoch)
    if _splits_shards(manifest, access, num_ranks):
        start, stop = _rank_samples(manifest, rank, num_ranks)
        begins = np.cumsum(counts) - counts
        low = np.maximum(begins, start)
        high = np.minimum(begins + counts, stop)
        files = np.flatnonzero(high > low)
        files = files[shuffled(len(files), seeds=seeds)]
        return _Runs(files, (low - begins)[files], (high - low)[files])
    files = shuffled(len(counts), seeds=seeds)[rank::num_ranks]
    return _Runs(files, np.zeros_like(files), counts[files])


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
    order = shuffled(len(counts), seeds=_seeds(access, seed, epoch))
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
    windows = max(1, WINDOW_SAMPLES // batch_size) * batch_size
    if access.pattern == "random-samples":
        total = _rank_total(
            manifest, access, rank=rank, num_ranks=num_ranks, epoch=epoch, seed=seed
        )
        ends = np.cumsum(manifest.num_samples)
        order = Permutation(manifest.total_samples, seeds=_seeds(access, seed, epoch))
        for begin in range(0, total, windows):
            starts = np.arange(begin, min(begin + windows, total))
            samples = order[starts * num_ranks + rank]
            files = np.searchsorted(ends, samples, side="right")
            first = samples - (ends - manifest.num_samples)[files]
            runs = _Runs(files, first, np.ones_like(files))
            yield from _batches(manifest, runs, starts - begin, batch_size)
        return
    runs = _runs(manifest, access, rank=rank, num_ranks=num_ranks, epoch=epoch, seed=seed)
    ends = np.cumsum(runs.counts)
    total = int(ends[-1]) if len(ends) else 0
    for begin in range(0, total, windows):
        end = min(begin + windows, total)
        starts, part = _cut(runs, ends, begin, end, batch_size)
        yield from _batches(manifest, part, starts - begin, batch_size)


def _cut(runs: _Runs, ends: Column, begin: int, end: int, batch_size: int) -> tuple[Column, _Runs]:
    """Cut runs where batches end.

    Args:
        runs: Of a rank.
        ends: Samples up to the end of each run, shape (n,).
        begin: First sample of the window, in reading order; the start of a batch.
        end: Last one, exclusive.
        batch_size: Samples of a batch.

    Returns:
        The first sample of each part, in reading order, and the parts.
    """
    low, high = np.searchsorted(ends, (begin, end), side="right")
    starts = np.union1d(np.arange(begin, end, batch_size), ends[low:high])
    starts = starts[starts < end]
    which = low + np.searchsorted(ends[low : high + 1], starts, side="right")
    inside = starts - (ends[which] - runs.counts[which])
    counts = np.diff(starts, append=end)
    return starts, _Runs(runs.files[which], runs.first[which] + inside, counts)


def _batches(manifest: Manifest, parts: _Runs, starts: Column, batch_size: int) -> Iterator[Batch]:
    """Yield the batches of a window from parts that do not straddle them.

    Args:
        manifest: The data set.
        parts: In reading order.
        starts: First sample of each part, counted from the start of the window.
        batch_size: Samples of a batch.
    """
    files, counts = parts.files, parts.counts
    strides = manifest.size_bytes[files] // manifest.num_samples[files]
    extents = np.empty(len(files), EXTENT_DTYPE)
    extents["file"] = files
    extents["offset"] = parts.first * strides
    extents["length"] = counts * strides
    extents["num_samples"] = counts
    edges = np.flatnonzero(starts % batch_size == 0)
    samples = np.add.reduceat(counts, edges).tolist()
    payload = np.add.reduceat(extents["length"], edges).tolist()
    limits = [*edges.tolist(), len(files)]
    for i in range(len(edges)):
        yield Batch(samples[i], payload[i], extents[limits[i] : limits[i + 1]])
