"""Files below a directory as a store: listing, writing and deleting outside of measuring."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

from bench.storage.base import Entry

__all__ = ["DirectoryStore"]


class DirectoryStore:
    """The files below a directory.

    Args:
        root: The directory; made by the first write.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def _entry(self, name: str, status: os.stat_result) -> Entry:
        return Entry(name, status.st_size, f"{status.st_ino}-{status.st_mtime_ns}")

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Yield the files whose names begin with `prefix`.

        Raises:
            OSError: As the file system says.
        """
        for directory, below, files in os.walk(self.root):
            below.sort()
            for file in sorted(files):
                path = os.path.join(directory, file)
                name = os.path.relpath(path, self.root)
                if name.startswith(prefix) and not file.endswith(".tmp"):
                    with contextlib.suppress(FileNotFoundError):  # gone since it was listed
                        yield self._entry(name, os.stat(path))

    def stat(self, name: str) -> Entry | None:
        """Return a file's size and state; None where there is no such file.

        Raises:
            OSError: As the file system says.
        """
        try:
            return self._entry(name, os.stat(f"{self.root}/{name}"))
        except FileNotFoundError:
            return None

    def write(self, name: str, size: int, parts: Iterable[tuple[int, memoryview]]) -> Entry:
        """Write a file from (offset, bytes) parts; it appears as a whole or not at all.

        Raises:
            OSError: As the file system says.
        """
        path = f"{self.root}/{name}"
        directory, base = os.path.split(path)
        os.makedirs(directory, exist_ok=True)
        temporary = f"{directory}/.{base}.tmp"
        try:
            with open(temporary, "wb") as file:
                for offset, part in parts:
                    file.seek(offset)
                    file.write(part)
                file.truncate(size)
                file.flush()
                os.fsync(file.fileno())
                entry = self._entry(name, os.fstat(file.fileno()))
            os.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        return entry

    def delete(self, entry: Entry) -> bool:
        """Delete a file that is still what `entry` says; return whether it was.

        Raises:
            OSError: As the file system says.
        """
        if self.stat(entry.name) != entry:
            return False
        os.unlink(f"{self.root}/{entry.name}")
        return True

    def peek(self, name: str, count: int) -> bytes:
        """Return the first bytes of a file.

        Raises:
            OSError: As the file system says.
        """
        with open(f"{self.root}/{name}", "rb") as file:
            return file.read(count)
