"""Files arrive in slots whole and exact, in every mode; what is wrong with them is said."""

from __future__ import annotations

import errno
import mmap
import os

import numpy as np
import pytest

from bench.storage.base import PAGE_BYTES, Extent, ReadStats, StorageReadError
from bench.storage.posix import MAX_OPEN_FILES, FileTable, PosixBackend

SLOT_BYTES = 1 << 20


@pytest.fixture(params=["direct", "buffered", "dontcache"])
def mode(request):
    return request.param


@pytest.fixture
def slot():
    memory = mmap.mmap(-1, SLOT_BYTES)
    return memoryview(memory)


def make_files(directory, sizes):
    rng = np.random.default_rng(7)
    contents = [rng.bytes(size) for size in sizes]
    names = [f"f{i:04d}".encode() for i in range(len(sizes))]
    for name, content in zip(names, contents, strict=True):
        (directory / name.decode()).write_bytes(content)
    width = max(len(name) for name in names) + 3
    blob = b"".join(name.ljust(width, b"\0") for name in names)
    table = FileTable(memoryview(blob), width, memoryview(np.array(sizes, "<i8").tobytes()))
    return contents, table


def read(backend, slot, extents):
    stats = ReadStats()
    reader = backend.thread_reader()
    reader.read(0, extents, slot, stats)
    reader.close()
    return stats


@pytest.mark.parametrize("size", [1, 511, 512, 4095, 4096, 4097, 123_457, SLOT_BYTES])
def test_a_whole_file_arrives_exactly(tmp_path, slot, mode, size):
    (content,), table = make_files(tmp_path, [size])
    backend = PosixBackend(str(tmp_path), table, mode=mode, align_bytes=512)
    stats = read(backend, slot, [Extent(0, 0, size, 0)])
    assert bytes(slot[:size]) == content
    assert stats.transferred_bytes >= size
    assert stats.retries == stats.fallback_reads == 0
    backend.close()


@pytest.mark.parametrize(
    ("offset", "length"), [(1, 10), (4096, 8192), (5000, 70_001), (199_999, 1)]
)
def test_a_range_lands_at_the_same_offset_within_a_page(tmp_path, slot, mode, offset, length):
    (content,), table = make_files(tmp_path, [200_000])
    backend = PosixBackend(str(tmp_path), table, mode=mode, align_bytes=512)
    at = 8 * PAGE_BYTES + offset % PAGE_BYTES
    read(backend, slot, [Extent(0, offset, length, at)])
    assert bytes(slot[at : at + length]) == content[offset : offset + length]
    backend.close()


def test_many_small_files_share_a_slot_without_touching_each_other(tmp_path, slot, mode):
    sizes = [1000, 4096, 9000, 1, 70_000]
    contents, table = make_files(tmp_path, sizes)
    backend = PosixBackend(str(tmp_path), table, mode=mode, align_bytes=512)
    extents, at = [], 0
    for index, size in enumerate(sizes):
        extents.append(Extent(index, 0, size, at))
        at += -(-size // PAGE_BYTES) * PAGE_BYTES
    read(backend, slot, extents)
    for extent, content in zip(extents, contents, strict=True):
        assert bytes(slot[extent.slot_offset : extent.slot_offset + extent.length]) == content
    backend.close()


def test_a_truncated_file_is_named_with_where_it_ends(tmp_path, slot, mode):
    _, table = make_files(tmp_path, [100, 50_000])
    os.truncate(tmp_path / "f0001", 20_000)
    backend = PosixBackend(str(tmp_path), table, mode=mode, align_bytes=512)
    with pytest.raises(StorageReadError) as caught:
        read(backend, slot, [Extent(0, 0, 100, 0), Extent(1, 0, 50_000, PAGE_BYTES)])
    assert (caught.value.file, caught.value.code, caught.value.found_bytes) == (1, 0, 20_000)
    backend.close()


def test_a_missing_file_is_named_with_its_errno(tmp_path, slot, mode):
    _, table = make_files(tmp_path, [100, 100])
    (tmp_path / "f0001").unlink()
    backend = PosixBackend(str(tmp_path), table, mode=mode, align_bytes=512)
    with pytest.raises(StorageReadError) as caught:
        read(backend, slot, [Extent(1, 0, 100, 0)])
    assert (caught.value.file, caught.value.code) == (1, errno.ENOENT)
    backend.close()


def test_descriptors_of_many_large_files_stay_bounded(tmp_path, slot):
    count = MAX_OPEN_FILES + 20
    contents, table = make_files(tmp_path, [10_000] * count)
    backend = PosixBackend(str(tmp_path), table, mode="buffered", align_bytes=1)
    before = len(os.listdir("/proc/self/fd"))
    for index in range(count):
        read(backend, slot, [Extent(index, 0, 5_000, 0)])
        assert bytes(slot[:5_000]) == contents[index][:5_000]
    assert len(os.listdir("/proc/self/fd")) - before <= MAX_OPEN_FILES + 1
    backend.close()
    assert len(os.listdir("/proc/self/fd")) == before


class FaultyPreadv:
    """The first calls fail or fall short as told; then the real call is made."""

    def __init__(self, *faults):
        self.faults = list(faults)
        self.real = os.preadv

    def __call__(self, fd, buffers, offset, flags=0):
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, int):
            raise OSError(fault, os.strerror(fault))
        if isinstance(fault, float):  # a share of what was asked for, in whole pages
            (view,) = buffers
            buffers = (view[: int(len(view) * fault) // PAGE_BYTES * PAGE_BYTES],)
        return self.real(fd, buffers, offset, flags)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO])
