"""Noise images of an exact file size."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

__all__ = ["jpeg_bytes"]

QUALITY = 100
"""The least work per byte: 1.6 bytes of file for a pixel of noise, where 90 gives 0.8."""

PIXELS_PER_BYTE = 0.63
"""Of grey noise at that quality."""

BLOCK = 8
"""Pixels of a block's side (ITU-T T.81, A.3.1)."""

HEADER_BYTES = 700
"""Of such an image: markers and tables."""

FILL = 0.97
"""Share of a file that the image itself aims at; comment segments of random bytes make up
the rest, so that sizes are exact."""

COMMENT_BYTES = 65533
"""Most that a segment holds: its 16-bit length counts itself."""


def jpeg_bytes(noise: Callable[[int], bytes], size_bytes: int) -> bytes:
    """Return a grey noise image of exactly `size_bytes` bytes.

    Args:
        noise: Gives so many random bytes.
        size_bytes: At least shape.MIN_JPEG_BYTES.
    """
    aim = max(size_bytes * FILL, size_bytes - 2 * COMMENT_BYTES) - HEADER_BYTES
    pixels = PIXELS_PER_BYTE * aim
    while True:
        # Whole blocks: the rest of a cut one would be stored all the same.
        width = max(1, int(pixels**0.5) // BLOCK) * BLOCK
        height = max(1, int(pixels / width) // BLOCK) * BLOCK
        image = _encode(noise(width * height), width, height)
        missing = size_bytes - len(image)
        if missing >= 4:
            return image[:2] + _comments(noise, missing) + image[2:]
        pixels *= 0.97 * min(1.0, size_bytes / len(image))


def _encode(noise: bytes, width: int, height: int) -> bytes:
    from PIL import Image

    # Into a descriptor: there Pillow encodes without the interpreter lock, so that threads
    # work side by side; into a BytesIO it holds the lock.
    with os.fdopen(os.memfd_create("jpeg"), "w+b", buffering=0) as file:
        Image.frombytes("L", (width, height), noise).save(file, "JPEG", quality=QUALITY)
        return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)


def _comments(noise: Callable[[int], bytes], size: int) -> bytes:
    """Return comment segments (marker FFFE, ITU-T T.81 B.2.4.5) of `size` bytes in all."""
    segments = []
    while size:
        part = min(size - 4, COMMENT_BYTES)
        if 0 < size - 4 - part < 4:
            part -= 4
        segments.append(b"\xff\xfe" + struct.pack(">H", part + 2) + noise(part))
        size -= part + 4
    return b"".join(segments)
