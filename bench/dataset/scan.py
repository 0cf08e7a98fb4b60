"""Existing data as a shape: format, number, sizes, samples in each object.

One pass over a listing in bounded memory, whatever its length; a few objects, drawn evenly over
the whole listing, are looked into by their first bytes.
"""

from __future__ import annotations

import math
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from bench.dataset.checksums import crc32c, mask_crc
from bench.dataset.progress import REPORT_SECONDS
from bench.dataset.shape import TFRECORD_FRAME_BYTES
from bench.errors import DatasetError
from bench.storage.base import Entry

__all__ = ["Scan", "Sizes", "scan_entries"]

LOOKED_INTO = 24
PEEK_BYTES = 4096
MAX_SUFFIXES = 64
"""Kinds of names told apart; the rest is counted as "other"."""

HIDDEN = ("_SUCCESS", ".crc", "manifest.parquet", "session.json")


@dataclass(slots=True)
class Sizes:
    """Sizes of objects, as they come.

    Attributes:
        count: Objects.
        total: Bytes.
        smallest: Bytes; 0 for none.
        largest: Bytes.
        bins: Objects by the power of two below their size.
    """

    count: int = 0
    total: int = 0
    smallest: int = 0
    largest: int = 0
    bins: Counter[int] = field(default_factory=Counter)
    _mean: float = 0.0
    _squares: float = 0.0

    def add(self, size: int) -> None:
        """Take one more (Welford's update, so that large sizes lose no digits)."""
        self.count += 1
        self.total += size
        self.smallest = size if self.count == 1 else min(self.smallest, size)
        self.largest = max(self.largest, size)
        self.bins[size.bit_length()] += 1
        delta = size - self._mean
        self._mean += delta / self.count
        self._squares += delta * (size - self._mean)

    @property
    def mean(self) -> float:
        """Bytes."""
        return self._mean

    @property
    def stdev(self) -> float:
        """Bytes; of all objects, not of a sample of them."""
        return math.sqrt(self._squares / self.count) if self.count else 0.0


@dataclass(frozen=True, slots=True)
class Scan:
    """What a listing and a few first bytes tell.

    Attributes:
        format: npz, tfrecord, jpeg or raw.
        seen_as: What the objects themselves look like: those, or png, parquet, tar, hdf5 ...
        sizes: Of all objects.
        suffixes: Objects by the end of their names.
        samples_per_object: 1, or estimated from the first record of a few objects.
        sample_bytes: Mean payload of a sample.
        looked_into: Objects whose first bytes were read.
    """

    format: str
    seen_as: str
    sizes: Sizes
    suffixes: Counter[str]
    samples_per_object: int
    sample_bytes: float
    looked_into: int


MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "npz"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG", "png"),
    (b"PAR1", "parquet"),
    (b"\x89HDF", "hdf5"),
    (b"\x93NUMPY", "npy"),
    (b"\x1f\x8b", "gzip"),
)


def _looks_like(head: bytes) -> str:
    for magic, name in MAGIC:
        if head.startswith(magic):
            return name
    if head[257:262] == b"ustar":
        return "tar"
    if len(head) >= 12:
        (length,) = struct.unpack_from("<Q", head)
        (crc,) = struct.unpack_from("<I", head, 8)
        if crc == mask_crc(crc32c(head[:8])) and length < 2**40:
            return "tfrecord"
    return "raw"


def scan_entries(
    entries: Iterable[Entry],
    peek: Callable[[str, int], bytes],
    *,
    place: str,
    progress: Callable[[int, int, float], None],
    clock: Callable[[], float] = time.monotonic,
) -> Scan:
    """Look through a listing once.

    Args:
        entries: The listing.
        peek: Returns the first bytes of an object by name.
        place: For errors.
        progress: Called a few times a second with (objects, bytes, seconds).
        clock: For rates.

    Raises:
        DatasetError: There is nothing.
    """
    sizes, suffixes = Sizes(), Counter[str]()
    drawn: list[Entry] = []
    random = Random(1)
    begin = told = clock()
    for entry in entries:
        base = entry.name.rpartition("/")[2]
        if entry.size == 0 or base.startswith(".") or base.endswith(HIDDEN):
            continue
        sizes.add(entry.size)
        suffix = base.rpartition(".")[2].lower() if "." in base else "none"
        suffixes[suffix if suffix in suffixes or len(suffixes) < MAX_SUFFIXES else "other"] += 1
        # Every object has the same chance to be looked into (reservoir sampling, Vitter's R).
        if len(drawn) < LOOKED_INTO:
            drawn.append(entry)
        elif (at := random.randrange(sizes.count)) < LOOKED_INTO:
            drawn[at] = entry
        if sizes.count % 256 == 0 and clock() - told >= REPORT_SECONDS:
            told = clock()
            progress(sizes.count, sizes.total, told - begin)
    if not sizes.count:
        raise DatasetError(place, "holds no data", "check the address; empty objects do not count")
    progress(sizes.count, sizes.total, clock() - begin)
    return _judged(sizes, suffixes, drawn, peek)


def _judged(
    sizes: Sizes, suffixes: Counter[str], drawn: list[Entry], peek: Callable[[str, int], bytes]
) -> Scan:
    heads = [(entry, peek(entry.name, PEEK_BYTES)) for entry in drawn]
    seen = Counter(_looks_like(head) for _, head in heads)
    (seen_as, _), *_ = seen.most_common(1)
    if seen_as == "npz" and "npz" not in suffixes:
        seen_as = "zip"
    known = seen_as if seen_as in ("npz", "tfrecord", "jpeg") else "raw"
    per_object, payload = 1, sizes.mean
    if known == "tfrecord":
        records = [
            (entry.size, struct.unpack_from("<Q", head)[0] + TFRECORD_FRAME_BYTES)
            for entry, head in heads
            if _looks_like(head) == "tfrecord"
        ]
        stride = sum(length for _, length in records) / len(records)
        per_object = max(1, round(sizes.mean / stride))
        payload = max(1.0, sizes.mean / per_object - TFRECORD_FRAME_BYTES)
    return Scan(known, seen_as, sizes, suffixes, per_object, payload, len(heads))
