"""Files, read by `preadv` straight into page-aligned slots.

Modes: `direct` (O_DIRECT, spans rounded out to the alignment that statx reports), `buffered`
(through the page cache) and `dontcache` (RWF_DONTCACHE, which needs no alignment and leaves
nothing behind in the page cache).
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence

from bench.storage.base import PAGE_BYTES, Extent, ReadStats, StorageReadError

__all__ = ["MAX_OPEN_FILES", "RWF_DONTCACHE", "FileTable", "PosixBackend", "PosixThreadReader"]

RWF_DONTCACHE = 0x80
"""From <linux/fs.h>, kernel 6.14 and later; not in Python's os module."""

MAX_OPEN_FILES = 64
"""Descriptors kept per reader process for files that take several pieces."""

MAX_RETRIES = 3
"""Tries after the first one for errors that can pass: ESTALE (reopened), EIO, EAGAIN."""

PASSING_ERRORS = frozenset({errno.ESTALE, errno.EIO, errno.EAGAIN})

clock_ns = time.perf_counter_ns


class FileTable:
    """Names and sizes of a data set's files, in memory shared by all readers.

    Args:
        names: N fixed-width names, NUL-padded, one after the other.
        width: Bytes of one name.
        sizes: N little-endian 64-bit sizes.
    """

    def __init__(self, names: memoryview, width: int, sizes: memoryview) -> None:
        self._names = names
        self._width = width
        self._sizes = sizes.cast("B").cast("q")

    def name(self, file: int) -> bytes:
        """Return the path of a file below the data set's directory."""
        start = file * self._width
        return bytes(self._names[start : start + self._width]).rstrip(b"\0")

    def size(self, file: int) -> int:
        """Return the bytes of a file."""
        return self._sizes[file]


class _OpenFile:
    __slots__ = ("buffered", "fd", "users")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.buffered = -1
        self.users = 0

    def close(self) -> None:
        os.close(self.fd)
        if self.buffered >= 0:
            os.close(self.buffered)


class PosixBackend:
    """Files below one directory.

    Args:
        root: Data set directory.
        files: Its file table.
        mode: direct, buffered or dontcache.
        align_bytes: Offset and length alignment of O_DIRECT, a power of two up to PAGE_BYTES.
    """

    def __init__(self, root: str, files: FileTable, *, mode: str, align_bytes: int) -> None:
        self.root = root
        self.files = files
        self.flags = os.O_RDONLY | os.O_CLOEXEC | (os.O_DIRECT if mode == "direct" else 0)
        self.read_flags = RWF_DONTCACHE if mode == "dontcache" else 0
        # Spans are laid out in whole pages whatever the device's sector, see PAGE_BYTES.
        self.align_bytes = max(align_bytes, PAGE_BYTES) if mode == "direct" else 1
        self._directory = -1
        self._lock = threading.Lock()
        self._open: OrderedDict[int, _OpenFile] = OrderedDict()

    def directory(self) -> int:
        """Return the data set directory's descriptor, opened at the first read and not before."""
        if self._directory < 0:
            with self._lock:
                if self._directory < 0:
                    self._directory = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        return self._directory

    def thread_reader(self) -> PosixThreadReader:
        """Return the access of one more thread."""
        return PosixThreadReader(self)

    def acquire(self, file: int) -> _OpenFile:
        """Return a shared descriptor of a file that takes several pieces."""
        with self._lock:
            entry = self._open.get(file)
            if entry is not None:
                entry.users += 1
                self._open.move_to_end(file)
                return entry
        opened = _OpenFile(os.open(self.files.name(file), self.flags, dir_fd=self.directory()))
        with self._lock:
            entry = self._open.setdefault(file, opened)
            entry.users += 1
            self._evict()
        if entry is not opened:  # another thread was first
            opened.close()
        return entry

    def release(self, file: int, entry: _OpenFile, *, forget: bool = False) -> None:
        """Give back a shared descriptor; `forget` closes it once unused."""
        with self._lock:
            entry.users -= 1
            if forget and self._open.get(file) is entry:
                del self._open[file]
            if entry.users == 0 and self._open.get(file) is not entry:
                entry.close()

    def _evict(self) -> None:
        while len(self._open) > MAX_OPEN_FILES:
            _, entry = self._open.popitem(last=False)
            if entry.users:  # its last user closes it
                continue
            entry.close()

    def close(self) -> None:
        """Close every descriptor."""
        for entry in self._open.values():
            entry.close()
        self._open.clear()
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1