def test_errors_that_pass_are_retried_and_counted(tmp_path, slot, monkeypatch, code, whole):
    (content,), table = make_files(tmp_path, [40_000])
    backend = PosixBackend(str(tmp_path), table, mode="buffered", align_bytes=1)
    monkeypatch.setattr(os, "preadv", FaultyPreadv(code, code))
    length = 40_000 if whole else 30_000
    stats = read(backend, slot, [Extent(0, 0, length, 0)])
    assert bytes(slot[:length]) == content[:length]
    assert stats.retries == 2
    backend.close()


def test_an_error_that_stays_fails_with_its_errno(tmp_path, slot, monkeypatch):
    _, table = make_files(tmp_path, [40_000])
    backend = PosixBackend(str(tmp_path), table, mode="buffered", align_bytes=1)
    monkeypatch.setattr(os, "preadv", FaultyPreadv(*[errno.EIO] * 10))
    with pytest.raises(StorageReadError) as caught:
        read(backend, slot, [Extent(0, 0, 40_000, 0)])
    assert caught.value.code == errno.EIO
    backend.close()


def test_short_reads_are_continued_and_counted(tmp_path, slot, mode, monkeypatch):
    (content,), table = make_files(tmp_path, [400_000])
    backend = PosixBackend(str(tmp_path), table, mode=mode, align_bytes=512)
    monkeypatch.setattr(os, "preadv", FaultyPreadv(0.5, 0.25))
    stats = read(backend, slot, [Extent(0, 0, 400_000, 0)])
    assert bytes(slot[:400_000]) == content
    assert stats.short_reads == 2
    backend.close()


@pytest.mark.parametrize("whole", [True, False])
def test_a_direct_read_that_is_refused_goes_through_a_buffered_descriptor(
    tmp_path, slot, monkeypatch, whole
):
    (content,), table = make_files(tmp_path, [300_001])
    backend = PosixBackend(str(tmp_path), table, mode="direct", align_bytes=512)
    monkeypatch.setattr(os, "preadv", FaultyPreadv(0.5, errno.EINVAL))
    length = 300_001 if whole else 250_000
    stats = read(backend, slot, [Extent(0, 0, length, 0)])
    assert bytes(slot[:length]) == content[:length]
    assert stats.fallback_reads == 1
    backend.close()


def test_nothing_is_opened_before_the_first_read(tmp_path):
    _, table = make_files(tmp_path, [10])
    before = len(os.listdir("/proc/self/fd"))
    backend = PosixBackend(str(tmp_path), table, mode="buffered", align_bytes=1)
    backend.thread_reader()
    assert len(os.listdir("/proc/self/fd")) == before
