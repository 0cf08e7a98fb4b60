"""Data sets are made whole or resumed, never on top of what somebody else put there."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from bench.dataset import generate as module
from bench.dataset.generate import ensure, generate, remove
from bench.dataset.manifest import MANIFEST_NAME, Manifest
from bench.dataset.shape import directory_name
from bench.dataset.verify import check, verify
from bench.errors import DatasetError
from bench.spec.documents import Dataset

DATASET = Dataset(format="raw", samples=40, sample_bytes={"mean": 50_000, "stdev": 10_000})


def make(root, dataset=DATASET, progress=lambda _: None):
    return generate(root, "t", dataset, workers=2, progress=progress)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / directory_name("t", DATASET)


class StopMakingError(Exception):
    pass


def stop_after(monkeypatch, files, error):
    """Let the maker fail at the given file."""
    real = module._Maker._write

    def write(self, index):
        if index >= files:
            raise error
        return real(self, index)

    monkeypatch.setattr(module._Maker, "_write", write)
    monkeypatch.setattr(module, "BATCH_FILES", 8)


def test_a_stopped_generation_resumes_with_whole_files(tmp_path, directory, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 20, StopMakingError())
        with pytest.raises(StopMakingError):
            make(tmp_path)
    assert not list(directory.rglob("*.tmp"))
    assert not (directory / MANIFEST_NAME).exists()
    kept = {f: f.stat().st_mtime_ns for f in directory.rglob("part-*")}
    assert kept
    manifest = make(tmp_path)
    assert all(f.stat().st_mtime_ns == when for f, when in kept.items())
    verify(directory, manifest, workers=2, progress=lambda *_: None)


def test_a_half_written_line_of_the_journal_is_forgotten(tmp_path, directory, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 20, StopMakingError())
        with pytest.raises(StopMakingError):
            make(tmp_path)
    with (directory / module.JOURNAL_NAME).open("ab") as journal:
        journal.write(b"39 12")
    manifest = make(tmp_path)
    verify(directory, manifest, workers=2, progress=lambda *_: None)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_says_so_and_keeps_whole_files(tmp_path, directory, monkeypatch, code):
    stop_after(monkeypatch, 20, OSError(code, os.strerror(code)))
    with pytest.raises(DatasetError, match="full"):
        make(tmp_path)
    assert not list(directory.rglob("*.tmp"))


def test_too_little_space_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DatasetError, match="are free"):
        make(tmp_path)
    assert not list(tmp_path.rglob("part-*"))


def test_two_generators_do_not_meet(tmp_path, directory):
    directory.mkdir(parents=True)
    fd = os.open(directory, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(DatasetError, match="another process"):
        make(tmp_path)
    os.close(fd)


def test_foreign_entries_beside_it_are_left_alone(tmp_path):
    (tmp_path / "lost+found").mkdir()
    make(tmp_path)
    assert (tmp_path / "lost+found").is_dir()


def test_foreign_entries_inside_are_refused_even_for_removal(tmp_path, directory):
    make(tmp_path)
    (directory / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match=r"notes\.txt"):
        remove(directory)
    assert (directory / "notes.txt").read_text() == "mine"


def test_a_generation_by_another_version_is_not_continued(tmp_path, directory):
    directory.mkdir(parents=True)
    (directory / module.JOURNAL_NAME).write_text('{"generator_version": 0, "dataset": "x"}\n')
    with pytest.raises(DatasetError, match="another version"):
        make(tmp_path)


def test_an_existing_data_set_is_checked_and_used(tmp_path):
    first = make(tmp_path)
    seen = []
    again = ensure(tmp_path, "t", DATASET, workers=2, progress=seen.append)
    assert again.digest == first.digest
    assert not seen


def test_the_manifest_survives_the_disk(tmp_path, directory):
    made = make(tmp_path)
    loaded = Manifest.load(directory)
    assert loaded.digest == made.digest
    assert loaded.names.tolist() == made.names.tolist()
    assert loaded.dataset == DATASET


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda f: f.unlink(), "no manifest"),
        (lambda f: os.truncate(f, 100), "cannot be read"),
        (lambda f: f.write_bytes(b"junk" * 100), "cannot be read"),
    ],
    ids=["missing", "truncated", "junk"],
)
def test_a_damaged_manifest_is_named(tmp_path, directory, action, words):
    make(tmp_path)
    action(directory / MANIFEST_NAME)
    with pytest.raises(DatasetError, match=words):
        Manifest.load(directory)


def test_a_manifest_of_another_generator_or_changed_by_hand_is_refused(tmp_path, directory):
    make(tmp_path)
    table = pq.read_table(directory / MANIFEST_NAME)
    metadata = dict(table.schema.metadata)
    pq.write_table(
        table.replace_schema_metadata({**metadata, b"bench.generator_version": b"99"}),
        directory / MANIFEST_NAME,
    )
    with pytest.raises(DatasetError, match="generator version 99"):
        Manifest.load(directory)
    sizes = table["size_bytes"].to_numpy().copy()
    sizes[0] += 1
    changed = table.set_column(1, "size_bytes", [sizes]).replace_schema_metadata(metadata)
    pq.write_table(changed, directory / MANIFEST_NAME)
    with pytest.raises(DatasetError, match="changed by hand"):
        Manifest.load(directory)


def test_zeros_are_found_without_reading_everything(tmp_path, directory):
    dataset = DATASET.model_copy(update={"samples": 1})
    manifest = make(tmp_path, dataset)
    place = tmp_path / directory_name("t", dataset)
    file = place / manifest.names[0].decode()
    file.write_bytes(bytes(int(manifest.size_bytes[0])))
    with pytest.raises(DatasetError, match="zeros"):
        check(place, manifest, expected=dataset)


def test_several_problems_are_counted(tmp_path, directory):
    manifest = make(tmp_path)
    for name in manifest.names[:6]:
        (directory / name.decode()).unlink()
    with pytest.raises(DatasetError, match=r"is missing.* and 3 more"):
        check(directory, manifest, expected=None)


def test_a_flipped_byte_is_found_with_its_place(tmp_path, directory):
    manifest = make(tmp_path)
    file = directory / manifest.names[7].decode()
    data = np.fromfile(file, np.uint8)
    data[31_337] ^= 1
    data.tofile(file)
    with pytest.raises(DatasetError, match=rf"{file.name}.*byte 31337"):
        verify(directory, manifest, workers=2, progress=lambda *_: None)
