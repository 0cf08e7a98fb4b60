"""Lines of a pod's log that the launcher reads: numbered, checked, between whatever else is there.

`@bench SEQUENCE CRC32 JSON`. Container runtimes split lines at 16 KiB, so none is longer. Files
travel as zstd-compressed pieces in base 85, whose alphabet needs no escapes in JSON.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = [
    "BadLineError",
    "Line",
    "LineWriter",
    "encoded_bytes",
    "lines_of",
    "pack",
    "parse_line",
    "unpack",
]

PREFIX = "@bench "
CHUNK_BYTES = 12_000
"""Compressed bytes of a line; 15,000 characters of base 85, below 16 KiB with what is around."""

CODEC = "zstd"


class BadLineError(ValueError):
    """A line of ours that did not arrive as it was sent."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes:
        sequence: 0-based, without gaps within a pod.
        event: What it says; `event["event"]` is its kind.
    """

    sequence: int
    event: dict[str, Any]


def parse_line(text: str) -> Line | None:
    """Return what a line of a log says; None where it is not one of ours.

    Raises:
        BadLineError: It is damaged.
    """
    if not text.startswith(PREFIX):
        return None
    try:
        sequence, crc, payload = text[len(PREFIX) :].rstrip("\n").split(" ", 2)
        if zlib.crc32(payload.encode()) != int(crc, 16):
            raise BadLineError(f"line {sequence} does not match its checksum")
        return Line(int(sequence), json.loads(payload))
    except (ValueError, IndexError) as error:
        raise (
            error if isinstance(error, BadLineError) else BadLineError("a line is cut off")
        ) from error


class LineWriter:
    """Writes numbered lines; safe to use from several threads.

    Args:
        write: Takes one line with its end.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self.count = 0

    def __call__(self, event: dict[str, Any]) -> None:
        """Write one event."""
        payload = json.dumps(event, separators=(",", ":"))
        with self._lock:
            self._write(f"{PREFIX}{self.count} {zlib.crc32(payload.encode()):08x} {payload}\n")
            self.count += 1


def pack(path: Path, *, row_bytes: int = 1) -> list[dict[str, Any]]:
    """Return the events that carry a file.

    Args:
        path: The file; its name goes along.
        row_bytes: Of a table's rows: bytes are put column by column first, which makes
            counters and time stamps compress well.
    """
    raw = path.read_bytes()
    packed: bytes = pa.compress(_columns(raw, row_bytes), codec=CODEC, asbytes=True)
    parts = [packed[at : at + CHUNK_BYTES] for at in range(0, len(packed), CHUNK_BYTES)] or [b""]
    head = {
        "event": "file",
        "name": path.name,
        "bytes": len(raw),
        "row_bytes": row_bytes,
        "sha256": hashlib.sha256(raw).hexdigest(),
        "parts": len(parts),
    }
    return [
        head | {"part": index, "data": base64.b85encode(part).decode()}
        for index, part in enumerate(parts)
    ]


def unpack(parts: dict[int, dict[str, Any]]) -> bytes:
    """Return a file from its events by part number.

    Raises:
        BadLineError: Parts are missing, or it is not what was sent; says which.
    """
    head = next(iter(parts.values()))
    missing = [index for index in range(head["parts"]) if index not in parts]
    if missing:
        raise BadLineError(f"{len(missing)} of {head['parts']} parts of {head['name']} are missing")
    packed = b"".join(base64.b85decode(parts[i]["data"]) for i in range(head["parts"]))
    size, row_bytes = head["bytes"], head["row_bytes"]
    try:
        columns: bytes = pa.decompress(packed, decompressed_size=size, codec=CODEC, asbytes=True)
    except pa.ArrowException as error:
        raise BadLineError(f"{head['name']} cannot be unpacked ({error})") from error
    raw = _rows(columns, row_bytes)
    if hashlib.sha256(raw).hexdigest() != head["sha256"]:
        raise BadLineError(f"{head['name']} does not match its checksum")
    return raw


def encoded_bytes(events: list[dict[str, Any]]) -> int:
    """Return about how much log the events take."""
    return sum(len(event["data"]) + 300 for event in events)


def _columns(raw: bytes, row_bytes: int) -> bytes:
    if row_bytes <= 1 or len(raw) % row_bytes:
        return raw
    return np.frombuffer(raw, np.uint8).reshape(-1, row_bytes).T.tobytes()


def _rows(columns: bytes, row_bytes: int) -> bytes:
    if row_bytes <= 1 or len(columns) % row_bytes:
        return columns
    return np.frombuffer(columns, np.uint8).reshape(row_bytes, -1).T.tobytes()


def lines_of(text: Iterator[str]) -> Iterator[Line]:
    """Return our lines among others; damaged ones are left out and show as gaps."""
    for one in text:
        try:
            line = parse_line(one)
        except BadLineError:
            continue
        if line is not None:
            yield line
