"""The bytes of files: incompressible, never repeating, a function of the seed and the file.

Each format is a generator of (offset, bytes) parts, so that files of any size are made in a
few MiB of memory, written while they are made, and made again to be compared.
"""

from __future__ import annotations

import functools
import hashlib
import struct
from collections.abc import Iterator

import numpy as np

from bench.dataset.checksums import crc32c, mask_crc
from bench.dataset.jpeg import jpeg_bytes
from bench.dataset.npz import npz_ends
from bench.dataset.shape import TFRECORD_FRAME_BYTES
from bench.spec.documents import Dataset

__all__ = ["CHUNK_BYTES", "SCRATCH_BYTES", "Part", "Stream", "file_parts"]

CHUNK_BYTES = 2**20
"""Small enough that a part is still in the processor's cache when it is checksummed and
written, large enough that calls cost nothing."""

AES_SLACK_BYTES = 15
"""`update_into` wants a block less one byte behind what it writes."""

SCRATCH_BYTES = CHUNK_BYTES + AES_SLACK_BYTES
"""Size of the buffer that `file_parts` needs."""

Part = tuple[int, memoryview]
"""Offset in the file, and the bytes there."""


@functools.cache
def _zeros() -> memoryview:
    """Return the plaintext; shared, since small files need little of it, and often."""
    return memoryview(bytes(CHUNK_BYTES))


class Stream:
    """Random bytes of one file: AES-128 in counter mode, keyed by the data set's seed.

    The upper half of the counter is the file, the lower half its blocks: a permutation under
    one key never gives the same block twice (NIST SP 800-38A, 6.5). With AES-NI it is ten
    times as fast as numpy's generators.

    Args:
        seed: Of the data set.
        file: Index of the file.
    """

    def __init__(self, seed: int, file: int) -> None:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        key = hashlib.sha256(b"bench data set %d" % seed).digest()[:16]
        counter = struct.pack(">QQ", file, 0)
        self._cipher = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()
        self._zeros = _zeros()

    def fill(self, buffer: memoryview, size: int) -> None:
        """Fill buffer[:size], at most CHUNK_BYTES; AES_SLACK_BYTES must lie behind it."""
        self._cipher.update_into(self._zeros[:size], buffer[: size + AES_SLACK_BYTES])

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        return self._cipher.update(bytes(size))


def file_parts(
    dataset: Dataset, index: int, size_bytes: int, num_samples: int, buffer: memoryview
) -> Iterator[Part]:
    """Yield the parts of one file, each valid until the next one is taken.

    Parts follow each other, but for the head of an npz file, which comes last: it holds the
    checksum of what follows it.

    Args:
        dataset: Description.
        index: Of the file.
        size_bytes: Of the file.
        num_samples: In the file.
        buffer: Scratch of SCRATCH_BYTES.
    """
    stream = Stream(dataset.seed, index)
    if dataset.format == "raw":
        return _random(stream, 0, size_bytes, buffer)
    if dataset.format == "npz":
        return _npz(stream, index, size_bytes, buffer)
    if dataset.format == "tfrecord":
        payload = size_bytes // num_samples - TFRECORD_FRAME_BYTES
        if payload + TFRECORD_FRAME_BYTES > CHUNK_BYTES:
            return _large_records(stream, payload, num_samples, buffer)
        return _small_records(stream, payload, num_samples, buffer)
    return iter([(0, memoryview(jpeg_bytes(stream.take, size_bytes)))])


def _random(stream: Stream, start: int, size: int, buffer: memoryview) -> Iterator[Part]:
    for at in range(0, size, CHUNK_BYTES):
        part = min(size - at, CHUNK_BYTES)
        stream.fill(buffer, part)
        yield start + at, buffer[:part]


def _npz(stream: Stream, index: int, size: int, buffer: memoryview) -> Iterator[Part]:
    """Yield an npz of `y`, the file's index as an int64 label, and `x`, uint8 bytes."""
    from isal import isal_zlib

    ends = npz_ends(index, size)
    crc = isal_zlib.crc32(ends.array_header)
    for at, part in _random(stream, ends.array_offset, ends.array_bytes, buffer):
        crc = isal_zlib.crc32(part, crc)
        yield at, part
    yield ends.array_offset + ends.array_bytes, memoryview(ends.tail(crc))
    yield 0, memoryview(ends.head(crc))


def _record_head(payload: int) -> bytes:
    """Return a record's length and its masked CRC-32C."""
    length = struct.pack("<Q", payload)
    return length + struct.pack("<I", mask_crc(crc32c(length)))


def _large_records(
    stream: Stream, payload: int, num_samples: int, buffer: memoryview
) -> Iterator[Part]:
    head = _record_head(payload)
    for start in range(0, num_samples * (payload + TFRECORD_FRAME_BYTES), payload + 16):
        yield start, memoryview(head)
        crc = 0
        for at, part in _random(stream, start + len(head), payload, buffer):
            crc = crc32c(part, crc)
            yield at, part
        yield start + len(head) + payload, memoryview(struct.pack("<I", mask_crc(crc)))


def _small_records(
    stream: Stream, payload: int, num_samples: int, buffer: memoryview
) -> Iterator[Part]:
    """Yield as many whole records at a time as fit into a part."""
    import google_crc32c

    stride = payload + TFRECORD_FRAME_BYTES
    head = np.frombuffer(_record_head(payload), np.uint8)
    per_part = CHUNK_BYTES // stride
    for first in range(0, num_samples, per_part):
        count = min(per_part, num_samples - first)
        stream.fill(buffer, count * stride)
        records = np.frombuffer(buffer, np.uint8, count * stride).reshape(count, stride)
        records[:, :12] = head
        crcs = [mask_crc(google_crc32c.value(record[12:-4])) for record in records]
        records[:, -4:] = np.array(crcs, "<u4").view(np.uint8).reshape(count, 4)
        yield first * stride, buffer[: count * stride]
