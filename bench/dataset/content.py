"""The bytes of files: incompressible, never repeating, a function of the seed and the file."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterator

from bench.dataset.shape import NPY_HEADER_BYTES, TFRECORD_FRAME_BYTES, npz_overhead_bytes
from bench.errors import DatasetError
from bench.spec.documents import Dataset

__all__ = ["CHUNK_BYTES", "check_dataset", "file_parts", "mask_crc"]

CHUNK_BYTES = 4 * 2**20
AES_SLACK_BYTES = 15
"""`update_into` wants a block less one byte behind what it writes."""

MASK_DELTA = 0xA282EAD8
"""TFRecord's CRC mask (tensorflow/core/lib/hash/crc32c.h): rotate right by 15, add this."""

ZIP_LIMIT_BYTES = 2**32 - 1
MIN_JPEG_BYTES = 2048
JPEG_QUALITY = 90
JPEG_FILL = 0.97
"""Share of a file that the image itself aims at; comment segments of random bytes make up
the rest, so that sizes are exact."""

COM_PAYLOAD_BYTES = 65533


class Stream:
    """Random bytes of one file: AES-128 in counter mode, keyed by the data set's seed.

    Counter mode costs some 0.14 CPU seconds per GB with AES-NI, which numpy's generators do
    not come near, and never gives the same block twice under one key.
    """

    def __init__(self, seed: int, file: int) -> None:
        self._identity = (seed, file)
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        key = hashlib.sha256(b"bench data set %d" % seed).digest()[:16]
        counter = struct.pack(">QQ", file, 0)
        self._cipher = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()
        self._zeros = memoryview(bytes(CHUNK_BYTES))

    def again(self) -> Stream:
        """Return the same stream from its beginning."""
        return Stream(*self._identity)

    def fill(self, buffer: memoryview, start: int, size: int) -> None:
        """Fill buffer[start:start + size]; AES_SLACK_BYTES must lie behind it."""
        while size:
            part = min(size, CHUNK_BYTES)
            self._cipher.update_into(
                self._zeros[:part], buffer[start : start + part + AES_SLACK_BYTES]
            )
            start += part
            size -= part

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        return self._cipher.update(bytes(size))


def mask_crc(crc: int) -> int:
    """Return a CRC as TFRecord stores it."""
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF


def crc32c(data: memoryview | bytes, crc: int = 0) -> int:
    """Extend a CRC-32C; the library takes read-only bytes only."""
    import google_crc32c

    return int(google_crc32c.extend(crc, bytes(data)))


def check_dataset(dataset: Dataset) -> None:
    """Refuse descriptions that a format cannot hold.

    Raises:
        DatasetError: Names the field.
    """
    mean = dataset.sample_bytes.mean
    if dataset.format == "npz" and 4 * mean >= ZIP_LIMIT_BYTES - npz_overhead_bytes():
        raise DatasetError(
            "dataset.sample_bytes.mean",
            f"{mean} is too large for npz files here (samples reach 4 times the mean)",
            "use less than 1 GiB, or the raw format",
        )
    if dataset.format == "jpeg" and mean * 0.05 < MIN_JPEG_BYTES and dataset.sample_bytes.stdev:
        raise DatasetError(
            "dataset.sample_bytes", f"jpeg files need {MIN_JPEG_BYTES} bytes", "use larger samples"
        )
    if dataset.format == "jpeg" and mean < MIN_JPEG_BYTES:
        raise DatasetError(
            "dataset.sample_bytes", f"jpeg files need {MIN_JPEG_BYTES} bytes", "use larger samples"
        )


def file_parts(
    dataset: Dataset, index: int, size_bytes: int, num_samples: int, buffer: memoryview
) -> Iterator[memoryview]:
    """Yield the parts of one file in order, each valid until the next one is taken.

    Args:
        dataset: Description.
        index: Of the file.
        size_bytes: Of the file.
        num_samples: In the file.
        buffer: Scratch of at least 2 x CHUNK_BYTES.
    """
    stream = Stream(dataset.seed, index)
    if dataset.format == "raw":
        yield from _random(stream, size_bytes, buffer)
    elif dataset.format == "npz":
        yield from _npz(stream, index, size_bytes, buffer)
    elif dataset.format == "tfrecord":
        yield from _tfrecord(stream, size_bytes, num_samples, buffer)
    else:
        yield memoryview(_jpeg(stream, size_bytes))


def _random(stream: Stream, size: int, buffer: memoryview) -> Iterator[memoryview]:
    while size:
        part = min(size, CHUNK_BYTES)
        stream.fill(buffer, 0, part)
        yield buffer[:part]
        size -= part


