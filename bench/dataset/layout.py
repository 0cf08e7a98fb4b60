"""What lies in a data set's directory, and whether bench put it there."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from bench.errors import DatasetError

__all__ = ["DATA_NAME", "JOURNAL_NAME", "MANIFEST_NAME", "refuse_foreign", "worded"]

MANIFEST_NAME = "manifest.parquet"
JOURNAL_NAME = ".journal.jsonl"
DATA_NAME = "data"

TOP_LEVEL = frozenset({MANIFEST_NAME, f".{MANIFEST_NAME}.tmp", JOURNAL_NAME, DATA_NAME})
GROUP = re.compile(r"\d{5,}")
FILE = re.compile(r"part-\d{8}\.(npz|tfrecord|jpg|bin)|\.part-\d{8}\.(npz|tfrecord|jpg|bin)\.tmp")


def refuse_foreign(directory: Path) -> None:
    """Refuse a directory that holds anything that bench did not make; links among it.

    Raises:
        DatasetError: Names the first foreign entry, or says that nothing tells whose it is.
        OSError: As the file system says.
    """
    foreign = min(_foreign(str(directory)), default=None)
    if foreign is not None:
        raise DatasetError(
            foreign,
            "stands in a data set's directory, and bench did not make it",
            "move it away; nothing was written",
        )
    found = set(os.listdir(directory))
    if found and not found & {MANIFEST_NAME, JOURNAL_NAME}:
        raise DatasetError(
            str(directory),
            "holds files, but neither a manifest nor a journal that says whose they are",
            "remove or move the directory; nothing was written",
        )


def _foreign(directory: str) -> Iterator[str]:
    for entry in os.scandir(directory):
        wanted_directory = entry.name == DATA_NAME
        if entry.name not in TOP_LEVEL or wanted_directory != _is_directory(entry):
            yield entry.path
        elif wanted_directory:
            for group in os.scandir(entry.path):
                if not GROUP.fullmatch(group.name) or not _is_directory(group):
                    yield group.path
                    continue
                for file in os.scandir(group.path):
                    if not FILE.fullmatch(file.name) or not file.is_file(follow_symlinks=False):
                        yield file.path


def _is_directory(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


@contextlib.contextmanager
def worded(directory: Path, *, doing: str) -> Iterator[None]:
    """Word the file system's refusals.

    Args:
        directory: Named where the error does not name a path itself.
        doing: "written", "removed": what cannot be done.

    Raises:
        DatasetError: For any OSError inside.
    """
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
            f"cannot be {doing} ({error.strerror or error})",
            "choose a writable storage.directory.path",
        ) from error
