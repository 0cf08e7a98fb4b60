"""Is a data set what its manifest says? Quickly by sizes, or byte by byte."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np

from bench.dataset.checksums import crc32c
from bench.dataset.content import SCRATCH_BYTES, file_parts
from bench.dataset.layout import MANIFEST_NAME
from bench.dataset.manifest import Manifest
from bench.dataset.progress import REPORT_SECONDS
from bench.dataset.shape import dataset_hash
from bench.errors import DatasetError
from bench.spec.documents import Dataset

__all__ = ["check", "first_difference", "verify"]

REMAKE = "run `bench prepare --remake` to make the data set again"

STAT_THREADS = 8
"""Metadata of remote file systems takes a round trip a file."""

FILES_PER_TASK = 512
SAMPLED_FILES = 32
SAMPLED_PLACES = (0.25, 0.5, 0.75)
"""Where in a sampled file to look for zeros, as shares of its size."""

SAMPLE_BYTES = 4096
MIN_SPARSE_BYTES = 4096
"""Smaller files may lie inside their inode and take no block of their own."""

SPARSE_RATIO = 0.9
"""Allocated share of a file below which it has holes; incompressible data cannot shrink."""

READ_BYTES = 4 * 2**20
MAX_NAMED = 3


def check(directory: Path, manifest: Manifest, *, expected: Dataset | None) -> None:
    """Compare names, sizes and allocation with the manifest, and look for zeros in a sample.

    Zeros are looked for in `SAMPLED_FILES` files; `verify` looks at every byte.

    Raises:
        DatasetError: Files are missing, truncated, sparse or zero-filled, or the data set is
            another one than expected. Names the first few and counts the rest.
    """
    if expected is not None and dataset_hash(expected) != dataset_hash(manifest.dataset):
        raise DatasetError(
            str(directory), "holds another data set than the workload describes", REMAKE
        )
    problems, sparse = _stat_all(str(directory), manifest)
    # Some remote file systems report no allocation at all; then it says nothing.
    problems += [f"{name} is sparse" for name in sparse]
    problems += _zero_filled(str(directory), manifest, set(sparse))
    _raise_problems(directory, problems)


def _raise_problems(directory: Path, problems: list[str]) -> None:
    if problems:
        more = f" and {len(problems) - MAX_NAMED} more" if len(problems) > MAX_NAMED else ""
        raise DatasetError(str(directory), "; ".join(problems[:MAX_NAMED]) + more, REMAKE)


def _stat_all(directory: str, manifest: Manifest) -> tuple[list[str], list[str]]:
    """Return what is wrong with files by their metadata, and the names of sparse ones."""

    def some(start: int) -> tuple[list[str], list[str], bool]:
        problems: list[str] = []
        sparse: list[str] = []
        any_blocks = False
        stop = start + FILES_PER_TASK
        names = manifest.names[start:stop].tolist()
        for raw, size in zip(names, manifest.size_bytes[start:stop].tolist(), strict=True):
            name = raw.decode()
            try:
                found, blocks = _size_and_blocks(f"{directory}/{name}")
            except FileNotFoundError:
                problems.append(f"{name} is missing")
                continue
            except OSError as error:
                problems.append(f"{name} cannot be looked at ({error.strerror})")
                continue
            any_blocks = any_blocks or blocks > 0
            if found != size:
                problems.append(f"{name} has {found} bytes instead of {size}")
            elif size >= MIN_SPARSE_BYTES and blocks * 512 < size * SPARSE_RATIO:
                sparse.append(name)
        return problems, sparse, any_blocks

    starts = range(0, len(manifest.names), FILES_PER_TASK)
    with ThreadPoolExecutor(min(STAT_THREADS, len(starts))) as pool:
        told = list(pool.map(some, starts))
    problems = [problem for part, _, _ in told for problem in part]
    if not any(any_blocks for _, _, any_blocks in told) and not _reports_blocks(directory):
        return problems, []
    return problems, [name for _, part, _ in told for name in part]


def _size_and_blocks(path: str) -> tuple[int, int]:
    """Return bytes, and 512-byte blocks allocated."""
    status = os.stat(path)
    return status.st_size, status.st_blocks


def _reports_blocks(directory: str) -> bool:
    """Whether the file system tells what it has allocated: it does for our own manifest."""
    try:
        return _size_and_blocks(f"{directory}/{MANIFEST_NAME}")[1] > 0
    except OSError:
        return False


def _zero_filled(directory: str, manifest: Manifest, known: set[str]) -> Iterator[str]:
    """Look at a few blocks of a few files; our bytes are never all zero."""
    rng = np.random.default_rng(0)
    for index in sorted(rng.permutation(len(manifest.names))[:SAMPLED_FILES].tolist()):
        name = manifest.names[index].decode()
        size = int(manifest.size_bytes[index])
        if name in known or size < SAMPLE_BYTES:
            continue
        try:
            fd = os.open(f"{directory}/{name}", os.O_RDONLY)
        except FileNotFoundError:
            continue  # named already
        except OSError as error:
            yield f"{name} cannot be read ({error.strerror})"
            continue
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)  # no read-ahead: stay cold
            blocks = [os.pread(fd, SAMPLE_BYTES, int(size * at)) for at in SAMPLED_PLACES]
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            yield f"{name} cannot be read ({error.strerror})"
            continue
        finally:
            os.close(fd)
        if any(len(block) >= 512 and not any(block) for block in blocks):
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
        progress: Called a few times a second with (files, num_files, bytes, total_bytes,
            seconds).
        clock: For rates.

    Raises:
        DatasetError: Names the damaged files and where they differ first.
    """
    check(directory, manifest, expected=None)
    _Verifier(directory, manifest, workers, progress, clock).run()


