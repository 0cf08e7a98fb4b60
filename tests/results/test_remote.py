"""A store behind a URL keeps the same promises as one in a directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_runs import make_run, put_in

from bench.errors import ResultsError
from bench.results.remote import UrlFiles
from bench.results.store import Store, open_store


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store(f"{request.param}://{tmp_path}/results/")


def test_runs_and_tables_come_back_as_they_were(store: Store) -> None:
    made = make_run(num_steps=6)
    key = put_in(store, made)
    assert store.keys() == [key]
    assert store.load(key).id == made.run.id
    steps = store.read_steps(key, repeat=0, rank=0)
    assert steps is not None
    assert len(steps) == 6
    assert store.read_steps(key, repeat=9, rank=0) is None
    assert store.find(made.run.id[:14]) == key
    assert store.place(key) == f"{store.files.root}/local-dir/unet3d/{made.run.id}/run.json"


def test_nothing_stored_is_ever_changed(store: Store) -> None:
    made = make_run(num_steps=6)
    key = put_in(store, made)
    before = store.files.read(f"{key.directory}/run.json")
    with pytest.raises(ResultsError, match="exists; stored results are never changed"):
        store.write_run(make_run(num_steps=7).run)
    assert store.files.read(f"{key.directory}/run.json") == before
    store.write_report(key, "one")
    store.write_report(key, "two")
    assert store.files.read(f"{key.directory}/report.html") == b"two"


def test_an_empty_store_is_no_error_and_a_check_leaves_nothing(store: Store) -> None:
    assert store.keys() == []
    store.check_writable()
    files = store.files
    assert isinstance(files, UrlFiles)
    assert (files.tree(), files.names(""), files.list("")) == ([], [], [])


def test_directories_and_files_are_told_apart(store: Store) -> None:
    files = store.files
    files.write_atomic("a/b/one", b"1", existing="refuse")
    files.write_atomic("a/two", b"2", existing="refuse")
    assert (files.list("a"), files.names("a"), files.list("nosuch")) == (["b"], ["two"], [])
    assert files.exists("a/two")
    assert not files.exists("a/three")


def test_many_files_are_read_in_the_order_asked_for(store: Store) -> None:
    files = store.files
    assert isinstance(files, UrlFiles)
    for name in ("x", "y", "z"):
        files.write_atomic(name, name.encode(), existing="refuse")
    assert files.read_many(["z", "x"]) == [b"z", b"x"]
    assert files.read_many(["y"]) == [b"y"]
    assert files.read_many([]) == []


def test_a_missing_file_is_worded(store: Store) -> None:
    with pytest.raises(ResultsError, match="no-such-file: cannot read it"):
        store.files.read("no-such-file")
