"""The store keeps runs whole, unchanged, and says clearly when it cannot."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from made_runs import MadeRun, make_run, put_in

from bench.errors import ResultsError
from bench.results.schema import Run
from bench.results.store import RunKey, Store, find_run, open_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "results"))


@pytest.fixture(scope="module")
def made() -> MadeRun:
    return make_run(num_steps=12, statuses=("ok", "ok"))


def files_below(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())


def test_a_run_lies_where_the_design_says(store: Store, made: MadeRun, tmp_path: Path) -> None:
    put_in(store, made)
    directory = f"local-dir/unet3d/{made.run.id}"
    assert files_below(tmp_path / "results") == [
        f"{directory}/run.json",
        f"{directory}/steps/0-0.parquet",
        f"{directory}/steps/0-0.pieces.parquet",
        f"{directory}/steps/1-0.parquet",
        f"{directory}/steps/1-0.pieces.parquet",
    ]


def test_what_is_read_is_what_was_written(store: Store, made: MadeRun) -> None:
    key = put_in(store, made)
    loaded = store.load(key)
    assert loaded.checksum
    assert loaded == made.run.model_copy(update={"checksum": loaded.checksum})


def test_a_stored_run_is_never_written_again(store: Store, made: MadeRun) -> None:
    key = put_in(store, made)
    before = Path(store.place(key)).read_bytes()
    with pytest.raises(ResultsError, match="exists; stored results are never changed"):
        store.write_run(made.run.model_copy(update={"sentence": "something else"}))
    with pytest.raises(ResultsError, match="never changed"):
        put_in(store, made)
    assert Path(store.place(key)).read_bytes() == before


def test_a_page_may_be_rendered_anew(store: Store, made: MadeRun) -> None:
    key = put_in(store, made)
    store.write_report(key, "one")
    assert Path(store.write_report(key, "two")).read_text() == "two"


def test_an_interrupted_run_is_a_document_too(store: Store) -> None:
    key = put_in(store, make_run(num_steps=4, statuses=("ok", "interrupted")))
    assert [r.status for r in store.load(key).repeats] == ["ok", "interrupted"]


@pytest.mark.parametrize(
    ("old", "new"), [('"steps": 12', '"steps": 13'), ('"certified"', '"exploratory"')]
)
def test_an_edit_by_hand_is_found(store: Store, made: MadeRun, old: str, new: str) -> None:
    key = put_in(store, made)
    path = Path(store.place(key))
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ResultsError, match="does not match its checksum"):
        store.load(key)


def test_other_white_space_is_no_edit(store: Store, made: MadeRun) -> None:
    key = put_in(store, made)
    path = Path(store.place(key))
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert store.load(key).id == made.run.id


def test_a_cut_document_is_an_error_that_names_it(store: Store, made: MadeRun) -> None:
    key = put_in(store, made)
    path = Path(store.place(key))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ResultsError) as caught:
        store.load(key)
    assert str(path) in str(caught.value)
    assert "cut off or damaged" in str(caught.value)
    assert "restore it from a copy" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[]", "is not a run document"),
        (b"{}", "is not a run document"),
        (b"\xff\xfe\x00", "not complete JSON"),
        (b"", "not complete JSON"),
        (b"[" * 100_000, "not complete JSON"),
        (b'{"schema_version": 2, "id": "x", "repeats": []}', "schema version 2; this bench reads"),
        (b'{"schema_version": "1", "id": "x", "repeats": []}', "no schema version"),
        (b'{"schema_version": 1, "id": "x", "repeats": []}', "does not match its checksum"),
    ],
)
def test_what_is_no_document_is_an_error(
    store: Store, made: MadeRun, content: bytes, problem: str
) -> None:
    key = put_in(store, made)
    Path(store.place(key)).write_bytes(content)
    with pytest.raises(ResultsError, match=problem):
        store.load(key)


def test_a_figure_that_json_cannot_hold_is_named(store: Store, made: MadeRun) -> None:
    run = made.run.model_copy(update={"plan": {"step_seconds": float("nan")}})
    with pytest.raises(ResultsError, match=r"plan\.step_seconds: is nan"):
        store.write_run(run)


def test_broken_runs_are_listed_and_do_no_harm(store: Store, made: MadeRun) -> None:
    good = put_in(store, made)
    other = make_run(num_steps=4, statuses=("ok",), id_number=2)
    broken = put_in(store, other)
    Path(store.place(broken)).write_text("{")
    os.makedirs(os.path.join(store.files.root, "local-dir", "unet3d", "unfinished"))
    listed = store.list_runs()
    assert [entry.key.id for entry in listed] == [good.id, broken.id, "unfinished"]
    assert [entry.run is not None for entry in listed] == [True, False, False]
    assert "cut off" in listed[1].problem
    assert "going on, or was killed" in listed[2].problem


def test_an_empty_or_missing_store_lists_nothing(store: Store, tmp_path: Path) -> None:
    assert store.list_runs() == []
    tmp_path.joinpath("results").mkdir()
    assert store.list_runs() == []


def test_runs_are_found_by_prefix_and_by_path(store: Store, made: MadeRun) -> None:
    key = put_in(store, made)
    place = store.place(key)
    names = (key.id, key.id[:12], key.id[:12].upper(), place, os.path.dirname(place))
    for name in names:
        found, found_key = find_run(name, results=store.files.root)
        assert (found_key, found.load(found_key).id) == (key, made.run.id), name


def test_a_name_for_no_run_or_for_several_is_an_error(store: Store, tmp_path: Path) -> None:
    for number in (1, 2):
        put_in(store, make_run(num_steps=2, statuses=("ok",), id_number=number))
    with pytest.raises(ResultsError, match=r"not one run alone: .*; give more of the id"):
        find_run("01m3250", results=store.files.root)
    with pytest.raises(ResultsError, match=r"no run of that id in .*`bench ls`"):
        find_run("nosuch", results=store.files.root)
    with pytest.raises(ResultsError, match=r"holds no run\.json"):
        find_run(str(tmp_path), results=store.files.root)


@pytest.mark.parametrize("name", ["..", "a/b", "", ".hidden", "x\0y"])
def test_a_name_cannot_leave_the_store(store: Store, made: MadeRun, name: str) -> None:
    run = made.run.model_copy(update={"workload": {"name": name}})
    if name:
        with pytest.raises(ResultsError, match="cannot be part of a path"):
            store.write_run(run)
    with pytest.raises(ResultsError, match="cannot be part of a path"):
        RunKey(name, "unet3d", "id")


def test_a_url_without_a_driver_is_refused_clearly() -> None:
    with pytest.raises(ResultsError, match="nosuch://bucket/results: cannot be opened"):
        open_store("nosuch://bucket/results")


def test_a_writable_store_is_left_as_it_was(store: Store, tmp_path: Path) -> None:
    store.check_writable()
    assert files_below(tmp_path) == []


def test_an_unwritable_store_is_found_at_the_start(tmp_path: Path) -> None:
    tmp_path.joinpath("file").write_text("")
    with pytest.raises(ResultsError, match="choose another directory with --results"):
        open_store(str(tmp_path / "file" / "results")).check_writable()
    with pytest.raises(ResultsError, match="cannot write to it"):
        open_store(str(tmp_path / "file")).check_writable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_store_is_found_at_the_start(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(ResultsError, match="Permission denied"):
        open_store(str(tmp_path)).check_writable()


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from bench.results.document import parse_document
from bench.results.store import open_store
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
run = parse_document(Path(sys.argv[1]).read_bytes(), place="given")
open_store(sys.argv[2]).write_run(run)
"""


