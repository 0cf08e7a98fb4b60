"""Layouts of Lustre files are read from their attribute, byte for byte as the client writes it."""

from __future__ import annotations

import os
import struct

import pytest

from bench.measure import lustre
from bench.measure.lustre import layout_of, parse_layout

MIB = 2**20

# A file of 4 stripes of 1 MiB: header of 32 bytes, then 24 bytes for each object.
V1 = bytes.fromhex(
    "d00bd10b 01000000"  # magic, pattern raid0
    "0a00000000000000 00040000 02000000"  # object id
    "00001000 0400 0000"  # 1 MiB, 4 stripes, generation 0
) + b"".join(
    bytes.fromhex("1100000000000000 0000000000000000 00000000") + struct.pack("<I", ost)
    for ost in range(4)
)

# The same in a pool: 16 bytes more in the header.
V3 = (
    bytes.fromhex("d00bd30b 01000000 0a0000000000000000040000 02000000 00004000 ffff 0000")
    + b"flash\0\0\0\0\0\0\0\0\0\0\0"
)


def entry(number: int, flags: int, start: int, end: int, offset: int, size: int) -> bytes:
    return struct.pack("<IIQQIIIQI", number, flags, start, end, offset, size, 0, 0, 0)


def composite(parts: list[tuple[int, int, int, bytes]], *, mirrors: int = 1) -> bytes:
    """Join components (flags, start, end, blob) as a client does."""
    at = 32 + 48 * len(parts)
    entries, blobs = b"", b""
    for number, (flags, start, end, blob) in enumerate(parts, 1):
        entries += entry(number, flags, start, end, at + len(blobs), len(blob))
        blobs += blob
    size = at + len(blobs)
    header = struct.pack("<IIIHHHHHHQ", 0x0BD60BD0, size, 3, 0, len(parts), mirrors - 1, 0, 0, 0, 0)
    return header + entries + blobs


def test_a_plain_layout() -> None:
    assert len(V1) == 32 + 4 * 24
    assert parse_layout(V1) == {
        "kind": "plain",
        "pattern": "raid0",
        "released": False,
        "stripe_bytes": MIB,
        "stripe_count": 4,
        "pool": "none",
    }


def test_a_layout_in_a_pool_over_all_targets() -> None:
    assert len(V3) == 48
    found = parse_layout(V3)
    assert found is not None
    assert (found["pool"], found["stripe_count"], found["stripe_bytes"]) == (
        "flash",
        "all",
        4 * MIB,
    )


def test_a_progressive_layout() -> None:
    last = 2**64 - 1
    blob = composite([(0x10, 0, MIB, V1), (0, MIB, last, V3)])
    found = parse_layout(blob)
    assert found is not None
    assert (found["kind"], found["mirrors"]) == ("composite", 1)
    first, second = found["components"]
    assert (first["start_bytes"], first["end_bytes"], first["stripe_count"]) == (0, MIB, 4)
    assert (first["initialised"], second["initialised"]) == (True, False)
    assert (second["start_bytes"], second["end_bytes"], second["pool"]) == (MIB, None, "flash")


def test_a_mirrored_layout_with_one_that_is_stale() -> None:
    found = parse_layout(composite([(0x10, 0, 2**64 - 1, V1), (0x11, 0, 2**64 - 1, V1)], mirrors=2))
    assert found is not None
    assert found["mirrors"] == 2
    assert [one["stale"] for one in found["components"]] == [False, True]


def test_data_on_a_metadata_server_overstriping_and_release() -> None:
    def pattern(value: int) -> dict:
        found = parse_layout(V1[:4] + struct.pack("<I", value) + V1[8:])
        assert found is not None
        return found

    assert pattern(0x100)["pattern"] == "mdt"
    assert pattern(0x201)["pattern"] == "raid0+overstriped"
    assert pattern(0x80000001)["released"]
    assert (pattern(0xFFFFFFFF)["pattern"], pattern(0xFFFFFFFF)["released"]) == ("default", False)
    assert pattern(0)["pattern"] == "default"


def test_a_client_of_the_other_byte_order() -> None:
    fields = struct.unpack_from("<IIQQIHH", V1)
    assert parse_layout(struct.pack(">IIQQIHH", *fields)) == parse_layout(V1)


@pytest.mark.parametrize("length", [0, 3, 4, 31])
def test_what_is_cut_short_is_no_layout(length: int) -> None:
    assert parse_layout(V1[:length]) is None


def test_a_composite_cut_short_or_within_itself_is_no_layout() -> None:
    blob = composite([(0x10, 0, MIB, V1), (0, MIB, 2**64 - 1, V3)])
    for length in range(4, len(blob)):
        if length < len(blob) - (len(V3) - 48) and parse_layout(blob[:length]) is not None:
            pytest.fail(f"{length} bytes of {len(blob)} were taken for a layout")
    assert parse_layout(composite([(0, 0, MIB, blob)])) is None


def test_something_else_is_no_layout() -> None:
    assert parse_layout(b"x" * 100) is None
    assert parse_layout(struct.pack("<II", 0x0BD70BD0, 8)) == {"kind": "foreign"}


def test_a_files_attribute_is_read(tmp_path, monkeypatch) -> None:
    file = tmp_path / "file"
    file.touch()
    assert layout_of(str(file)) is None  # no Lustre here
    monkeypatch.setattr(lustre, "ATTRIBUTE", "user.lov")
    try:
        os.setxattr(file, "user.lov", V1)
    except OSError:
        pytest.skip("no extended attributes on the temporary directory")
    assert layout_of(str(file)) == parse_layout(V1)
