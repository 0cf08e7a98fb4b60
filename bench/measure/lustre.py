"""How a file lies on Lustre: its layout, from the extended attribute `lustre.lov`.

Any user who can read the file can read it; no `lfs` and no privilege is needed. The structures
are those of lustre_user.h: plain layouts (v1, and v3 with a pool), and composite ones of
several components (progressive file layouts, mirrors). The client writes them in its own byte
order, which the magic number tells.
"""

from __future__ import annotations

import os
import struct
from typing import Any

__all__ = ["layout_of", "parse_layout"]

ATTRIBUTE = "lustre.lov"

MAGIC_V1 = 0x0BD10BD0
MAGIC_V3 = 0x0BD30BD0
MAGIC_SPECIFIC = 0x0BD50BD0
MAGIC_COMPOSITE = 0x0BD60BD0
MAGIC_FOREIGN = 0x0BD70BD0
"""LOV_USER_MAGIC_*; SPECIFIC has the shape of v3."""

PLAIN = "IIQQIHH"
"""lov_user_md_v1: magic, pattern, object id (two), stripe size, stripe count, offset."""

POOL_BYTES = 16
COMPOSITE = "IIIHHH6xQ"
"""lov_comp_md_v1: magic, size, generation, flags, number of entries, mirrors - 1, padding."""

ENTRY = "IIQQIIIQ4x"
"""lov_comp_md_entry_v1: id, flags, extent (two), offset, size, generation, time."""

END_OF_FILE = 2**64 - 1
ALL_STRIPES = 0xFFFF
INITIALISED = 0x10
STALE = 0x1

PATTERNS = {0x001: "raid0", 0x002: "raid1", 0x100: "mdt", 0x200: "overstriped"}
PATTERN_MASK = 0x0000FFFF
RELEASED = 0x80000000
DEFAULT_PATTERN = 0xFFFFFFFF

Layout = dict[str, Any]


def parse_layout(blob: bytes) -> Layout | None:
    """Return what a layout attribute says; None for what is no layout.

    Args:
        blob: Value of the attribute.

    Returns:
        `kind` plain, composite or foreign; for a plain one `pattern`, `stripe_bytes`,
        `stripe_count` ("all" for as many as there are) and `pool`; for a composite one
        `mirrors` and `components`, each a plain one with `start_bytes`, `end_bytes` (None for
        the end of the file) and whether it is `initialised` (has objects) and `stale`.
    """
    for order in ("<", ">"):
        if len(blob) < struct.calcsize("I"):
            return None
        (magic,) = struct.unpack_from(f"{order}I", blob)
        try:
            if magic in {MAGIC_V1, MAGIC_V3, MAGIC_SPECIFIC}:
                return _plain(blob, order, magic)
            if magic == MAGIC_COMPOSITE:
                return _composite(blob, order)
        except struct.error:
            return None  # cut short
        if magic == MAGIC_FOREIGN:
            return {"kind": "foreign"}
    return None


def _plain(blob: bytes, order: str, magic: int) -> Layout:
    _, pattern, _, _, stripe_bytes, count, _ = struct.unpack_from(f"{order}{PLAIN}", blob)
    pool = b""
    if magic != MAGIC_V1:
        (pool,) = struct.unpack_from(f"{POOL_BYTES}s", blob, struct.calcsize(f"{order}{PLAIN}"))
    if pattern == DEFAULT_PATTERN:
        pattern = 0
    names = [name for bit, name in PATTERNS.items() if pattern & PATTERN_MASK & bit]
    return {
        "kind": "plain",
        "pattern": "+".join(names) or "default",
        "released": bool(pattern & RELEASED),
        "stripe_bytes": stripe_bytes,
        "stripe_count": "all" if count == ALL_STRIPES else count,
        "pool": pool.split(b"\0", 1)[0].decode("ascii", "replace") or "none",
    }


def _composite(blob: bytes, order: str) -> Layout:
    header = struct.unpack_from(f"{order}{COMPOSITE}", blob)
    num_entries, mirrors = header[4], header[5] + 1
    components = []
    at = struct.calcsize(f"{order}{COMPOSITE}")
    for _ in range(num_entries):
        entry = struct.unpack_from(f"{order}{ENTRY}", blob, at)
        at += struct.calcsize(f"{order}{ENTRY}")
        _, flags, start, end, offset, size = entry[:6]
        component = parse_layout(blob[offset : offset + size])
        if component is None or component["kind"] == "composite":
            raise struct.error("a component that is none")
        components.append(
            component
            | {
                "start_bytes": start,
                "end_bytes": None if end == END_OF_FILE else end,
                "initialised": bool(flags & INITIALISED),
                "stale": bool(flags & STALE),
            }
        )
    return {"kind": "composite", "mirrors": mirrors, "components": components}


def layout_of(path: str) -> Layout | None:
    """Return the layout of a file, or the default that a directory hands down.

    Args:
        path: On Lustre.

    Returns:
        None where it has none of its own, or it cannot be read.
    """
    try:
        return parse_layout(os.getxattr(path, ATTRIBUTE))
    except OSError:
        return None
