"""Which files of an unfinished data set are whole; also the lock of who makes it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import threading
from pathlib import Path

from bench.dataset.layout import JOURNAL_NAME
from bench.dataset.shape import GENERATOR_VERSION, dataset_hash, num_files
from bench.errors import DatasetError
from bench.spec.documents import Dataset

__all__ = ["Journal", "lock"]

NO_LOCKS = frozenset({errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL})
"""Answers of file systems (some of FUSE, NFS without lockd) that know no locks; a data set
is still made there, only without protection against a second process."""


def lock(path: Path) -> int:
    """Open a journal for appending and lock it; return its descriptor.

    Raises:
        DatasetError: Another process holds it.
        OSError: As the file system says.
    """
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise DatasetError(
                str(path.parent),
                "another process is making this data set",
                "wait for it to finish, then run again",
            ) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(fd)
                raise
        # Whoever held it may have finished, and removed it, since it was opened.
        if os.fstat(fd).st_nlink:
            return fd
        os.close(fd)


class Journal:
    """Files that are whole: a line each, appended when the file is on the medium.

    The first line names generator and data set. A line is "index crc32c"; one that a crash
    left unreadable costs no more than making its file again.

    Args:
        directory: Of the data set.
        dataset: What is made there.

    Raises:
        DatasetError: Another process holds it, or another version of bench began it.
        OSError: As the file system says.
    """

    def __init__(self, directory: Path, dataset: Dataset) -> None:
        self.done: dict[int, int] = {}
        """CRC-32C by file index."""
        self._path = directory / JOURNAL_NAME
        self._lock = threading.Lock()
        self._fd = lock(self._path)
        try:
            head = {"generator_version": GENERATOR_VERSION, "dataset": dataset_hash(dataset)}
            self._read(head, num_files(dataset))
        except BaseException:
            self.close()
            raise

    def _read(self, head: dict[str, object], count: int) -> None:
        with open(self._fd, "rb", closefd=False) as file:
            data = file.read()
        whole = data.rfind(b"\n") + 1  # a stop in mid-write leaves half a line
        if whole != len(data):
            os.ftruncate(self._fd, whole)
        if not whole:
            os.write(self._fd, json.dumps(head).encode() + b"\n")
            return
        first, *lines = data[:whole].split(b"\n")
        found: object = None
        with contextlib.suppress(ValueError):
            found = json.loads(first)
        if found != head:
            raise DatasetError(
                str(self._path),
                "the data set was begun by another version of bench",
                "run `bench prepare --remake`, or remove the directory",
            )
        for line in lines:
            with contextlib.suppress(ValueError):
                index, crc = (int(word) for word in line.split())
                if 0 <= index < count and 0 <= crc < 2**32:
                    self.done[index] = crc

    def add(self, entries: list[tuple[int, int]]) -> None:
        """Note files that are whole, as (index, crc32c)."""
        lines = b"".join(b"%d %d\n" % entry for entry in entries)
        with self._lock:
            while lines:
                lines = lines[os.write(self._fd, lines) :]
            self.done.update(entries)

    def close(self) -> None:
        """Give up the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """Remove the file: the data set is finished, or nothing of it was made."""
        self._path.unlink(missing_ok=True)
