"""Damage is found, named, and told apart."""

from __future__ import annotations

import os
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.dataset import verify as module
from bench.dataset.layout import MANIFEST_NAME
from bench.dataset.manifest import Manifest
from bench.dataset.verify import check, first_difference, verify
from bench.errors import DatasetError


def read_all(made, progress=lambda *_: None):
    verify(made.directory, made.manifest, workers=2, progress=progress)


def flip(path, at):
    data = np.fromfile(path, np.uint8)
    data[at] ^= 1
    data.tofile(path)


def test_the_manifest_survives_the_disk(make):
    made = make("tfrecord", samples=7, samples_per_file=3)
    loaded = Manifest.load(made.directory)
    for column in ("names", "size_bytes", "num_samples", "crc32c"):
        expected = getattr(made.manifest, column)
        assert getattr(loaded, column).dtype == expected.dtype
        assert getattr(loaded, column).tolist() == expected.tolist()
    assert (loaded.name, loaded.dataset, loaded.digest) == (
        "test", made.dataset, made.manifest.digest,
    )  # fmt: skip
    assert loaded.total_samples == 7


def test_the_digest_is_of_rows_and_not_of_the_encoding(make):
    made = make()
    path = made.directory / MANIFEST_NAME
    pq.write_table(pq.read_table(path), path, compression="gzip", row_group_size=2)
    assert Manifest.load(made.directory).digest == made.manifest.digest


def test_the_digest_covers_every_column(make):
    from dataclasses import replace

    manifest = make(samples=3).manifest
    digests = {manifest.digest}
    for column in ("size_bytes", "num_samples", "crc32c"):
        changed = getattr(manifest, column).copy()
        changed[1] += 1
        digests.add(replace(manifest, **{column: changed}).digest)
    digests.add(replace(manifest, names=manifest.names[[0, 2, 1]]).digest)
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda f: f.unlink(), "has no manifest; run `bench prepare`"),
        (lambda f: os.truncate(f, 0), "cannot be read"),
        (lambda f: os.truncate(f, 100), "cannot be read"),
        (lambda f: os.truncate(f, f.stat().st_size - 1), "cannot be read"),
        (lambda f: f.write_bytes(b"junk" * 100), "cannot be read"),
        (lambda f: (f.unlink(), f.mkdir()), "cannot be read"),
        (lambda f: pq.write_table(pa.table({"a": [1]}), f), "not one of ours"),
    ],
    ids=["missing", "empty", "truncated", "cut", "junk", "directory", "foreign"],
)
def test_a_damaged_manifest_is_named(make, action, words):
    made = make()
    action(made.directory / MANIFEST_NAME)
    with pytest.raises(DatasetError, match=words) as caught:
        Manifest.load(made.directory)
    assert MANIFEST_NAME in str(caught.value)
    assert "\n" not in str(caught.value)


def rewrite(made, *, rows=None, **metadata):
    path = made.directory / MANIFEST_NAME
    table = pq.read_table(path)
    if rows is not None:
        table = table.set_column(1, "size_bytes", [rows(table["size_bytes"].to_numpy().copy())])
    changed = {f"bench.{key}".encode(): value.encode() for key, value in metadata.items()}
    kept = pq.read_table(path).schema.metadata
    pq.write_table(table.replace_schema_metadata({**kept, **changed}), path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"generator_version": "99"}, "made by generator version 99, this is version 1"),
        ({"generator_version": "one"}, "not one of ours"),
        ({"dataset": "{}"}, "not one of ours"),
        ({"dataset": "nonsense"}, "not one of ours"),
        ({"rows": lambda sizes: sizes + 1}, "rows are not what bench wrote"),
    ],
)
def test_a_manifest_of_another_version_or_changed_by_hand_is_refused(make, change, words):
    made = make()
    rewrite(made, **change)
    with pytest.raises(DatasetError, match=words):
        Manifest.load(made.directory)


def test_another_data_set_than_expected_is_refused(make, dataset):
    made = make()
    check(made.directory, made.manifest, expected=made.dataset)
    with pytest.raises(DatasetError, match="another data set"):
        check(made.directory, made.manifest, expected=dataset(seed=9))


def hollow(path):
    size = path.stat().st_size
    os.truncate(path, 0)
    os.truncate(path, size)