class _Verifier:
    """One call's work."""

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        workers: int,
        progress: Callable[[int, int, int, int, float], None],
        clock: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._manifest = manifest
        self._workers = workers
        self._progress = progress
        self._clock = clock
        self._begin = clock()
        self._next = iter(range(len(manifest.names)))
        self._damaged: list[int] = []
        self._unreadable: dict[int, OSError] = {}
        self._files = self._bytes = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def run(self) -> None:
        """Read all files; raise what was found."""
        with ThreadPoolExecutor(self._workers, thread_name_prefix="verify") as pool:
            futures = {pool.submit(self._work) for _ in range(self._workers)}
            try:
                while futures:
                    finished, futures = wait(futures, REPORT_SECONDS, FIRST_EXCEPTION)
                    for future in finished:
                        future.result()
                    self._report()
            finally:
                self._stop.set()
        _raise_problems(self._directory, self._problems())

    def _report(self) -> None:
        manifest = self._manifest
        seconds = self._clock() - self._begin
        self._progress(self._files, len(manifest.names), self._bytes, manifest.total_bytes, seconds)

    def _work(self) -> None:
        buffer = memoryview(bytearray(READ_BYTES))
        while not self._stop.is_set():
            with self._lock:
                index = next(self._next, None)
            if index is None:
                return
            try:
                if self._crc(index, buffer) != int(self._manifest.crc32c[index]):
                    self._damaged.append(index)
            except OSError as error:
                self._unreadable[index] = error
            with self._lock:
                self._files += 1

    def _crc(self, index: int, buffer: memoryview) -> int:
        crc = 0
        fd = os.open(self._directory / self._manifest.names[index].decode(), os.O_RDONLY)
        try:
            while not self._stop.is_set() and (got := os.readv(fd, [buffer])):
                crc = crc32c(buffer[:got], crc)
                with self._lock:
                    self._bytes += got
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
        return crc

    def _problems(self) -> list[str]:
        problems = []
        for index in sorted([*self._damaged, *self._unreadable]):
            name = self._manifest.names[index].decode()
            if index in self._unreadable:
                reason = self._unreadable[index].strerror or errno.errorcode[errno.EIO]
                problems.append(f"{name} cannot be read ({reason})")
                continue
            at = None
            if len(problems) < MAX_NAMED:  # those that are named; each costs making the file
                at = first_difference(self._directory, self._manifest, index)
            where = f" from byte {at}" if at is not None else ""
            problems.append(f"{name} differs from what was written{where}")
        return problems


def first_difference(directory: Path, manifest: Manifest, index: int) -> int | None:
    """Return the first byte of a file that is not what the generator gives; None for none.

    Raises:
        OSError: As the file system says.
    """
    buffer = memoryview(bytearray(SCRATCH_BYTES))
    size, count = int(manifest.size_bytes[index]), int(manifest.num_samples[index])
    first: int | None = None
    fd = os.open(directory / manifest.names[index].decode(), os.O_RDONLY)
    try:
        for offset, part in file_parts(manifest.dataset, index, size, count, buffer):
            if first is not None and offset > first:
                continue
            found = np.frombuffer(os.pread(fd, len(part), offset), np.uint8)
            same = found == np.frombuffer(part, np.uint8)[: len(found)]
            if not same.all():
                first = offset + int(np.argmin(same))
            elif len(found) < len(part):
                first = offset + len(found)
    finally:
        os.close(fd)
    return first