class PosixThreadReader:
    """One thread's reads."""

    def __init__(self, backend: PosixBackend) -> None:
        self._backend = backend
        self._files = backend.files
        self._flags = backend.flags
        self._read_flags = backend.read_flags
        self._align_mask = backend.align_bytes - 1

    def close(self) -> None:
        """Nothing of its own to give back."""

    def read(
        self, piece: int, extents: Sequence[Extent], slot: memoryview, stats: ReadStats
    ) -> None:
        """See `bench.storage.base.ThreadReader.read`."""
        del piece
        directory = self._backend.directory()
        for extent in extents:
            file, offset, length, slot_offset = extent
            whole = offset == 0 and length == self._files.size(file)
            try:
                if whole:
                    self._read_whole(directory, file, length, slot, slot_offset, stats)
                else:
                    self._read_shared(file, offset, length, slot, slot_offset, stats)
            except OSError as error:
                raise StorageReadError(file, error.errno or errno.EIO) from error

    def _read_whole(
        self,
        directory: int,
        file: int,
        length: int,
        slot: memoryview,
        slot_offset: int,
        stats: ReadStats,
    ) -> None:
        """Open, read and close a file that fits one slot: the path of many small files."""
        tries = 0
        while True:
            begin = clock_ns()
            fd = os.open(self._files.name(file), self._flags, dir_fd=directory)
            stats.open_ns += clock_ns() - begin
            try:
                self._fill(fd, file, 0, length, slot, slot_offset, stats)
            except OSError as error:
                if error.errno not in PASSING_ERRORS or tries >= MAX_RETRIES:
                    raise
                tries += 1
                stats.retries += 1
            else:
                return
            finally:
                os.close(fd)

    def _read_shared(
        self,
        file: int,
        offset: int,
        length: int,
        slot: memoryview,
        slot_offset: int,
        stats: ReadStats,
    ) -> None:
        """Read a range of a file whose descriptor the process's threads share."""
        tries = 0
        while True:
            begin = clock_ns()
            entry = self._backend.acquire(file)
            stats.open_ns += clock_ns() - begin
            stale = False
            try:
                self._fill(entry.fd, file, offset, length, slot, slot_offset, stats, entry)
            except OSError as error:
                if error.errno not in PASSING_ERRORS or tries >= MAX_RETRIES:
                    raise
                stale = error.errno == errno.ESTALE
                tries += 1
                stats.retries += 1
            else:
                return
            finally:
                self._backend.release(file, entry, forget=stale)

    def _fill(
        self,
        fd: int,
        file: int,
        offset: int,
        length: int,
        slot: memoryview,
        slot_offset: int,
        stats: ReadStats,
        entry: _OpenFile | None = None,
    ) -> None:
        """Read [offset, offset + length) completely; O_DIRECT spans are rounded outwards."""
        mask = self._align_mask
        lead = offset & mask
        position = offset - lead
        target = slot_offset - lead
        end = offset + length
        span_end = target + ((lead + length + mask) & ~mask)
        while position < end:
            try:
                count = os.preadv(fd, (slot[target:span_end],), position, self._read_flags)
            except OSError as error:
                if error.errno != errno.EINVAL or not mask:
                    raise
                self._fill_buffered(file, position, end, slot, target, stats, entry)
                return
            stats.transferred_bytes += count
            position += count
            target += count
            if position >= end:
                return
            if count == 0:
                raise StorageReadError(file, 0, os.fstat(fd).st_size)
            stats.short_reads += 1
            if position & mask:  # O_DIRECT stopped inside a sector: only the tail is left
                self._fill_buffered(file, position, end, slot, target, stats, entry)
                return

    def _fill_buffered(
        self,
        file: int,
        position: int,
        end: int,
        slot: memoryview,
        target: int,
        stats: ReadStats,
        entry: _OpenFile | None,
    ) -> None:
        """Read what O_DIRECT refuses (EINVAL, an unaligned tail) through a second descriptor."""
        stats.fallback_reads += 1
        fd = entry.buffered if entry is not None else -1
        if fd < 0:
            fd = os.open(
                self._files.name(file),
                os.O_RDONLY | os.O_CLOEXEC,
                dir_fd=self._backend.directory(),
            )
        try:
            while position < end:
                count = os.preadv(fd, (slot[target : target + end - position],), position)
                if count == 0:
                    raise StorageReadError(file, 0, os.fstat(fd).st_size)
                stats.transferred_bytes += count
                position += count
                target += count
        finally:
            if entry is not None and entry.buffered < 0:
                entry.buffered = fd
            elif entry is None or entry.buffered != fd:
                with contextlib.suppress(OSError):
                    os.close(fd)
