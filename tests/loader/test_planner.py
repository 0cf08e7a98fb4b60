"""Pieces cover batches exactly, fit their slots and keep O_DIRECT's alignment."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bench.loader.planner import largest_batch_bytes, plan_pieces
from bench.loader.wire import MAX_EXTENTS
from bench.storage.base import PAGE_BYTES

extents = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 1 << 22), st.integers(1, 1 << 20)),
    min_size=1,
    max_size=40,
)
blocks = st.integers(1, 64).map(lambda pages: pages * PAGE_BYTES)


@given(extents, blocks)
def test_pieces_cover_every_byte_once_and_in_order(rows, block_bytes):
    batch = np.array(rows, np.int64)
    pieces = plan_pieces(batch, np.ones(len(rows), np.int64), block_bytes=block_bytes)
    merged: list[list[int]] = []
    for file, offset, length, _ in np.concatenate([p.extents for p in pieces]).tolist():
        last = merged[-1] if merged else None
        target = rows[len(merged) - 1] if merged else None
        if last is not None and last[2] < target[2]:
            assert (file, offset) == (last[0], last[1] + last[2])
            last[2] += length
        else:
            merged.append([file, offset, length])
    assert [tuple(row) for row in merged] == rows
    assert sum(p.payload_bytes for p in pieces) == sum(length for _, _, length in rows)
    assert sum(p.num_samples for p in pieces) == len(rows)


@given(extents, blocks)
def test_spans_fit_the_slot_and_keep_the_offset_within_a_page(rows, block_bytes):
    batch = np.array(rows, np.int64)
    for piece in plan_pieces(batch, np.ones(len(rows), np.int64), block_bytes=block_bytes):
        assert len(piece.extents) <= MAX_EXTENTS
        end = 0
        for _, offset, length, slot_offset in piece.extents.tolist():
            assert slot_offset % PAGE_BYTES == offset % PAGE_BYTES
            begin = slot_offset - slot_offset % PAGE_BYTES
            assert begin >= end, "rounded spans overlap"
            end = -(-(slot_offset + length) // PAGE_BYTES) * PAGE_BYTES
        assert end <= block_bytes
        assert piece.used_bytes <= block_bytes


@given(extents, blocks)
def test_a_batch_never_outgrows_its_bound(rows, block_bytes):
    batch = np.array(rows, np.int64)
    pieces = plan_pieces(batch, np.ones(len(rows), np.int64), block_bytes=block_bytes)
    bound = largest_batch_bytes(batch[:, 2], len(rows), block_bytes=block_bytes)
    assert sum(p.used_bytes for p in pieces) <= bound


def test_more_extents_than_a_descriptor_area_holds_are_split():
    count = MAX_EXTENTS + 10
    batch = np.stack([np.arange(count), np.zeros(count), np.full(count, 100)], axis=1)
    pieces = plan_pieces(
        batch.astype(np.int64), np.ones(count, np.int64), block_bytes=4 * count * PAGE_BYTES
    )
    assert [len(p.extents) for p in pieces] == [MAX_EXTENTS, 10]
