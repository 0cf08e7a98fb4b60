"""Files are what their format's own library takes them for, and nothing in them repeats."""

from __future__ import annotations

import struct
import zlib

import google_crc32c
import numpy as np
import pytest
from PIL import Image

from bench.dataset.content import mask_crc
from bench.dataset.generate import generate
from bench.dataset.shape import directory_name
from bench.spec.documents import Dataset

SHAPES = {
    "npz": {"samples": 4, "sample_bytes": {"mean": 300_000, "stdev": 100_000}},
    "tfrecord": {"samples": 60, "samples_per_file": 20, "sample_bytes": {"mean": 20_000}},
    "jpeg": {"samples": 6, "sample_bytes": {"mean": 120_000, "stdev": 30_000}},
    "raw": {"samples": 6, "samples_per_file": 2, "sample_bytes": {"mean": 100_000}},
}


def make(tmp_path, kind, **changes):
    dataset = Dataset(format=kind, **{**SHAPES[kind], **changes})
    manifest = generate(tmp_path, "t", dataset, workers=2, progress=lambda _: None)
    directory = tmp_path / directory_name("t", dataset)
    return directory, manifest, [directory / name.decode() for name in manifest.names]


@pytest.mark.parametrize("kind", SHAPES)
def test_manifest_and_files_agree(tmp_path, kind):
    _, manifest, files = make(tmp_path, kind)
    assert [f.stat().st_size for f in files] == manifest.size_bytes.tolist()
    assert [google_crc32c.value(f.read_bytes()) for f in files] == manifest.crc32c.tolist()
    assert manifest.total_samples == SHAPES[kind]["samples"]


def test_numpy_opens_npz(tmp_path):
    _, manifest, files = make(tmp_path, "npz")
    for index, file in enumerate(files):
        with np.load(file) as arrays:
            assert arrays["y"].tolist() == [index]
            assert arrays["x"].dtype == np.uint8
            assert len(arrays["x"]) == manifest.size_bytes[index] - 458
    import zipfile

    with zipfile.ZipFile(files[0]) as archive:
        assert archive.testzip() is None


def test_an_independent_reader_takes_tfrecords(tmp_path):
    _, _, files = make(tmp_path, "tfrecord")
    for file in files:
        data, at, records = file.read_bytes(), 0, 0
        while at < len(data):
            length, length_crc = struct.unpack_from("<QI", data, at)
            assert length_crc == mask_crc(google_crc32c.value(data[at : at + 8]))
            payload = data[at + 12 : at + 12 + length]
            (payload_crc,) = struct.unpack_from("<I", data, at + 12 + length)
            assert payload_crc == mask_crc(google_crc32c.value(payload))
            at += 16 + length
            records += 1
        assert (records, at) == (20, len(data))


def test_the_crc_mask_is_the_published_one():
    # tensorflow/core/lib/hash/crc32c_test.cc checks that masking changes and unmasks; the
    # inverse below is written from its definition.
    for crc in (0, 1, 0xDEADBEEF, 0xFFFFFFFF):
        rotated = (mask_crc(crc) - 0xA282EAD8) & 0xFFFFFFFF
        assert (rotated >> 17 | rotated << 15) & 0xFFFFFFFF == crc


def test_pillow_opens_jpegs_of_different_content(tmp_path):
    _, _, files = make(tmp_path, "jpeg")
    pixels = set()
    for file in files:
        with Image.open(file) as image:
            image.load()
            pixels.add(zlib.crc32(image.tobytes()))
    assert len(pixels) == len(files)


@pytest.mark.parametrize("kind", SHAPES)
def test_no_block_repeats_and_nothing_compresses(tmp_path, kind):
    _, _, files = make(tmp_path, kind)
    blocks = []
    for file in files:
        data = file.read_bytes()
        # Entropy-coded images have headers that repeat and a little redundancy of their own.
        assert len(zlib.compress(data)) > (0.9 if kind == "jpeg" else 0.99) * len(data)
        blocks += [data[at : at + 4096] for at in range(4096, len(data) - 4096, 4096)]
    assert len(set(blocks)) == len(blocks)


@pytest.mark.parametrize("kind", SHAPES)
def test_bytes_depend_on_the_seed_alone(tmp_path, kind):
    first = make(tmp_path / "a", kind)[1].crc32c
    again = make(tmp_path / "b", kind)[1].crc32c
    other = make(tmp_path / "c", kind, seed=2)[1].crc32c
    assert first.tolist() == again.tolist()
    assert not set(first.tolist()) & set(other.tolist())
