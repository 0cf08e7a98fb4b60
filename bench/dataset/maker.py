"""Writing the files of a data set: in parallel, each under its name only when it is whole."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.dataset.checksums import Crc32c
from bench.dataset.content import SCRATCH_BYTES, file_parts
from bench.dataset.journal import Journal
from bench.dataset.layout import DATA_NAME
from bench.dataset.progress import REPORT_SECONDS, OnProgress, Progress
from bench.dataset.shape import file_sizes, object_name, samples_in_files
from bench.dataset.writer import FileWriter, new_stage
from bench.errors import DatasetError
from bench.spec.documents import Dataset

__all__ = ["Maker", "check_space"]

BATCH_BYTES = 64 * 2**20
BATCH_FILES = 256
"""Files synced together: one syncfs for many small files instead of one fdatasync each."""

SPARE_RATIO = 1.02
"""Free space asked for, as a multiple of the data: room for metadata."""


def check_space(directory: Path, sizes: npt.NDArray[np.int64]) -> None:
    """Refuse to begin what would not fit.

    Args:
        directory: Existing, on the file system that is to take the files.
        sizes: Shape (n,), bytes of each file.

    Raises:
        DatasetError: Too few bytes or inodes are free.
        OSError: As the file system says.
    """
    system = os.statvfs(directory)
    unit = system.f_frsize
    need = int((-(-sizes // unit) * unit).sum() * SPARE_RATIO)
    free = system.f_bavail * unit
    if system.f_blocks and need > free:  # some remote file systems tell no size at all
        raise DatasetError(
            str(directory),
            f"the data set needs {need / 1e9:.2f} GB more, {free / 1e9:.2f} GB are free",
            "free space or choose a smaller --dataset-size",
        )
    if system.f_files and len(sizes) > system.f_favail:
        raise DatasetError(
            str(directory),
            f"the data set needs {len(sizes)} more files, {system.f_favail} inodes are free",
            "use another file system or choose a smaller --dataset-size",
        )


class Maker:
    """One call's work.

    Args:
        directory: Of the data set.
        dataset: What to make.
        journal: Says what is whole already; takes what becomes so.
        progress: Called a few times a second.
        clock: For rates.
    """

    def __init__(
        self,
        directory: Path,
        dataset: Dataset,
        journal: Journal,
        progress: OnProgress,
        clock: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._dataset = dataset
        self._journal = journal
        self._progress = progress
        self._clock = clock
        self._sizes = file_sizes(dataset)
        self._counts = samples_in_files(dataset)
        self._stop = threading.Event()
        self._scratch = threading.local()
        self._bytes_done = 0
        self._lock = threading.Lock()

    def run(self, workers: int) -> None:
        """Make what is missing; on any way out but the good one, remove what is not whole.

        Args:
            workers: Threads. AES holds the interpreter lock, jpeg encoding, CRC-32, writing
                and syncing do not.

        Raises:
            DatasetError: It would not fit.
            OSError: As the file system says.
        """
        self._remove_temporaries()
        resumed = bool(self._journal.done)
        todo = [i for i in range(len(self._sizes)) if not self._is_whole(i)]
        check_space(self._directory, self._sizes[todo])
        for parent in sorted({os.path.dirname(object_name(self._dataset, i)) for i in todo}):
            os.makedirs(self._directory / parent, exist_ok=True)
        total = int(self._sizes[todo].sum())
        action = "resuming" if resumed else "making"
        begin = self._clock()

        def report() -> None:
            done, seconds = len(self._journal.done), self._clock() - begin
            self._progress(
                Progress(action, done, len(self._sizes), self._bytes_done, total, seconds)
            )

        with ThreadPoolExecutor(workers, thread_name_prefix="make") as pool:
            futures: set[Future[None]] = set()
            try:
                futures = {pool.submit(self._make, batch) for batch in self._batches(todo)}
                while futures:
                    finished, futures = wait(futures, REPORT_SECONDS, FIRST_COMPLETED)
                    for future in finished:
                        future.result()
                    report()
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                self._remove_temporaries()
                raise

    def _is_whole(self, index: int) -> bool:
        if index not in self._journal.done:
            return False
        try:
            found = os.stat(self._path(index)).st_size
        except FileNotFoundError:
            found = -1
        if found == self._sizes[index]:
            return True
        del self._journal.done[index]
        return False

    def _remove_temporaries(self) -> None:
        for path in (self._directory / DATA_NAME).glob("*/.*.tmp"):
            path.unlink(missing_ok=True)

    def _batches(self, todo: list[int]) -> Iterator[list[int]]:
        batch: list[int] = []
        size = 0
        for index in todo:
            batch.append(index)
            size += int(self._sizes[index])
            if size >= BATCH_BYTES or len(batch) >= BATCH_FILES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _path(self, index: int) -> str:
        return f"{self._directory}/{object_name(self._dataset, index)}"

    def _temporary(self, index: int) -> str:
        directory, name = os.path.split(self._path(index))
        return f"{directory}/.{name}.tmp"

    def _make(self, batch: list[int]) -> None:
        """Make some files, bring them to the medium together, then give them their names."""
        alone = len(batch) == 1
        made: list[tuple[int, int]] = []
        for index in batch:
            crc = self._write(index, alone=alone)
            if crc is None:
                return
            made.append((index, crc))
        if not alone:
            self._sync()
            for index in batch:
                self._drop(index)
        if self._stop.is_set():
            return
        for index in batch:
            os.rename(self._temporary(index), self._path(index))
        self._journal.add(made)

    def _write(self, index: int, *, alone: bool) -> int | None:
        """Write one temporary file; return its CRC-32C, or None when told to stop.

        Args:
            index: Of the file.
            alone: Sync it by itself.
        """
        if not hasattr(self._scratch, "buffer"):
            self._scratch.buffer = memoryview(bytearray(SCRATCH_BYTES))
            self._scratch.stage = new_stage()
        size, count = int(self._sizes[index]), int(self._counts[index])
        checksum = Crc32c()
        writer = FileWriter(self._temporary(index), size, self._scratch.stage)
        try:
            for offset, part in file_parts(self._dataset, index, size, count, self._scratch.buffer):
                if self._stop.is_set():
                    return None
                checksum.add(offset, part)
                writer.add(offset, part)
                with self._lock:
                    self._bytes_done += len(part)
            writer.finish()
            if alone:
                writer.sync()
        finally:
            writer.close()
        return checksum.value

    def _drop(self, index: int) -> None:
        """Let a small file go from the page cache, after it has reached the medium."""
        fd = os.open(self._temporary(index), os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)

    def _sync(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(fd):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), str(self._directory))
        finally:
            os.close(fd)
