"""Writing one file from its parts, past the page cache where the file system allows it."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os

import numpy as np

__all__ = ["STAGE_BYTES", "FileWriter", "new_stage"]

STAGE_BYTES = 4 * 2**20
"""Of one write: large enough for any disk to be at its best."""

BLOCK_BYTES = 4096
"""Alignment of direct writes: a multiple of what any block device asks for today."""

MIN_DIRECT_BYTES = 2**20
"""Smaller files go through the page cache, which turns many of them into few writes."""


def new_stage() -> memoryview:
    """Return page-aligned memory for a writer; one at a time may use it."""
    return memoryview(mmap.mmap(-1, STAGE_BYTES))


class FileWriter:
    """One new file.

    A direct write costs half the CPU time of one through the page cache, evicts nothing of
    what others have there, and leaves nothing that a measurement would take for a warm cache.

    Args:
        path: Where; truncated if it is there.
        size_bytes: Of the whole file.
        stage: From `new_stage`.

    Raises:
        OSError: As the file system says.
    """

    def __init__(self, path: str, size_bytes: int, stage: memoryview) -> None:
        self._size = size_bytes
        self._stage = stage
        self._begin = 0
        """Offset in the file of the start of the stage."""
        self._end = -1
        """Offset in the file of the end of what has been given; -1 at first."""
        self._first = b""
        """The first block as it was written."""
        self.direct = size_bytes >= MIN_DIRECT_BYTES
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        if self.direct:
            try:
                self._fd = os.open(path, flags | os.O_DIRECT, 0o644)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self.direct = False
        if not self.direct:
            self._fd = os.open(path, flags, 0o644)

    def add(self, offset: int, part: memoryview) -> None:
        """Take the bytes at `offset`: those behind the last ones, or at the end the file's head.

        Raises:
            OSError: As the file system says.
        """
        if self._end < 0:
            self._end = offset
        if offset == 0 and self._end == self._size:
            self._set_head(part)
            return
        while part:
            at = self._end - self._begin
            size = min(len(part), STAGE_BYTES - at)
            # numpy copies without the interpreter lock; a memoryview with it.
            np.copyto(
                np.frombuffer(self._stage, np.uint8, size, at), np.frombuffer(part, np.uint8, size)
            )
            part = part[size:]
            self._end += size
            if at + size == STAGE_BYTES:
                self._flush()

    def _set_head(self, head: memoryview) -> None:
        if self._begin == 0:
            self._stage[: len(head)] = head
            return
        self._flush()
        self._stage[:BLOCK_BYTES] = bytes(head) + self._first[len(head) :]
        self._write(0, BLOCK_BYTES)

    def _flush(self) -> None:
        size = self._end - self._begin
        if not size:
            return
        if self._begin == 0:
            self._first = bytes(self._stage[:BLOCK_BYTES])
        if self.direct:
            size = -(-size // BLOCK_BYTES) * BLOCK_BYTES  # what is too much is cut off at last
        self._write(self._begin, size)
        self._begin = self._end

    def _write(self, offset: int, size: int) -> None:
        part = self._stage[:size]
        while part:
            try:
                written = os.pwrite(self._fd, part, offset)
            except OSError as error:
                if error.errno != errno.EINVAL or not self.direct:
                    raise
                # Opened, but not written: some of FUSE, or larger blocks than ours.
                flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
                fcntl.fcntl(self._fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)
                self.direct = False
                continue
            part, offset = part[written:], offset + written
        if not self.direct and offset > STAGE_BYTES:
            # On dirty pages this starts write-back and does not wait for it, so that the
            # medium works while the next bytes are made. The head may be written again.
            os.posix_fadvise(self._fd, offset - size, size, os.POSIX_FADV_DONTNEED)

    def finish(self) -> None:
        """Write what is left.

        Raises:
            OSError: As the file system says.
        """
        self._flush()
        os.ftruncate(self._fd, self._size)

    def sync(self) -> None:
        """Bring the file to the medium, and let it go from the page cache.

        Raises:
            OSError: As the file system says.
        """
        os.fdatasync(self._fd)
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)
