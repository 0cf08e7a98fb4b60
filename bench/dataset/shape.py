"""The shape of a data set as pure functions of its description: sizes, names, identity."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from bench.spec.documents import Dataset

__all__ = [
    "GENERATOR_VERSION",
    "SIZE_BOUNDS",
    "TFRECORD_FRAME_BYTES",
    "dataset_hash",
    "directory_name",
    "file_sizes",
    "npz_overhead_bytes",
    "num_files",
    "object_name",
    "sample_sizes",
    "scaled",
]

GENERATOR_VERSION = 1
"""Counts up whenever the same description would give other bytes."""

SIZE_BOUNDS = (0.05, 4.0)
"""Truncation of sample sizes, as multiples of the mean."""

FILES_PER_DIRECTORY = 4096

TFRECORD_FRAME_BYTES = 16
"""Length (8), its masked CRC (4), the payload's masked CRC (4)."""

NPY_HEADER_BYTES = 128
"""Of both arrays in an npz file, padded by the format's own rule to a multiple of 64."""


def npz_overhead_bytes() -> int:
    """Return what an npz file has beside the bytes of its array `x`.

    Two local headers (30 + 5), two npy headers, an 8-byte label, two central directory
    entries (46 + 5) and the end record (22): APPNOTE.TXT 4.3, NEP 1.
    """
    return 2 * (30 + 5) + 2 * NPY_HEADER_BYTES + 8 + 2 * (46 + 5) + 22


def num_files(dataset: Dataset) -> int:
    """Return the number of files; the last one may hold fewer samples."""
    return -(-dataset.samples // dataset.samples_per_file)


def object_name(dataset: Dataset, index: int) -> str:
    """Return the path of a file below the data set's directory."""
    suffix = {"npz": "npz", "tfrecord": "tfrecord", "jpeg": "jpg", "raw": "bin"}[dataset.format]
    return f"data/{index // FILES_PER_DIRECTORY:05d}/part-{index:08d}.{suffix}"


def sample_sizes(dataset: Dataset, start: int, stop: int) -> npt.NDArray[np.int64]:
    """Return the payload bytes of samples [start, stop), shape (stop - start,).

    A truncated normal by inversion; the size of sample i depends on (seed, i) alone, since
    Philox is a counter-based generator (Salmon et al., SC'11) that can start anywhere.
    """
    mean, stdev = dataset.sample_bytes.mean, dataset.sample_bytes.stdev
    if stdev == 0:
        return np.full(stop - start, mean, np.int64)
    from scipy.special import ndtr, ndtri

    per_block = 4  # 64-bit words of one Philox counter step
    bits = np.random.Philox(key=dataset.seed)
    bits.advance(start // per_block)
    skip = start % per_block
    uniform = np.random.Generator(bits).random(stop - start + skip)[skip:]
    low, high = (ndtr((bound - 1) * mean / stdev) for bound in SIZE_BOUNDS)
    sizes = mean + stdev * ndtri(low + uniform * (high - low))
    rounded: npt.NDArray[np.int64] = np.maximum(1, np.rint(sizes)).astype(np.int64)
    return rounded


def samples_in_files(dataset: Dataset) -> npt.NDArray[np.int64]:
    """Return the samples in each file, shape (num_files,)."""
    counts = np.full(num_files(dataset), dataset.samples_per_file, np.int64)
    counts[-1] = dataset.samples - dataset.samples_per_file * (len(counts) - 1)
    return counts


def file_sizes(dataset: Dataset) -> npt.NDArray[np.int64]:
    """Return the bytes of each file, shape (num_files,)."""
    counts = samples_in_files(dataset)
    if dataset.samples_per_file > 1:
        payload = dataset.sample_bytes.mean * counts
    else:
        payload = sample_sizes(dataset, 0, dataset.samples)
    total = payload
    if dataset.format == "npz":
        total = payload + npz_overhead_bytes()
    elif dataset.format == "tfrecord":
        total = payload + TFRECORD_FRAME_BYTES * counts
    return total


def dataset_hash(dataset: Dataset) -> str:
    """Return 12 hexadecimal digits over everything that shapes the bytes."""
    parts = (
        GENERATOR_VERSION,
        dataset.format,
        dataset.samples,
        dataset.samples_per_file,
        dataset.sample_bytes.mean,
        dataset.sample_bytes.stdev,
        dataset.seed,
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def directory_name(name: str, dataset: Dataset) -> str:
    """Return the data set's directory below a target's root."""
    return f"bench-{name}-{dataset_hash(dataset)}"


def scaled(dataset: Dataset, *, total_bytes: int) -> Dataset:
    """Return the data set with as many files as come nearest to a size, at least one.

    Samples keep their size; only their number changes.
    """
    per_file = dataset.sample_bytes.mean * dataset.samples_per_file
    files = max(1, round(total_bytes / per_file))
    return dataset.model_copy(update={"samples": files * dataset.samples_per_file})
