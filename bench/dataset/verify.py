"""Is a data set what its manifest says? Quickly by sizes, or byte by byte."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bench.dataset.content import CHUNK_BYTES, crc32c, file_parts
from bench.dataset.manifest import Manifest
from bench.dataset.shape import dataset_hash
from bench.errors import DatasetError
from bench.spec.documents import Dataset

__all__ = ["check", "first_difference", "verify"]

REMAKE = "run `bench prepare --remake` to make the damaged files again"
SAMPLED_FILES = 16
SAMPLE_BYTES = 4096
SPARSE_RATIO = 0.9
"""Allocated share of a file below which it has holes; incompressible data cannot shrink."""

MAX_NAMED = 3


def check(directory: Path, manifest: Manifest, *, expected: Dataset | None) -> None:
    """Compare names, sizes and allocation with the manifest, and look for zeros in a sample.

    Raises:
        DatasetError: Files are missing, truncated, sparse or zero-filled, or the data set is
            another one than expected. Names the first few and counts the rest.
    """
    if expected is not None and dataset_hash(expected) != dataset_hash(manifest.dataset):
        raise DatasetError(
            str(directory), "holds another data set than the workload describes", REMAKE
        )
    problems = list(_problems(directory, manifest))
    if problems:
        more = f" and {len(problems) - MAX_NAMED} more" if len(problems) > MAX_NAMED else ""
        raise DatasetError(str(directory), "; ".join(problems[:MAX_NAMED]) + more, REMAKE)


def _problems(directory: Path, manifest: Manifest) -> Iterator[str]:
    reports_blocks = False
    sparse: list[str] = []
    for raw, size in zip(manifest.names.tolist(), manifest.size_bytes.tolist(), strict=True):
        name = raw.decode()
        try:
            status = os.stat(directory / name)
        except FileNotFoundError:
            yield f"{name} is missing"
            continue
        if status.st_size != size:
            yield f"{name} has {status.st_size} bytes instead of {size}"
        elif status.st_blocks * 512 < size * SPARSE_RATIO:
            sparse.append(name)
        if status.st_blocks:
            reports_blocks = True
    # Some remote file systems report no blocks at all; then allocation says nothing.
    if reports_blocks or len(sparse) < len(manifest.size_bytes):
        for name in sparse:
            yield f"{name} is sparse"
    yield from _zero_filled(directory, manifest, sparse)


def _zero_filled(directory: Path, manifest: Manifest, known: list[str]) -> Iterator[str]:
    """Look at one block in the middle of a few files; our bytes are never all zero."""
    rng = np.random.default_rng(0)
    count = len(manifest.names)
    for index in sorted(rng.permutation(count)[: max(1, min(SAMPLED_FILES, count // 20))]):
        name = bytes(manifest.names[index]).decode()
        size = int(manifest.size_bytes[index])
        if name in known or size < SAMPLE_BYTES:
            continue
        try:
            with (directory / name).open("rb") as file:
                file.seek(size // 2)
                block = file.read(SAMPLE_BYTES)
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            continue  # missing ones are named already
        if block and not any(block):
            yield f"{name} is filled with zeros"


def verify(
    directory: Path,
    manifest: Manifest,
    *,
    workers: int,
    progress: Callable[[int, int, int, int, float], None],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Read every byte and compare checksums.

    Args:
        directory: Of the data set.
        manifest: Its manifest.
        workers: Threads.
        progress: Called with (files, num_files, bytes, total_bytes, seconds).
        clock: For rates.

    Raises:
        DatasetError: Names the first damaged file and where it differs.
    """
    check(directory, manifest, expected=None)
    begin = clock()
    done = files = 0
    total = manifest.total_bytes
    with ThreadPoolExecutor(workers) as pool:
        for index, crc in enumerate(
            pool.map(
                lambda i: _crc(directory / bytes(manifest.names[i]).decode()),
                range(len(manifest.names)),
            )
        ):
            if crc != int(manifest.crc32c[index]):
                pool.shutdown(wait=False, cancel_futures=True)
                name = manifest.names[index].decode()
                at = first_difference(directory, manifest, index)
                where = f" from byte {at}" if at is not None else ""
                raise DatasetError(
                    str(directory / name), f"differs from what was written{where}", REMAKE
                )
            files += 1
            done += int(manifest.size_bytes[index])
            progress(files, len(manifest.names), done, total, clock() - begin)


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb", buffering=0) as file:
        while part := file.read(CHUNK_BYTES):
            crc = crc32c(part, crc)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return crc


def first_difference(directory: Path, manifest: Manifest, index: int) -> int | None:
    """Return the first byte of a file that is not what the generator gives; None for none."""
    buffer = memoryview(bytearray(2 * CHUNK_BYTES))
    size, count = int(manifest.size_bytes[index]), int(manifest.num_samples[index])
    at = 0
    with (directory / manifest.names[index].decode()).open("rb") as file:
        for part in file_parts(manifest.dataset, index, size, count, buffer):
            found = np.frombuffer(file.read(len(part)), np.uint8)
            same = found == np.frombuffer(part, np.uint8)[: len(found)]
            if not same.all():
                return at + int(np.argmin(same))
            at += len(part)
    return None
