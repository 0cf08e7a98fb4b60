"""Emptying and probing the page cache of files that one may only read.

Never mincore or cachestat: for files that one neither owns nor may write, mincore says that
everything is resident and cachestat refuses with EPERM.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["MAX_FILE_SHARE", "Probes", "evict", "probe", "warm"]

WARM_BYTES = 4 * 2**20
PROBE_BYTES = 4096
NUM_PROBES = 256
"""Enough to see a hit ratio of 1 % nine times out of ten."""
MAX_FILE_SHARE = 0.05
"""Most of the files that are probed: a probe costs a page read from storage."""


@dataclass(frozen=True, slots=True)
class Probes:
    """What probing found."""

    num_files: int
    num_probes: int
    """Probes that were answered; 0 where the file system does not support them."""
    num_hits: int
    """Probes whose page was in the cache."""
    supported: bool


def evict(
    paths: Iterable[str | os.PathLike[str]], *, written_by: Literal["us", "others"] = "others"
) -> int:
    """Ask the kernel to drop the files' clean pages; return how many files were asked for.

    It is a request: pages that are dirty, mapped or in use stay. `probe` and the kernel's
    meters tell what came of it.

    Args:
        paths: Files that can be read.
        written_by: "us" flushes each file first, since dirty pages are not dropped.

    Raises:
        OSError: A file cannot be opened or flushed.
    """
    count = 0
    for path in paths:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if written_by == "us":
                os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
        count += 1
    return count


def warm(paths: Iterable[str]) -> None:
    """Read every file once through the page cache.

    Args:
        paths: Files that can be read.

    Raises:
        OSError: A file cannot be read.
    """
    buffer = bytearray(WARM_BYTES)
    for path in paths:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            offset = 0
            while count := os.preadv(fd, [buffer], offset):
                offset += count
        finally:
            os.close(fd)


def probe(
    paths: Sequence[str | os.PathLike[str]],
    sizes: Sequence[int],
    *,
    seed: int,
    num_probes: int = NUM_PROBES,
) -> Probes:
    """Ask at sampled offsets whether a page is in the page cache (preadv2 with RWF_NOWAIT).

    A probe that misses makes the kernel read its page (seen on Linux 6.18), with readahead
    unless the descriptor says that access is random. So few files are probed, descriptors say
    so, and pages that missed are dropped again after the last probe.

    Args:
        paths: All files of the data set; at most MAX_FILE_SHARE of them, at least one, are
            probed.
        sizes: Bytes of each file; empty files are left out.
        seed: Of the choice of files and offsets.
        num_probes: Probes in all, spread over the chosen files.

    Raises:
        OSError: A file cannot be opened or read.
    """
    rng = np.random.default_rng(seed)
    candidates = [index for index, size in enumerate(sizes) if size > 0]
    num_files = min(len(candidates), num_probes, max(1, int(len(paths) * MAX_FILE_SHARE)))
    chosen = rng.choice(candidates, size=num_files, replace=False).tolist() if num_files else []
    missed: dict[str, list[int]] = {}
    answered = hits = 0
    for order, index in enumerate(chosen):
        share = num_probes // num_files + (order < num_probes % num_files)
        pages = -(-sizes[index] // PROBE_BYTES)
        offsets = np.unique(rng.integers(0, pages, size=share)) * PROBE_BYTES
        misses = _probe_file(os.fspath(paths[index]), offsets.tolist())
        if misses is None:
            return Probes(order + 1, answered, hits, supported=False)
        answered += len(offsets)
        hits += len(offsets) - len(misses)
        missed[os.fspath(paths[index])] = misses
    _drop(missed)
    return Probes(num_files, answered, hits, supported=True)


def _probe_file(path: str, offsets: list[int]) -> list[int] | None:
    """Return the offsets whose page is not in the cache; None where nothing answers."""
    missing = []
    buffer = bytearray(PROBE_BYTES)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        for offset in offsets:
            try:
                os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
            except BlockingIOError:
                missing.append(offset)
            except OSError as error:
                if error.errno in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
                    return None
                raise
    finally:
        os.close(fd)
    return missing


def _drop(missed: dict[str, list[int]]) -> None:
    """Drop the pages that our own probes brought in, once they have arrived."""
    buffer = bytearray(PROBE_BYTES)
    for path, offsets in missed.items():
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            for offset in offsets:
                # A page still on its way is locked and would stay: wait for it by reading.
                os.preadv(fd, [buffer], offset)
                os.posix_fadvise(fd, offset, PROBE_BYTES, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
