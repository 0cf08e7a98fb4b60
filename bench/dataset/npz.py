"""What stands around the array bytes of an npz file: npy and zip headers."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bench.dataset import shape
from bench.dataset.shape import NPY_HEADER_BYTES, npz_overhead_bytes

__all__ = ["NpzEnds", "npz_ends"]

LABEL_NAME = b"y.npy"
ARRAY_NAME = b"x.npy"

VERSION_STORED = 20
VERSION_ZIP64 = 45
DATE_1980 = 0x21
"""The earliest date of the format: equal descriptions make equal bytes."""

SATURATED = 2**32 - 1
"""Stands in a 32-bit field whose value is in the zip64 field."""


@dataclass(frozen=True, slots=True)
class NpzEnds:
    """Head and tail of an npz file of `y`, an int64 label, and `x`, uint8 bytes, both stored.

    Attributes:
        label: The whole of y.npy.
        array_header: The npy header of `x`.
        array_offset: Where in the file the bytes of `x` begin.
        array_bytes: How many there are.
    """

    label: bytes
    array_header: bytes
    array_offset: int
    array_bytes: int

    @property
    def _entry_bytes(self) -> int:
        return len(self.array_header) + self.array_bytes

    @property
    def _zip64(self) -> bool:
        return self._entry_bytes >= shape.ZIP64_LIMIT_BYTES

    def head(self, crc: int) -> bytes:
        """Return all that stands before the bytes of `x`.

        Args:
            crc: CRC-32 of `array_header` and the bytes of `x`.
        """
        label = _local_header(LABEL_NAME, _crc32(self.label), len(self.label), zip64=False)
        array = _local_header(ARRAY_NAME, crc, self._entry_bytes, zip64=self._zip64)
        return label + self.label + array + self.array_header

    def tail(self, crc: int) -> bytes:
        """Return all that stands behind the bytes of `x`: the zip's directory.

        Args:
            crc: CRC-32 of `array_header` and the bytes of `x`.
        """
        label = _local_header(LABEL_NAME, _crc32(self.label), len(self.label), zip64=False)
        directory = _directory_entry(label, at=0) + _directory_entry(
            _local_header(ARRAY_NAME, crc, self._entry_bytes, zip64=self._zip64),
            at=len(label) + len(self.label),
        )
        start = self.array_offset + self.array_bytes
        counts = (2, 2, len(directory))
        if not self._zip64:
            return directory + _end_record(*counts, start)
        # 4.3.14 and 4.3.15: the zip64 end record, and where it is.
        versions = struct.pack("<HHII", VERSION_ZIP64, VERSION_ZIP64, 0, 0)
        zip64 = (
            b"PK\x06\x06" + struct.pack("<Q", 44) + versions + struct.pack("<QQQQ", *counts, start)
        )
        locator = b"PK\x06\x07" + struct.pack("<IQI", 0, start + len(directory), 1)
        return directory + zip64 + locator + _end_record(*counts, SATURATED)


def npz_ends(label: int, file_bytes: int) -> NpzEnds:
    """Return head and tail of the npz file of exactly `file_bytes` bytes."""
    num = file_bytes - npz_overhead_bytes(0)
    if num + NPY_HEADER_BYTES >= shape.ZIP64_LIMIT_BYTES:
        num = file_bytes - npz_overhead_bytes(num)
    label_entry = _npy_header("<i8", (1,)) + struct.pack("<q", label)
    header = _npy_header("|u1", (num,))
    ends = NpzEnds(label_entry, header, 0, num)
    return NpzEnds(label_entry, header, len(ends.head(0)), num)


def _crc32(data: bytes) -> int:
    from isal import isal_zlib

    return int(isal_zlib.crc32(data))


def _npy_header(descr: str, array_shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {array_shape}, }}"
    text = text.ljust(NPY_HEADER_BYTES - 10 - 1) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def _local_header(name: bytes, crc: int, size: int, *, zip64: bool) -> bytes:
    """Return the local header of a stored file (APPNOTE.TXT 4.3.7, 4.5.3)."""
    version = VERSION_ZIP64 if zip64 else VERSION_STORED
    extra = struct.pack("<HHQQ", 1, 16, size, size) if zip64 else b""
    stated = SATURATED if zip64 else size
    fields = (version, 0, 0, 0, DATE_1980, crc, stated, stated, len(name), len(extra))
    return b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", *fields) + name + extra


def _directory_entry(local: bytes, *, at: int) -> bytes:
    """Return the central directory's entry for a local header (4.3.12)."""
    version, rest = local[4:6], local[30:]
    attributes = struct.pack("<HHHII", 0, 0, 0, 0, at)
    return b"PK\x01\x02" + version + local[4:30] + attributes + rest


def _end_record(here: int, total: int, directory_bytes: int, start: int) -> bytes:
    """Return the end record (4.3.16)."""
    return b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, here, total, directory_bytes, start, 0)
