"""Files of a store behind an fsspec URL: object stores, memory, whatever has a driver.

A write is a single put, so a reader sees the whole file or none. Credentials and endpoints come
from the environment, as the driver documents it (`AWS_ENDPOINT_URL`, ...).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from bench.errors import ResultsError
from bench.results.files import Names

__all__ = ["UrlFiles"]

Entries = list[dict[str, Any]]
Contents = list[bytes]
"""Written out, a class with a method `list` could not say them."""


class UrlFiles:
    """Files of a store at a URL.

    Args:
        root: The URL, such as "s3://bucket/results".

    Raises:
        ResultsError: No driver for its protocol is installed, or it refuses its settings.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")
        self._fs, self._base = _open(self.root)

    def check_writable(self) -> None:
        """Write and remove a small object."""
        name = f"{self._base}/.writable"
        with _worded(self.root, "write to"):
            self._fs.makedirs(self._base, exist_ok=True)
            self._fs.pipe_file(name, b"writable?\n")
            self._fs.rm_file(name)

    def exists(self, name: str) -> bool:
        """Say whether there is a file or directory of that name."""
        with _worded(self.place(name), "look for"):
            return bool(self._fs.exists(self._path(name)))

    def list(self, name: str) -> Names:
        """Return the sorted names of directories in directory `name`; none if it is missing."""
        return sorted(
            str(entry["name"]).rstrip("/").rpartition("/")[2]
            for entry in self._entries(name)
            if entry["type"] == "directory"
        )

    def names(self, name: str) -> Names:
        """Return the sorted names of files in directory `name`; none if it is missing."""
        return sorted(
            str(entry["name"]).rpartition("/")[2]
            for entry in self._entries(name)
            if entry["type"] == "file"
        )

    def tree(self) -> Names:
        """Return the sorted names of all files, relative to the root."""
        with _worded(self.root, "list"):
            self._fs.invalidate_cache()
            found = [path for path in self._fs.find(self._base) if str(path) != self._base]
        prefix = f"{self._base.rstrip('/')}/"
        return sorted(str(path).removeprefix(prefix) for path in found)

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        with _worded(self.place(name), "read"):
            return bytes(self._fs.cat_file(self._path(name)))

    def read_many(self, names: Sequence[str]) -> Contents:
        """Return the contents of files, fetched side by side where the driver can."""
        if not names:
            return []
        paths = [self._path(name) for name in names]
        with _worded(self.root, "read"):
            found = self._fs.cat(paths)
        if isinstance(found, bytes):  # some drivers unwrap a single path
            return [found]
        return [bytes(found[path]) for path in paths]

    def write_atomic(
        self, name: str, data: bytes, *, existing: Literal["refuse", "replace"]
    ) -> None:
        """Write a file by one put.

        Raises:
            ResultsError: It exists and must not be replaced, or it cannot be written.
        """
        path, place = self._path(name), self.place(name)
        with _worded(place, "write"):
            if existing == "refuse" and self._fs.exists(path):
                raise ResultsError(place, "exists; stored results are never changed")
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            try:
                # Drivers that can (S3, local, memory) refuse an existing file in the same instant.
                mode = "create" if existing == "refuse" else "overwrite"
                self._fs.pipe_file(path, data, mode=mode)
            except FileExistsError as error:
                raise ResultsError(place, "exists; stored results are never changed") from error

    def place(self, name: str) -> str:
        """Return the URL of a file, for messages."""
        return f"{self.root}/{name}" if name else self.root

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}" if name else self._base

    def _entries(self, name: str) -> Entries:
        with _worded(self.place(name), "list"):
            try:
                self._fs.invalidate_cache()
                return [*self._fs.ls(self._path(name), detail=True)]
            except FileNotFoundError:
                return []


def _open(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        fs, base = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError, TypeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ResultsError(url, f"cannot be opened ({reason})", "check its protocol") from error
    return fs, str(base).rstrip("/")


@contextlib.contextmanager
def _worded(place: str, verb: str) -> Iterator[None]:
    """Word whatever a driver raises: each has its own classes, and none is ours."""
    try:
        yield
    except ResultsError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ResultsError(
            place, f"cannot {verb} it ({reason})", "check the URL and the credentials"
        ) from error
