"""What a directory's file system can do: O_DIRECT and its alignment, RWF_DONTCACHE, writing."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.errors import TargetError
from bench.storage.base import PAGE_BYTES
from bench.storage.posix import RWF_DONTCACHE

__all__ = ["DirectAlignment", "check_mode", "direct_alignment"]

AT_FDCWD = -100
STATX_DIOALIGN = 0x2000
DIO_MEM_ALIGN_OFFSET = 0x98
"""Of stx_dio_mem_align in struct statx (<linux/stat.h>, kernel 6.1 and later)."""

TMPFS_MAGIC_NAMES = frozenset({"tmpfs", "ramfs"})


@dataclass(frozen=True, slots=True)
class DirectAlignment:
    """O_DIRECT alignment of a file.

    Attributes:
        memory_bytes: Of buffers.
        offset_bytes: Of offsets and lengths.
        source: "statx", or "assumed" where the kernel or file system does not say.
    """

    memory_bytes: int
    offset_bytes: int
    source: str


def direct_alignment(path: str) -> DirectAlignment | None:
    """Return the O_DIRECT alignment of a file; None where statx says there is none."""
    buffer = ctypes.create_string_buffer(256)
    libc = ctypes.CDLL(None, use_errno=True)
    if (
        hasattr(libc, "statx")
        and libc.statx(AT_FDCWD, os.fsencode(path), 0, STATX_DIOALIGN, buffer) == 0
    ):
        (mask,) = struct.unpack_from("<I", buffer, 0)
        if mask & STATX_DIOALIGN:
            memory, offset = struct.unpack_from("<II", buffer, DIO_MEM_ALIGN_OFFSET)
            return DirectAlignment(memory, offset, "statx") if offset else None
    return DirectAlignment(PAGE_BYTES, PAGE_BYTES, "assumed")


def check_mode(
    directory: Path, mode: str, *, fs_type: str, sample: Path | None = None
) -> DirectAlignment:
    """Try a read mode on a file of its own in the directory, and remove the file.

    Where the directory is mounted read-only, a file that is there is tried instead.

    Args:
        directory: Existing directory of the target.
        mode: direct, buffered or dontcache.
        fs_type: Its file system, for what the kernel accepts without honouring it.
        sample: File to try it on; None makes one.

    Returns:
        The alignment to use; 1 byte for modes that need none.

    Raises:
        TargetError: The directory cannot be written, or refuses the mode.
    """
    place = str(directory)
    if sample is not None:
        return _check_sample(sample, mode, place, fs_type)
    try:
        fd, name = tempfile.mkstemp(prefix=".bench-probe-", dir=directory)
    except OSError as error:
        raise TargetError(
            place,
            f"cannot be written ({error.strerror})",
            "choose a writable storage.directory.path, or run as a user who may write there",
        ) from error
    try:
        os.write(fd, b"\1" * PAGE_BYTES)
        os.fsync(fd)
        if mode == "direct":
            return _check_direct(name, place, fs_type)
        if mode == "dontcache":
            _check_dontcache(fd, place, fs_type)
        return DirectAlignment(1, 1, "not needed")
    except OSError as error:
        raise TargetError(
            place, f"refuses a test file ({error.strerror})", "check the volume's health"
        ) from error
    finally:
        os.close(fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _check_sample(sample: Path, mode: str, place: str, fs_type: str) -> DirectAlignment:
    try:
        if mode == "direct":
            return _check_direct(str(sample), place, fs_type)
        fd = os.open(sample, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if mode == "dontcache":
                _check_dontcache(fd, place, fs_type)
        finally:
            os.close(fd)
    except OSError as error:
        raise TargetError(
            str(sample), f"cannot be read ({error.strerror})", "check the volume's health"
        ) from error
    return DirectAlignment(1, 1, "not needed")


def _check_direct(name: str, place: str, fs_type: str) -> DirectAlignment:
    refusal = TargetError(
        place,
        f"its file system ({fs_type}) has no O_DIRECT",
        "set storage.io.mode=buffered (or dontcache)",
    )
    # Newer kernels accept the flag on tmpfs and serve it from memory all the same.
    alignment = None if fs_type in TMPFS_MAGIC_NAMES else direct_alignment(name)
    if alignment is None:
        raise refusal
    if alignment.offset_bytes > PAGE_BYTES or alignment.memory_bytes > PAGE_BYTES:
        raise TargetError(
            place,
            f"O_DIRECT needs {alignment.offset_bytes}-byte alignment, more than a page",
            "set storage.io.mode=buffered",
        )
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise refusal from error
        raise
    os.close(fd)
    return alignment


def _check_dontcache(fd: int, place: str, fs_type: str) -> None:
    try:
        os.preadv(fd, (bytearray(PAGE_BYTES),), 0, RWF_DONTCACHE)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
            raise TargetError(
                place,
                f"its file system ({fs_type}) or kernel has no RWF_DONTCACHE",
                "set storage.io.mode=direct or buffered (RWF_DONTCACHE needs Linux 6.14)",
            ) from error
        raise
