"""Make a data set: in parallel, resumable, atomic per file, never on top of foreign files."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.dataset.journal import Journal, lock
from bench.dataset.layout import DATA_NAME, JOURNAL_NAME, MANIFEST_NAME, refuse_foreign, worded
from bench.dataset.maker import Maker, check_space
from bench.dataset.manifest import Manifest
from bench.dataset.progress import OnProgress, Progress
from bench.dataset.shape import directory_name, file_sizes
from bench.dataset.verify import check
from bench.spec.documents import Dataset

__all__ = ["Progress", "ensure", "generate", "remove"]


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
    with worded(directory, doing="read"):
        complete = (directory / MANIFEST_NAME).exists()
    if complete:
        return _checked(directory, dataset)
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
    moment, by a signal as well, leaves whole files, which the next call keeps. A complete data
    set is checked and left as it is.

    Args:
        root: The target's directory; made where missing.
        name: Of the workload.
        dataset: What to make.
        workers: Threads.
        progress: Called a few times a second.
        clock: For rates.

    Raises:
        DatasetError: No space, no permission, another process at it, or foreign files.
    """
    directory = root / directory_name(name, dataset)
    sizes = file_sizes(dataset)
    with worded(directory, doing="written"), contextlib.ExitStack() as stack:
        new = _missing(directory)
        if new:
            check_space(new[-1].parent, sizes)
        directory.mkdir(parents=True, exist_ok=True)
        refuse_foreign(directory)
        journal = Journal(directory, dataset)
        stack.callback(journal.close)
        if (directory / MANIFEST_NAME).exists():
            journal.remove()
            return _checked(directory, dataset)
        try:
            Maker(directory, dataset, journal, progress, clock).run(workers)
        except BaseException:
            if not journal.done:
                _remove_empty(directory, journal, new)
            raise
        crcs = np.array([journal.done[i] for i in range(len(sizes))], np.uint32)
        manifest = Manifest.of_files(name, dataset, crcs)
        manifest.save(directory)
        journal.remove()
        return manifest


def _checked(directory: Path, dataset: Dataset) -> Manifest:
    manifest = Manifest.load(directory)
    check(directory, manifest, expected=dataset)
    return manifest


def _missing(directory: Path) -> list[Path]:
    """Return the directories that are to be made, the innermost first."""
    missing = []
    for path in (directory, *directory.parents):
        if path.exists():
            break
        missing.append(path)
    return missing


def _remove_empty(directory: Path, journal: Journal, new: list[Path]) -> None:
    """Where it failed before the first file was whole, leave nothing behind."""
    with contextlib.suppress(OSError):  # the error that is on its way says more
        for group in (directory / DATA_NAME).glob("*"):
            group.rmdir()
        with contextlib.suppress(FileNotFoundError):
            (directory / DATA_NAME).rmdir()
        journal.remove()
        for path in new:
            path.rmdir()


def remove(directory: Path) -> None:
    """Remove a data set that bench made; nothing where there is none.

    Raises:
        DatasetError: The directory holds foreign files, is being written, or cannot be removed.
    """
    with worded(directory, doing="removed"), contextlib.ExitStack() as stack:
        if not directory.exists():
            return
        refuse_foreign(directory)
        if (directory / JOURNAL_NAME).exists():
            stack.callback(os.close, lock(directory / JOURNAL_NAME))
        shutil.rmtree(directory)
