"""Files are what their format's own library, or an independent reader, takes them for."""

from __future__ import annotations

import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from bench.dataset import npz, shape
from bench.dataset.checksums import Crc32c, combine, crc32c, mask_crc
from bench.dataset.content import CHUNK_BYTES, SCRATCH_BYTES, file_parts

MIXED = {"samples": 8, "mean": 60_000, "stdev": 20_000}
LARGE = CHUNK_BYTES + 4321


def crc32c_by_bits(data: bytes) -> int:
    """RFC 3720's CRC, bit by bit, sharing nothing with the library."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def read_tfrecords(data: bytes):
    """Yield payloads; TensorFlow's record format, checked as its reader does."""
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        for start, size in ((at, 8), (at + 12, length)):
            (masked,) = struct.unpack_from("<I", data, start + size)
            rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
            crc = (rotated >> 17 | rotated << 15) & 0xFFFFFFFF
            assert crc == crc32c(data[start : start + size])
        yield data[at + 12 : at + 12 + length]
        at += length + 16


def test_crc32c_is_castagnolis():
    # RFC 3720, B.4
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(b"123456789") == crc32c_by_bits(b"123456789") == 0xE3069283


def test_mask_is_tensorflows():
    # tensorflow/core/lib/hash/crc32c.h: ((crc >> 15) | (crc << 17)) + 0xa282ead8ul
    assert mask_crc(0) == 0xA282EAD8
    assert mask_crc(0xFFFFFFFF) == 0xA282EAD7
    assert mask_crc(0x8000) == 0xA282EAD9
    assert mask_crc(1) == 0xA284EAD8


@pytest.mark.parametrize("cut", [0, 1, 7, 500, 999, 1000])
def test_checksums_of_parts_combine(cut):
    data = np.random.default_rng(1).bytes(1000)
    assert combine(crc32c(data[:cut]), crc32c(data[cut:]), 1000 - cut) == crc32c(data)


def test_a_head_may_come_last_but_nothing_may_be_left_out():
    data = np.random.default_rng(1).bytes(1000)
    checksum = Crc32c()
    checksum.add(100, memoryview(data)[100:600])
    checksum.add(600, memoryview(data)[600:])
    with pytest.raises(ValueError, match="join neither"):
        checksum.add(0, memoryview(data)[:99])
    checksum.add(0, memoryview(data)[:100])
    assert checksum.value == crc32c(data)


@pytest.mark.parametrize("mean", [300, 60_000, LARGE])
def test_numpy_opens_npz(make, mean):
    made = make("npz", samples=3, mean=mean)
    for index in range(3):
        with np.load(made.path(index)) as arrays:  # zipfile checks both CRC-32
            assert sorted(arrays.files) == ["x", "y"]
            assert arrays["x"].dtype == np.uint8
            assert arrays["x"].shape == (mean,)
            assert arrays["y"].tolist() == [index]
        with zipfile.ZipFile(made.path(index)) as archive:
            assert archive.testzip() is None
            assert {i.compress_type for i in archive.infolist()} == {zipfile.ZIP_STORED}


def test_npz_entries_grow_into_zip64(make, monkeypatch, tmp_path):
    monkeypatch.setattr(shape, "ZIP64_LIMIT_BYTES", 70_000)
    made = make("npz", **MIXED)
    sizes = shape.sample_sizes(made.dataset, 0, 8)
    large = sizes + shape.NPY_HEADER_BYTES >= 70_000
    assert large.any()
    assert not large.all()
    for index in range(8):
        data = made.path(index).read_bytes()
        assert (b"PK\x06\x06" in data[-200:]) == large[index]
        with np.load(made.path(index)) as arrays:
            assert len(arrays["x"]) == sizes[index]
        with zipfile.ZipFile(made.path(index)) as archive:
            assert archive.testzip() is None


def test_npz_of_more_than_four_gib_states_its_true_size():
    size = 5 * 2**30
    ends = npz.npz_ends(3, size + shape.npz_overhead_bytes(size))
    assert ends.array_bytes == size
    assert len(ends.head(0)) == ends.array_offset
    assert len(ends.head(0)) + size + len(ends.tail(0)) == size + shape.npz_overhead_bytes(size)
    assert struct.pack("<QQ", size + 128, size + 128) in ends.head(0)