def _npy_header(descr: str, shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(NPY_HEADER_BYTES - 10 - 1) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def _zip_entry(name: bytes, crc: int, size: int, at: int) -> tuple[bytes, bytes]:
    """Return the local header and the central directory entry of a stored file."""
    # Version 2.0, no flags, stored, 1980-01-01 (APPNOTE.TXT 4.3.7, 4.3.12).
    common = struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0x21, crc, size, size, len(name), 0)
    local = b"PK\x03\x04" + common + name
    central = (
        b"PK\x01\x02" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, at)
        + name
    )  # fmt: skip
    return local, central


def _npz(stream: Stream, index: int, size: int, buffer: memoryview) -> Iterator[memoryview]:
    """Yield an npz of `y`, an int64 label, and `x`, uint8 bytes.

    The CRC-32 stands before the data it covers, so `x` is generated twice: the second pass
    costs less than keeping samples of any size in memory would.
    """
    from isal import isal_zlib

    num = size - npz_overhead_bytes()
    label = _npy_header("<i8", (1,)) + struct.pack("<q", index)
    header = _npy_header("|u1", (num,))
    crc = isal_zlib.crc32(header)
    for part in _random(stream.again(), num, buffer):
        crc = isal_zlib.crc32(part, crc)
    y_local, y_central = _zip_entry(b"y.npy", isal_zlib.crc32(label), len(label), 0)
    x_at = len(y_local) + len(label)
    x_local, x_central = _zip_entry(b"x.npy", crc, len(header) + num, x_at)
    yield memoryview(y_local + label + x_local + header)
    yield from _random(stream, num, buffer)
    directory = y_central + x_central
    end = struct.pack(
        "<HHHHIIH", 0, 0, 2, 2, len(directory), x_at + len(x_local) + len(header) + num, 0
    )
    yield memoryview(directory + b"PK\x05\x06" + end)


def _tfrecord(
    stream: Stream, size: int, num_samples: int, buffer: memoryview
) -> Iterator[memoryview]:
    """Yield records: length, masked CRC of the length, payload, masked CRC of the payload."""
    payload = size // num_samples - TFRECORD_FRAME_BYTES
    length = struct.pack("<Q", payload)
    head = length + struct.pack("<I", mask_crc(crc32c(length)))
    if payload + TFRECORD_FRAME_BYTES > CHUNK_BYTES:
        for _ in range(num_samples):
            yield memoryview(head)
            crc = 0
            for part in _random(stream, payload, buffer):
                crc = crc32c(part, crc)
                yield part
            yield memoryview(struct.pack("<I", mask_crc(crc)))
        return
    at = 0
    for _ in range(num_samples):
        buffer[at : at + 12] = head
        stream.fill(buffer, at + 12, payload)
        crc = crc32c(buffer[at + 12 : at + 12 + payload])
        buffer[at + 12 + payload : at + 16 + payload] = struct.pack("<I", mask_crc(crc))
        at += payload + TFRECORD_FRAME_BYTES
        if at + payload + TFRECORD_FRAME_BYTES > CHUNK_BYTES:
            yield buffer[:at]
            at = 0
    if at:
        yield buffer[:at]


def _jpeg(stream: Stream, size: int) -> bytes:
    """Return a noise image of exactly `size` bytes."""
    pixels_per_byte = 1.2  # of grey noise at this quality; corrected by what comes out
    target = max(size * JPEG_FILL, size - 2 * COM_PAYLOAD_BYTES)
    while True:
        width = max(8, int((target * pixels_per_byte) ** 0.5))
        height = max(8, int(target * pixels_per_byte / width))
        image = _encode(stream.take(width * height), width, height)
        missing = size - len(image)
        if missing >= 4:
            return image[:2] + _comments(stream, missing) + image[2:]
        pixels_per_byte *= 0.97 * min(1.0, target / len(image))


def _encode(noise: bytes, width: int, height: int) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.frombytes("L", (width, height), noise).save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


def _comments(stream: Stream, size: int) -> bytes:
    """Return comment segments (marker FFFE, ITU T.81 B.2.4.5) of `size` bytes in all."""
    segments = []
    while size:
        part = min(size - 4, COM_PAYLOAD_BYTES)
        if 0 < size - 4 - part < 4:
            part -= 4
        segments.append(b"\xff\xfe" + struct.pack(">H", part + 2) + stream.take(part))
        size -= part + 4
    return b"".join(segments)
