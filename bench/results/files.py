"""Where a store keeps its files: a directory here, anything else with these verbs.

Names are relative, with `/` between parts. Writes are atomic: the whole file under its name
or nothing (temporary name in the same directory, fsync, rename, fsync of the directory).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import Literal, Protocol

from bench.errors import ResultsError

__all__ = ["DirectoryFiles", "Files", "Names"]

TEMPORARY_PREFIX = ".partial-"
"""Of files that are being written; a killed process may leave one, and nobody reads it."""

Names = list[str]
"""Written out, a class with a method `list` could not say it."""


class Files(Protocol):
    """The least a results store needs of the place that holds it."""

    root: str
    """For messages and for people."""

    def check_writable(self) -> None:
        """Write, sync and remove a small file; ResultsError when that fails."""

    def exists(self, name: str) -> bool:
        """Say whether there is a file or directory of that name."""

    def list(self, name: str) -> Names:
        """Return the sorted names of directories in directory `name`; none if it is missing."""

    def names(self, name: str) -> Names:
        """Return the sorted names of files in directory `name`; none if it is missing."""

    def read(self, name: str) -> bytes:
        """Return a file's content; ResultsError when it cannot be read."""

    def write_atomic(
        self, name: str, data: bytes, *, existing: Literal["refuse", "replace"]
    ) -> None:
        """Write a file, whole or not at all; ResultsError when that fails."""


class DirectoryFiles:
    """Files of a store in a directory.

    Args:
        root: The directory; made when first written to.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def check_writable(self) -> None:
        """Make the directory and write, sync and remove a small file in it."""
        with _worded(self.root, "write to"):
            os.makedirs(self.root, exist_ok=True)
            handle, path = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=self.root)
            try:
                os.write(handle, b"writable?\n")
                os.fsync(handle)
            finally:
                os.close(handle)
                os.unlink(path)

    def exists(self, name: str) -> bool:
        """Say whether there is a file or directory of that name."""
        return os.path.lexists(self.path(name))

    def list(self, name: str) -> Names:
        """Return the sorted names of directories in directory `name`; none if it is missing."""
        return self._entries(name, directories=True)

    def names(self, name: str) -> Names:
        """Return the sorted names of files in directory `name`; none if it is missing."""
        return self._entries(name, directories=False)

    def _entries(self, name: str, *, directories: bool) -> Names:
        place = self.path(name)
        with _worded(place, "list"):
            try:
                with os.scandir(place) as entries:
                    seen = [e for e in entries if not e.name.startswith(".")]
                    found = [e.name for e in seen if e.is_dir() == directories]
            except FileNotFoundError:
                return []
        return sorted(found)

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        place = self.path(name)
        with _worded(place, "read"), open(place, "rb") as file:
            return file.read()

    def write_atomic(
        self, name: str, data: bytes, *, existing: Literal["refuse", "replace"]
    ) -> None:
        """Write a file, whole or not at all, under one name.

        Args:
            name: Of the file; missing directories are made.
            data: Its content.
            existing: What to do with a file of that name.

        Raises:
            ResultsError: It exists and must not be replaced, the disk is full, the directory is
                read-only, ...; nothing is left under the name then.
        """
        place = self.path(name)
        directory = os.path.dirname(place)
        with _worded(place, "write"):
            os.makedirs(directory, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=directory)
            try:
                with open(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fchmod(file.fileno(), 0o644)  # mkstemp's 0600 would hide it from others
                    os.fsync(file.fileno())
                if existing == "replace":
                    os.replace(temporary, place)
                else:
                    _rename_new(temporary, place)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
                raise
            _sync_directory(directory)

    def path(self, name: str) -> str:
        """Return where a file of the store is on this machine."""
        return os.path.join(self.root, *name.split("/"))


def _rename_new(source: str, target: str) -> None:
    """Rename, refusing an existing target in the same instant where the file system can link."""
    try:
        os.link(source, target)
    except FileExistsError as error:
        raise ResultsError(target, "exists; stored results are never changed") from error
    except OSError:  # no hard links here (some FUSE and SMB mounts)
        if os.path.lexists(target):
            raise ResultsError(target, "exists; stored results are never changed") from None
        os.rename(source, target)
    else:
        os.unlink(source)


def _sync_directory(directory: str) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _worded(place: str, verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = (
            "free some space, or choose another directory with --results"
            if verb.startswith("write")
            else ""
        )
        reason = error.strerror or str(error)
        raise ResultsError(place, f"cannot {verb} it ({reason})", remedy) from error