@pytest.mark.parametrize("mean", [1, 2500, 60_000, LARGE])
@pytest.mark.parametrize("samples_per_file", [1, 3, 700])
def test_an_independent_reader_reads_tfrecords(make, mean, samples_per_file):
    if mean * samples_per_file > 50e6:
        samples_per_file = 5
    made = make(
        "tfrecord", samples=samples_per_file + 1, mean=mean, samples_per_file=samples_per_file
    )
    first = list(read_tfrecords(made.path(0).read_bytes()))
    last = list(read_tfrecords(made.path(1).read_bytes()))
    assert [mean] * samples_per_file == [len(record) for record in first]
    assert [mean] == [len(record) for record in last]
    if mean > 1:
        assert len({*first, *last}) == samples_per_file + 1


@pytest.mark.parametrize("mean", [2048, 3000, 60_000, 322_957])
def test_pillow_opens_jpegs_of_exact_size(make, mean):
    made = make("jpeg", samples=4, mean=mean)
    pixels = set()
    for index in range(4):
        assert made.path(index).stat().st_size == mean
        with Image.open(made.path(index)) as image:
            image.load()
            pixels.add(image.tobytes())
    assert len(pixels) == 4


def test_every_size_of_jpeg_comes_out(dataset):
    buffer = memoryview(bytearray(SCRATCH_BYTES))
    for size in [*range(2048, 2100), *range(131_000, 131_200, 7)]:
        parts = [bytes(p) for _, p in file_parts(dataset("jpeg"), 0, size, 1, buffer)]
        assert [size] == [len(part) for part in parts]


def test_raw_samples_lie_back_to_back(make):
    made = make("raw", samples=7, mean=1000, samples_per_file=3)
    assert [made.path(i).stat().st_size for i in range(3)] == [3000, 3000, 1000]
    assert made.manifest.sample_extent(0, 2) == (2000, 1000)


def test_extents_of_records_hold_whole_records(make):
    made = make("tfrecord", samples=5, mean=777, samples_per_file=5)
    offset, length = made.manifest.sample_extent(0, 3)
    data = made.path(0).read_bytes()
    assert list(read_tfrecords(data))[3:4] == list(read_tfrecords(data[offset : offset + length]))
    with pytest.raises(IndexError):
        made.manifest.sample_extent(0, 5)


@pytest.mark.parametrize("format", ["npz", "tfrecord", "raw", "jpeg"])
def test_nothing_compresses(make, format):
    made = make(format, samples=2, mean=300_000)
    data = made.path(0).read_bytes()
    assert len(zlib.compress(data, 6)) > (0.99 if format != "jpeg" else 0.9) * len(data)


def test_no_block_repeats_within_or_between_files_at_any_alignment_of_the_format(make):
    blocks: set[bytes] = set()
    count = 0
    for options in (
        {"format": "raw", "mean": 1_500_000, "samples": 4},
        {"format": "tfrecord", "mean": 50_000, "samples": 90, "samples_per_file": 30, "seed": 2},
        {"format": "npz", "mean": 1_500_000, "samples": 4, "seed": 3},
        {"format": "jpeg", "mean": 300_000, "samples": 4, "seed": 4},
    ):
        made = make(**options)
        for index in range(len(made.manifest.names)):
            data = made.path(index).read_bytes()
            for at in range(0, len(data) - 511, 512):
                blocks.add(data[at : at + 512])
                count += 1
    assert count == len(blocks)


@pytest.mark.parametrize("format", ["npz", "tfrecord", "raw", "jpeg"])
def test_bytes_depend_on_seed_and_index_alone(make, dataset, format):
    made = make(format, **MIXED)
    more = dataset(format, **{**MIXED, "samples": 30})
    other = dataset(format, **MIXED, seed=2)
    buffer = memoryview(bytearray(SCRATCH_BYTES))

    def content(described, index: int) -> bytes:
        size = shape.file_size(described, index)
        data = bytearray(size)
        for at, part in file_parts(described, index, size, 1, buffer):
            data[at : at + len(part)] = part
        return bytes(data)

    assert made.path(5).read_bytes() == content(more, 5)
    assert made.path(5).read_bytes() != content(other, 5)


@pytest.mark.parametrize("format", ["npz", "tfrecord", "raw", "jpeg"])
def test_manifest_and_files_agree(make, format):
    made = make(format, **MIXED)
    files = [made.path(index) for index in range(8)]
    assert made.manifest.size_bytes.tolist() == [f.stat().st_size for f in files]
    assert made.manifest.crc32c.tolist() == [crc32c(f.read_bytes()) for f in files]
    assert made.manifest.size_bytes.tolist() == [shape.file_size(made.dataset, i) for i in range(8)]
    assert made.manifest.total_samples == 8
