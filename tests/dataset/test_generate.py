"""Data sets are made whole or resumed, never on top of what somebody else put there."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.dataset import maker
from bench.dataset.generate import ensure, generate, remove
from bench.dataset.journal import lock
from bench.dataset.layout import JOURNAL_NAME, MANIFEST_NAME
from bench.dataset.manifest import Manifest
from bench.dataset.shape import directory_name
from bench.dataset.verify import verify
from bench.errors import DatasetError
from bench.spec.documents import Dataset

DATASET = Dataset(format="raw", samples=40, sample_bytes={"mean": 50_000, "stdev": 10_000})

MAKE = """
import sys
from pathlib import Path
from bench.dataset.generate import generate
from bench.errors import DatasetError
from bench.spec.documents import Dataset
dataset = Dataset.model_validate_json(sys.argv[2])
try:
    generate(Path(sys.argv[1]), "t", dataset, workers=2, progress=lambda _: None)
except DatasetError as error:
    sys.exit(str(error))
"""


def make(root, dataset=DATASET, progress=lambda _: None):
    return generate(root, "t", dataset, workers=2, progress=progress)


def whole(directory: Path, manifest: Manifest) -> None:
    verify(directory, manifest, workers=2, progress=lambda *_: None)


def start(root: Path, dataset: Dataset) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MAKE, str(root), dataset.model_dump_json()],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.001)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / directory_name("t", DATASET)


class StopMakingError(Exception):
    pass


@pytest.fixture
def stop_at(monkeypatch):
    """Let the maker fail at the given file."""
    real = maker.Maker._write

    def stop(file, error):
        def write(self, index, *, alone):
            if index >= file:
                raise error
            return real(self, index, alone=alone)

        monkeypatch.setattr(maker.Maker, "_write", write)
        monkeypatch.setattr(maker, "BATCH_FILES", 8)
        return lambda: monkeypatch.setattr(maker.Maker, "_write", real)

    return stop


def test_a_stopped_generation_resumes_with_whole_files(tmp_path, directory, stop_at):
    go_on = stop_at(20, StopMakingError())
    with pytest.raises(StopMakingError):
        make(tmp_path)
    assert not list(directory.rglob("*.tmp"))
    assert not (directory / MANIFEST_NAME).exists()
    kept = {f: f.stat().st_mtime_ns for f in directory.rglob("part-*")}
    assert len(kept) >= 8
    go_on()
    actions = []
    manifest = make(tmp_path, progress=lambda p: actions.append(p.action))
    assert set(actions) == {"resuming"}
    assert all(f.stat().st_mtime_ns == when for f, when in kept.items())
    assert not (directory / JOURNAL_NAME).exists()
    whole(directory, manifest)
    assert manifest.digest == make(tmp_path / "apart").digest


def test_an_interruption_leaves_whole_files_only(tmp_path, directory):
    def interrupt(progress):
        if progress.files:
            raise KeyboardInterrupt

    dataset = DATASET.model_copy(update={"samples": 3000})
    place = tmp_path / directory_name("t", dataset)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, dataset, interrupt)
    assert not list(place.rglob("*.tmp"))
    assert list(place.rglob("part-*"))
    whole(place, make(tmp_path, dataset))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_generation_is_resumed_and_its_temporaries_removed(tmp_path, number):
    dataset = Dataset(format="raw", samples=4000, sample_bytes={"mean": 100_000})
    place = tmp_path / directory_name("t", dataset)
    process = start(tmp_path, dataset)
    wait_for(lambda: next(iter(place.rglob("part-*")), None) and list(place.rglob(".*.tmp")))
    process.send_signal(number)
    process.communicate()
    assert process.returncode != 0
    kept = {f: f.stat().st_mtime_ns for f in place.rglob("part-*")}
    sizes = {f.stat().st_size for f in kept}
    assert sizes == {100_000}
    manifest = make(tmp_path, dataset)
    assert not list(place.rglob("*.tmp"))
    # What was renamed in the very last moment may not have reached the journal.
    again = sum(f.stat().st_mtime_ns != when for f, when in kept.items())
    assert again <= 2 * maker.BATCH_FILES
    whole(place, manifest)


def test_a_second_generator_is_told_of_the_first(tmp_path):
    dataset = Dataset(format="raw", samples=6000, sample_bytes={"mean": 100_000})
    place = tmp_path / directory_name("t", dataset)
    first = start(tmp_path, dataset)
    wait_for((place / JOURNAL_NAME).exists)
    wait_for(lambda: next(iter(place.rglob("part-*")), None))
    with pytest.raises(DatasetError, match="another process is making"):
        make(tmp_path, dataset)
    with pytest.raises(DatasetError, match="another process is making"):
        remove(place)
    first.kill()
    first.communicate()
    assert list(place.rglob("part-*"))


def test_a_journal_that_was_finished_meanwhile_is_not_taken_for_ones_own(tmp_path, monkeypatch):
    path = tmp_path / JOURNAL_NAME
    stale = os.open(path, os.O_RDWR | os.O_CREAT)
    path.unlink()
    real, given = os.open, [stale]
    monkeypatch.setattr(os, "open", lambda *args: given.pop() if given else real(*args))
    fd = lock(path)
    assert os.fstat(fd).st_nlink == 1
    assert os.path.samestat(os.fstat(fd), path.stat())
    os.close(fd)


@pytest.mark.parametrize(
    "garbage", [b"39 12", b"5 x\n", b"-1 7\n", b"40 7\n", b"5\n", b"\0" * 100 + b"\n"]
)
def test_an_unreadable_line_of_the_journal_costs_one_file(tmp_path, directory, stop_at, garbage):
    go_on = stop_at(20, StopMakingError())
    with pytest.raises(StopMakingError):
        make(tmp_path)
    with (directory / JOURNAL_NAME).open("ab") as journal:
        journal.write(garbage)
    go_on()
    whole(directory, make(tmp_path))


def test_a_whole_file_that_was_damaged_since_is_made_again(tmp_path, directory, stop_at):
    go_on = stop_at(20, StopMakingError())
    with pytest.raises(StopMakingError):
        make(tmp_path)
    gone, cut, *_ = sorted(directory.rglob("part-*"))
    gone.unlink()
    os.truncate(cut, 100)
    go_on()
    whole(directory, make(tmp_path))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_says_so_and_keeps_whole_files(tmp_path, directory, stop_at, code):
    go_on = stop_at(20, OSError(code, os.strerror(code)))
    with pytest.raises(DatasetError, match=r"full .*free space or choose a smaller"):
        make(tmp_path)
    assert not list(directory.rglob("*.tmp"))
    assert list(directory.rglob("part-*"))
    go_on()
    whole(directory, make(tmp_path))


def test_a_failure_before_the_first_whole_file_leaves_nothing(tmp_path, stop_at):
    stop_at(0, OSError(errno.EIO, "Input/output error"))
    with pytest.raises(DatasetError, match="Input/output"):
        make(tmp_path / "new" / "root")
    assert not list(tmp_path.iterdir())


WITHOUT_ASKING = """
from bench.dataset import generate, maker
maker.check_space = generate.check_space = lambda *_: None  # a neighbour took it since
"""


def test_a_disk_that_is_really_full(tmp_path):
    """On a small file system of its own, in a mount namespace."""
    mount = f'mount -t tmpfs -o size=3m small "{tmp_path}"'
    unshare = ["unshare", "-rm", "sh", "-ec"]
    if subprocess.run([*unshare, mount], capture_output=True, check=False).returncode:
        pytest.skip("mount namespaces are not allowed here")
    line = (
        f'{mount}; "$@" || echo "code $?"; find "$4" -name "*.tmp"; find "$4" -name "part*" | wc -l'
    )
    dataset = DATASET.model_copy(update={"samples": 200}).model_dump_json()
    command = [sys.executable, "-c", WITHOUT_ASKING + MAKE, str(tmp_path), dataset]
    done = subprocess.run(
        [*unshare, line, "sh", *command], capture_output=True, text=True, check=False
    )
    assert "disk or quota is full (No space left on device); free space" in done.stderr
    code, count = done.stdout.split("\n")[:2]
    assert code == "code 1"
    assert int(count) < 200


def test_a_read_only_file_system(tmp_path):
    unshare = ["unshare", "-rm", "sh", "-ec"]
    mount = f'mount -t tmpfs -o ro none "{tmp_path}"'
    if subprocess.run([*unshare, mount], capture_output=True, check=False).returncode:
        pytest.skip("mount namespaces are not allowed here")
    command = [sys.executable, "-c", MAKE, str(tmp_path), DATASET.model_dump_json()]
    done = subprocess.run(
        [*unshare, f'{mount}; "$@"', "sh", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "cannot be written (Read-only file system); choose a writable" in done.stderr


@pytest.mark.parametrize(("free", "inodes"), [(1_000_000, 10**6), (10**9, 10)])
def test_too_little_room_is_refused_before_anything_is_written(tmp_path, monkeypatch, free, inodes):
    real = os.statvfs(tmp_path)

    class Small:
        f_frsize, f_blocks, f_files = real.f_frsize, 10**6, 10**6
        f_bavail, f_favail = free // real.f_frsize, inodes

    monkeypatch.setattr(os, "statvfs", lambda _: Small)
    with pytest.raises(DatasetError, match=rf"{tmp_path}.*are free; .*smaller --dataset-size"):
        make(tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_a_file_system_that_tells_no_size_is_believed_to_have_room(tmp_path, monkeypatch):
    class Silent:
        f_frsize, f_blocks, f_files, f_bavail, f_favail = 4096, 0, 0, 0, 0

    monkeypatch.setattr(os, "statvfs", lambda _: Silent)
    assert make(tmp_path).total_samples == 40


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_directory_that_may_not_be_written(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(
            DatasetError, match=r"cannot be written \(Permission denied\); choose a"
        ):
            make(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_the_way_of_the_directory(tmp_path):
    (tmp_path / "root").write_text("a file")
    with pytest.raises(DatasetError, match=r"root.* cannot be written"):
        make(tmp_path / "root")
    with pytest.raises(DatasetError, match=r"root.* cannot be"):
        ensure(tmp_path / "root", "t", DATASET, workers=1, progress=lambda _: None)


def test_foreign_entries_beside_it_are_left_alone(tmp_path):
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    make(tmp_path)
    assert (tmp_path / "lost+found").is_dir()
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "foreign",
    ["notes.txt", ".hidden", "data/notes.txt", "data/00000/notes.txt", "data/00000/part-1.bin",
     "data/00000/.part-00000001.bin.swp"],
)  # fmt: skip
@pytest.mark.parametrize("begun", ["absent", "begun"])
def test_foreign_entries_inside_are_refused(tmp_path, directory, foreign, begun):
    path = directory / foreign
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    if begun == "begun":
        (directory / JOURNAL_NAME).touch()
    before = sorted(directory.rglob("*"))
    for action in (make, lambda _: remove(directory)):
        with pytest.raises(DatasetError, match=f"{path}.*bench did not make"):
            action(tmp_path)
    assert path.read_text() == "mine"
    assert sorted(directory.rglob("*")) == before


def test_links_are_foreign(tmp_path, directory):
    target = tmp_path / "elsewhere"
    target.mkdir()
    directory.mkdir()
    (directory / JOURNAL_NAME).touch()
    (directory / "data").symlink_to(target)
    with pytest.raises(DatasetError, match="bench did not make"):
        make(tmp_path)
    assert not list(target.iterdir())


def test_data_without_manifest_or_journal_is_nobodys(tmp_path, directory):
    make(tmp_path)
    (directory / MANIFEST_NAME).unlink()
    with pytest.raises(DatasetError, match="neither a manifest nor a journal"):
        make(tmp_path)


@pytest.mark.parametrize(
    "head", ['{"generator_version": 0, "dataset": "x"}', "\0\0\0", "[1]", "garbage"]
)
def test_a_generation_by_another_version_is_not_continued(tmp_path, directory, head):
    directory.mkdir(parents=True)
    (directory / JOURNAL_NAME).write_text(f"{head}\n")
    with pytest.raises(DatasetError, match=r"another version of bench; run `bench prepare --rem"):
        make(tmp_path)
    remove(directory)
    assert make(tmp_path).total_samples == 40


def test_an_existing_data_set_is_checked_and_used(tmp_path, directory):
    first = make(tmp_path)
    times = {f: f.stat().st_mtime_ns for f in directory.rglob("*")}
    seen = []
    assert ensure(tmp_path, "t", DATASET, workers=2, progress=seen.append).digest == first.digest
    assert make(tmp_path, progress=seen.append).digest == first.digest
    assert not seen
    assert times == {f: f.stat().st_mtime_ns for f in directory.rglob("*")}


def test_progress_ends_at_the_whole(tmp_path):
    seen = []
    manifest = make(tmp_path, progress=seen.append)
    assert (seen[-1].files, seen[-1].bytes) == (40, manifest.total_bytes)
    assert (seen[-1].num_files, seen[-1].total_bytes) == (40, manifest.total_bytes)
    assert seen[-1].action == "making"


def test_changed_parameters_never_share_a_directory(dataset):
    base = {"format": "tfrecord", "samples": 8, "mean": 5000, "samples_per_file": 2, "seed": 1}
    changes = {"format": "raw", "samples": 10, "mean": 5001, "samples_per_file": 4, "seed": 2}
    names = {directory_name("t", dataset(**base))}
    for key, value in changes.items():
        names.add(directory_name("t", dataset(**{**base, key: value})))
    names.add(directory_name("t", dataset(**{**base, "samples_per_file": 1})))
    names.add(directory_name("t", dataset(**{**base, "samples_per_file": 1, "stdev": 5})))
    assert len(names) == 8
    assert directory_name("t", dataset(**base)) == directory_name("t", dataset(**base))
    assert all(len(n) == len("bench-t-") + 12 for n in names)


def test_removing_what_is_not_there_is_nothing(tmp_path):
    remove(tmp_path / "absent")


def test_removal_takes_the_whole_data_set(tmp_path, directory):
    make(tmp_path)
    remove(directory)
    assert not list(tmp_path.iterdir())