def test_a_disk_that_fills_up_leaves_nothing_half_written(
    store: Store, made: MadeRun, tmp_path: Path
) -> None:
    given = store.place(put_in(store, made))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    child = subprocess.run(
        [sys.executable, "-c", FULL_DISK, given, str(tmp_path / "full")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert child.returncode == 1
    assert "bench.errors.ResultsError" in child.stderr
    assert "cannot write it (File too large); free some space" in child.stderr
    assert files_below(tmp_path / "full") == []


def test_tables_open_in_one_line_with_seconds_from_the_start(store: Store, made: MadeRun) -> None:
    key = put_in(store, made)
    recorded = made.tables[1, 0]
    frame = pd.read_parquet(store.place(key, "steps/1-0.parquet"))
    assert len(frame) == 12
    assert frame["compute_start_seconds"].dtype == "float64"
    back = (frame["compute_start_seconds"] * 1e9).round().astype("int64") + recorded.start_ns
    assert back.tolist() == recorded.steps["compute_start"].tolist()
    causes = [c for c in frame.columns if c.startswith("cause_")]
    assert len(causes) == 12
    total = frame[causes].sum(axis=1) + frame["unattributed_seconds"]
    assert total.to_numpy() == pytest.approx(frame["stall_seconds"].to_numpy(), abs=1e-9)
    assert set(frame["cause"]) <= {"storage_read", "ring_full", "none"}
    assert not [c for c in frame.columns if c.endswith("_ns")]


def test_every_column_of_pieces_is_stored_and_never_is_null(store: Store) -> None:
    made = make_run(num_steps=3, statuses=("ok",))
    recorded = made.tables[0, 0]
    recorded.pieces["freed"][5] = 0
    key = put_in(store, made)
    frame = store.read_pieces(key, repeat=0, rank=0)
    assert frame is not None
    assert len(frame.columns) == len(recorded.pieces.dtype.names)
    assert frame["freed_seconds"].isna().tolist() == [i == 5 for i in range(len(frame))]
    assert frame["payload_bytes"].sum() == recorded.pieces["payload_bytes"].sum()


def test_a_table_that_is_not_there_is_none_and_a_damaged_one_an_error(
    store: Store, made: MadeRun
) -> None:
    key = put_in(store, made)
    assert store.read_steps(key, repeat=7, rank=0) is None
    Path(store.place(key, "steps/0-0.parquet")).write_bytes(b"PAR1 no")
    with pytest.raises(ResultsError, match="not a readable Parquet file"):
        store.read_steps(key, repeat=0, rank=0)


def test_the_printed_document_is_the_stored_one(store: Store, made: MadeRun) -> None:
    from bench.results.document import document_text

    sealed = store.write_run(made.run)
    text = Path(store.place(store.key(sealed))).read_text()
    assert document_text(sealed) == text
    assert Run.model_validate_json(text) == sealed
