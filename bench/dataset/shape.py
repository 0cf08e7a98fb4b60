"""The shape of a data set as pure functions of its description: sizes, names, identity."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from bench.errors import DatasetError
from bench.spec.documents import Dataset

__all__ = [
    "GENERATOR_VERSION",
    "SIZE_BOUNDS",
    "TFRECORD_FRAME_BYTES",
    "ZIP64_LIMIT_BYTES",
    "check_shape",
    "dataset_hash",
    "directory_name",
    "file_size",
    "file_sizes",
    "npz_overhead_bytes",
    "num_files",
    "object_name",
    "sample_sizes",
    "samples_in_files",
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

ZIP64_LIMIT_BYTES = 2**32 - 1
"""Entries of this size and more keep their sizes in a zip64 field (APPNOTE.TXT 4.4.8)."""

ZIP64_ENTRY_BYTES = 20
"""The zip64 field of one entry: tag, length, size, compressed size."""

ZIP64_END_BYTES = 56 + 20
"""The zip64 end record and its locator."""

MAX_FILES = 2**26
"""Columns of the manifest stay within memory; no file system wants more in one data set."""

MAX_DATASET_BYTES = 2**62

MIN_JPEG_BYTES = 2048
MAX_JPEG_BYTES = 64 * 2**20
"""Pillow takes images of more than 89 million pixels for an attack; at the generator's
quality these hold 140 MB."""


def npz_overhead_bytes(array_bytes: int) -> int:
    """Return what an npz file has beside the `array_bytes` bytes of its array `x`.

    Two local headers (30 + 5), two npy headers, an 8-byte label, two central directory
    entries (46 + 5) and the end record (22): APPNOTE.TXT 4.3, NEP 1.
    """
    plain = 2 * (30 + 5) + 2 * NPY_HEADER_BYTES + 8 + 2 * (46 + 5) + 22
    zip64 = array_bytes + NPY_HEADER_BYTES >= ZIP64_LIMIT_BYTES
    return plain + zip64 * (2 * ZIP64_ENTRY_BYTES + ZIP64_END_BYTES)


def check_shape(dataset: Dataset) -> None:
    """Refuse descriptions that no file system or format can hold.

    Raises:
        DatasetError: Names the field and a remedy.
    """
    mean, stdev = dataset.sample_bytes.mean, dataset.sample_bytes.stdev
    low, high = (bound * mean if stdev else mean for bound in SIZE_BOUNDS)
    if num_files(dataset) > MAX_FILES:
        raise DatasetError(
            "workload.dataset.samples",
            f"{dataset.samples} samples would make {num_files(dataset)} files, more than "
            f"{MAX_FILES}",
            "use fewer samples, or more of them in a file (samples_per_file)",
        )
    if dataset.samples * (high + TFRECORD_FRAME_BYTES) > MAX_DATASET_BYTES:
        raise DatasetError(
            "workload.dataset",
            f"{dataset.samples} samples of {mean} bytes are more than {MAX_DATASET_BYTES} bytes",
            "use fewer or smaller samples",
        )
    if dataset.format == "jpeg" and not MIN_JPEG_BYTES <= low <= high <= MAX_JPEG_BYTES:
        raise DatasetError(
            "workload.dataset.sample_bytes",
            f"samples of {low:.0f} to {high:.0f} bytes cannot be jpeg images here "
            f"({MIN_JPEG_BYTES} to {MAX_JPEG_BYTES} bytes)",
            "use another mean or stdev, or the raw format",
        )


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
    # Raw words, since only these are promised to stay the same in later versions of numpy;
    # their 53 upper bits are a number in (0, 1).
    words = bits.random_raw(stop - start + skip)[skip:]
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    low, high = (ndtr((bound - 1) * mean / stdev) for bound in SIZE_BOUNDS)
    sizes = mean + stdev * ndtri(low + uniform * (high - low))
    # Far in a tail the inverse is infinite.
    sizes = np.clip(sizes, SIZE_BOUNDS[0] * mean, SIZE_BOUNDS[1] * mean)
    rounded: npt.NDArray[np.int64] = np.maximum(1, np.rint(sizes)).astype(np.int64)
    return rounded


def samples_in_files(dataset: Dataset) -> npt.NDArray[np.int64]:
    """Return the samples in each file, shape (num_files,).

    Raises:
        DatasetError: See `check_shape`.
    """
    check_shape(dataset)
    counts = np.full(num_files(dataset), dataset.samples_per_file, np.int64)
    counts[-1] = dataset.samples - dataset.samples_per_file * (len(counts) - 1)
    return counts


def file_sizes(dataset: Dataset) -> npt.NDArray[np.int64]:
    """Return the bytes of each file, shape (num_files,).

    Raises:
        DatasetError: See `check_shape`.
    """
    counts = samples_in_files(dataset)
    if dataset.samples_per_file > 1:
        payload = dataset.sample_bytes.mean * counts
    else:
        payload = sample_sizes(dataset, 0, dataset.samples)
    if dataset.format == "npz":
        large = payload + NPY_HEADER_BYTES >= ZIP64_LIMIT_BYTES
        return payload + np.where(
            large, npz_overhead_bytes(ZIP64_LIMIT_BYTES), npz_overhead_bytes(0)
        )
    if dataset.format == "tfrecord":
        return payload + TFRECORD_FRAME_BYTES * counts
    return payload


def file_size(dataset: Dataset, index: int) -> int:
    """Return the bytes of one file, without looking at the others."""
    first = index * dataset.samples_per_file
    stop = min(first + dataset.samples_per_file, dataset.samples)
    if dataset.samples_per_file > 1:
        payload = dataset.sample_bytes.mean * (stop - first)
    else:
        payload = int(sample_sizes(dataset, first, stop)[0])
    if dataset.format == "npz":
        return payload + npz_overhead_bytes(payload)
    if dataset.format == "tfrecord":
        return payload + TFRECORD_FRAME_BYTES * (stop - first)
    return payload


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