def half_hollow(path):
    data = path.read_bytes()
    hollow(path)
    with path.open("r+b") as file:
        file.write(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: f.unlink(), "is missing"),
        (lambda f: os.truncate(f, 100), "has 100 bytes instead of 50000"),
        (lambda f: f.write_bytes(f.read_bytes() + b"x"), "has 50001 bytes instead of 50000"),
        (hollow, "is sparse"),
        (half_hollow, "is sparse"),
        (lambda f: f.write_bytes(bytes(50_000)), "is filled with zeros"),
        (lambda f: f.write_bytes(f.read_bytes()[:30_000] + bytes(20_000)), "filled with zeros"),
    ],
)
def test_the_quick_check_names_the_file(make, damage, words):
    made = make(samples=20)
    damage(made.path(13))
    with pytest.raises(DatasetError, match=words) as caught:
        check(made.directory, made.manifest, expected=None)
    assert made.path(13).name in str(caught.value)
    assert "prepare --remake" in str(caught.value)


def test_a_wholly_hollow_data_set_is_refused(make):
    made = make(samples=5)
    for index in range(5):
        hollow(made.path(index))
    with pytest.raises(DatasetError, match=r"is sparse.* and 2 more"):
        check(made.directory, made.manifest, expected=None)


def test_where_no_allocation_is_told_zeros_are_still_found(make, monkeypatch):
    made = make(samples=5)
    monkeypatch.setattr(module, "_size_and_blocks", lambda path: (os.stat(path).st_size, 0))
    check(made.directory, made.manifest, expected=None)
    hollow(made.path(2))
    with pytest.raises(DatasetError, match="filled with zeros"):
        check(made.directory, made.manifest, expected=None)


def test_small_files_may_lie_in_their_inodes(make, monkeypatch):
    made = make(samples=5, mean=100)

    def in_inode(path):
        return os.stat(path).st_size, 8 if path.endswith(MANIFEST_NAME) else 0

    monkeypatch.setattr(module, "_size_and_blocks", in_inode)
    check(made.directory, made.manifest, expected=None)


def test_several_problems_are_named_and_counted(make):
    made = make(samples=8)
    for index in range(6):
        made.path(index).unlink()
    with pytest.raises(DatasetError, match=r"is missing.* and 3 more"):
        check(made.directory, made.manifest, expected=None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads anything")
def test_files_that_may_not_be_read_are_named(make):
    made = make(samples=3)
    made.path(1).chmod(0)
    with pytest.raises(DatasetError, match=r"00000001.* cannot be read \(Permission denied\)"):
        check(made.directory, made.manifest, expected=None)


@pytest.mark.parametrize("format", ["npz", "tfrecord", "jpeg", "raw"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.999999])
def test_a_flipped_byte_is_found_with_its_place(make, format, share):
    made = make(format, samples=4, mean=1_200_000 if format != "jpeg" else 50_000)
    read_all(made)
    at = int(share * made.path(2).stat().st_size)
    flip(made.path(2), at)
    check(made.directory, made.manifest, expected=None)
    with pytest.raises(DatasetError, match=rf"{made.path(2).name} differs .* from byte {at}; run"):
        read_all(made)


def test_several_damaged_files_are_named(make):
    made = make(samples=9)
    for index in (1, 4, 5, 7):
        flip(made.path(index), 100 * index)
    with pytest.raises(DatasetError, match=r"00001\D.*byte 100; .*byte 400; .*500 and 1 more"):
        read_all(made)


def test_a_whole_file_has_no_difference(make):
    made = make("npz", samples=1)
    assert first_difference(made.directory, made.manifest, 0) is None
    os.truncate(made.path(0), 1234)
    assert first_difference(made.directory, made.manifest, 0) == 1234


def test_verifying_reads_everything_and_says_so(make):
    made = make(samples=9)
    seen = []
    read_all(made, lambda *told: seen.append(told))
    assert seen[-1][:4] == (9, 9, made.manifest.total_bytes, made.manifest.total_bytes)


def test_an_interruption_ends_verifying_at_once(make, monkeypatch):
    made = make(samples=400, mean=5000)
    begun = []
    go_on = threading.Event()
    real = module._Verifier._crc

    def slow(self, index, buffer):
        begun.append(index)
        go_on.wait(30)
        return real(self, index, buffer)

    monkeypatch.setattr(module._Verifier, "_crc", slow)

    def interrupt(*_):
        go_on.set()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_all(made, interrupt)
    assert len(begun) < 400


def test_a_reader_that_fails_for_a_reason_of_its_own_is_not_taken_for_success(make, monkeypatch):
    made = make(samples=4)

    def broken(self, index, buffer):
        raise MemoryError

    monkeypatch.setattr(module._Verifier, "_crc", broken)
    with pytest.raises(MemoryError):
        read_all(made)
