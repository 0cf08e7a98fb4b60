"""Make a data set: in parallel, resumable, atomic per file, never on top of foreign files."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.dataset.content import CHUNK_BYTES, check_dataset, crc32c, file_parts
from bench.dataset.manifest import MANIFEST_NAME, Manifest
from bench.dataset.shape import (
    GENERATOR_VERSION,
    dataset_hash,
    directory_name,
    file_sizes,
    object_name,
    samples_in_files,
)
from bench.dataset.verify import check
from bench.errors import DatasetError
from bench.spec.documents import Dataset

__all__ = ["Progress", "ensure", "generate", "remove"]

JOURNAL_NAME = ".journal.jsonl"
BATCH_BYTES = 64 * 2**20
BATCH_FILES = 256
"""Files synced together: one syncfs for many small files instead of one fdatasync each."""

SPARE_RATIO = 1.02
"""Free space asked for, as a multiple of the data: room for metadata."""

DONE_OR_STARTED = frozenset({MANIFEST_NAME, JOURNAL_NAME, "data", f".{MANIFEST_NAME}.tmp"})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far generation or verification is.

    Attributes:
        action: "making", "resuming", "checking" or "verifying".
        files: Done.
        num_files: In all.
        bytes: Done in this call.
        total_bytes: To do in this call.
        seconds: Since it began.
    """

    action: str
    files: int
    num_files: int
    bytes: int
    total_bytes: int
    seconds: float


OnProgress = Callable[[Progress], None]


def ensure(
    root: Path,
    name: str,
    dataset: Dataset,
    *,
    workers: int,
    progress: OnProgress,
    clock: Callable[[], float] = time.monotonic,
) -> Manifest:
    """Return the data set's manifest, making or resuming it where needed, checking it where not.

    Raises:
        DatasetError: It cannot be made, or what is there is damaged.
    """
    directory = root / directory_name(name, dataset)
    if (directory / MANIFEST_NAME).exists():
        manifest = Manifest.load(directory)
        check(directory, manifest, expected=dataset)
        return manifest
    return generate(root, name, dataset, workers=workers, progress=progress, clock=clock)


def generate(
    root: Path,
    name: str,
    dataset: Dataset,
    *,
    workers: int,
    progress: OnProgress,
    clock: Callable[[], float] = time.monotonic,
) -> Manifest:
    """Make a data set below `root`, or finish one that was begun.

    Every file appears under its name only when it is whole and on the medium. Stopping at any
    moment, by a signal as well, leaves whole files, which the next call keeps.

    Args:
        root: The target's directory; made where missing.
        name: Of the workload.
        dataset: What to make.
        workers: Threads; generators and checksums release the GIL.
        progress: Called a few times a second.
        clock: For rates.

    Raises:
        DatasetError: No space, no permission, or the directory holds foreign files.
    """
    check_dataset(dataset)
    directory = root / directory_name(name, dataset)
    with _edge(directory), contextlib.ExitStack() as stack:
        directory.mkdir(parents=True, exist_ok=True)
        _refuse_foreign(directory)
        _lock(directory, stack)
        journal = _Journal(directory / JOURNAL_NAME, dataset)
        stack.callback(journal.close)
        _Maker(directory, dataset, journal, progress, clock).run(workers)
        crcs = np.array([journal.done[i] for i in range(len(journal.done))], np.uint32)
        manifest = Manifest.of_files(name, dataset, crcs)
        manifest.save(directory)
        journal.remove()
        return manifest


@contextlib.contextmanager
def _edge(directory: Path) -> Iterator[None]:
    """Word the file system's refusals."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DatasetError(
                str(directory),
                f"the disk or quota is full ({os.strerror(error.errno)})",
                "free space or choose a smaller --dataset-size, then run again: whole files "
                "are kept",
            ) from error
        raise DatasetError(
            str(error.filename or directory),
            f"cannot be written ({error.strerror})",
            "choose a writable storage.directory.path",
        ) from error


def _refuse_foreign(directory: Path) -> None:
    found = {entry.name for entry in os.scandir(directory)}
    foreign = sorted(n for n in found - DONE_OR_STARTED if not n.startswith(".lock"))
    ours = not found or JOURNAL_NAME in found or MANIFEST_NAME in found
    if foreign or not ours:
        first = foreign[0] if foreign else min(found)
        raise DatasetError(
            str(directory / first),
            "the data set's directory holds something that bench did not make",
            "move it away; nothing was written",
        )


def _lock(directory: Path, stack: contextlib.ExitStack) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    stack.callback(os.close, fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DatasetError(
            str(directory), "another process is making this data set", "wait for it to finish"
        ) from error


class _Journal:
    """Files that are whole: a line each, appended when the file is on the medium."""

    def __init__(self, path: Path, dataset: Dataset) -> None:
        self.done: dict[int, int] = {}
        """CRC-32C by file index."""
        self._path = path
        head = {"generator_version": GENERATOR_VERSION, "dataset": dataset_hash(dataset)}
        self._read(head)
        self._file = path.open("ab", buffering=0)
        if self._file.tell() == 0:
            self._file.write(json.dumps(head).encode() + b"\n")
        self._lock = threading.Lock()

    def _read(self, head: dict[str, object]) -> None:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        whole = data.rfind(b"\n") + 1  # a stop in mid-write leaves half a line
        if whole != len(data):
            os.truncate(self._path, whole)
        lines = data[:whole].splitlines()
        if lines and json.loads(lines[0]) != head:
            raise DatasetError(
                str(self._path),
                "the data set was begun by another version of bench",
                "remove its directory and run again",
            )
        for line in lines[1:]:
            index, crc = line.split()
            self.done[int(index)] = int(crc)

    def add(self, entries: list[tuple[int, int]]) -> None:
        """Note files that are whole."""
        with self._lock:
            self._file.write(b"".join(b"%d %d\n" % entry for entry in entries))
            self.done.update(entries)

    def close(self) -> None:
        self._file.close()

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


class _Maker:
    """One call's work."""

    def __init__(
        self,
        directory: Path,
        dataset: Dataset,
        journal: _Journal,
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
        self._remove_temporaries()
        todo = [i for i in range(len(self._sizes)) if not self._is_whole(i)]
        total = int(self._sizes[todo].sum()) if todo else 0
        self._check_space(total)
        action = "resuming" if self._journal.done else "making"
        begin = self._clock()
        for parent in {os.path.dirname(object_name(self._dataset, i)) for i in todo}:
            (self._directory / parent).mkdir(parents=True, exist_ok=True)
        batches = list(self._batches(todo))

        def report() -> None:
            seconds = self._clock() - begin
            done = len(self._journal.done)
            self._progress(
                Progress(action, done, len(self._sizes), self._bytes_done, total, seconds)
            )

        with ThreadPoolExecutor(workers, thread_name_prefix="make") as pool:
            futures: set[Future[None]] = {pool.submit(self._make, batch) for batch in batches}
            try:
                while futures:
                    finished, futures = wait(futures, timeout=0.25, return_when=FIRST_COMPLETED)
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
        path = self._directory / object_name(self._dataset, index)
        if path.exists() and path.stat().st_size == self._sizes[index]:
            return True
        del self._journal.done[index]
        return False

    def _remove_temporaries(self) -> None:
        for path in self._directory.glob("data/*/.*.tmp"):
            path.unlink(missing_ok=True)

    def _check_space(self, total: int) -> None:
        free = shutil.disk_usage(self._directory).free
        if total * SPARE_RATIO > free:
            raise DatasetError(
                str(self._directory),
                f"the data set needs {total / 1e9:.2f} GB more, {free / 1e9:.2f} GB are free",
                "free space or choose a smaller --dataset-size",
            )

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

    def _make(self, batch: list[int]) -> None:
        """Make some files, bring them to the medium together, then give them their names."""
        made: list[tuple[int, int]] = []
        try:
            for index in batch:
                if self._stop.is_set():
                    break
                made.append((index, self._write(index)))
            if len(made) > 1:
                self._sync()
        finally:
            if self._stop.is_set():
                made.clear()
        for index, _ in made:
            self._temporary(index).rename(self._directory / object_name(self._dataset, index))
        self._journal.add(made)

    def _temporary(self, index: int) -> Path:
        path = self._directory / object_name(self._dataset, index)
        return path.with_name(f".{path.name}.tmp")

    def _write(self, index: int) -> int:
        """Write one temporary file; return its CRC-32C."""
        buffer = getattr(self._scratch, "buffer", None)
        if buffer is None:
            buffer = self._scratch.buffer = memoryview(bytearray(2 * CHUNK_BYTES))
        size, count = int(self._sizes[index]), int(self._counts[index])
        crc = 0
        fd = os.open(self._temporary(index), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            for part in file_parts(self._dataset, index, size, count, buffer):
                if self._stop.is_set():
                    return 0
                crc = crc32c(part, crc)
                left = part
                while left:
                    left = left[os.write(fd, left) :]
                with self._lock:
                    self._bytes_done += len(part)
            if size >= BATCH_BYTES:
                os.fdatasync(fd)
                # What was written is not what is measured: leave the page cache to others.
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
        return crc

    def _sync(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(fd):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), str(self._directory))
        finally:
            os.close(fd)


def remove(directory: Path) -> None:
    """Remove a data set that bench made; nothing where there is none.

    Raises:
        DatasetError: The directory holds foreign files, or cannot be removed.
    """
    if not directory.exists():
        return
    with _edge(directory):
        _refuse_foreign(directory)
        shutil.rmtree(directory)
