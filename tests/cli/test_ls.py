"""`bench ls` and `bench report` as a person uses them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_runs import make_run, put_in

from bench.results.store import RunKey, Store, open_store

REPOSITORY = Path(__file__).parents[2]


def bench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "80"},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with four runs, the last of them damaged."""
    folder = tmp_path_factory.mktemp("work")
    store = open_store(str(folder / "bench-results"))
    shapes = (
        {},
        {"workload": "resnet50", "accelerator": "a100", "division": "exploratory"},
        {"statuses": ("interrupted",)},
        {"target": "nfs", "accelerator": "none"},
    )
    for number, shape in enumerate(shapes, 1):
        statuses = shape.pop("statuses", ("ok", "ok"))
        key = put_in(store, make_run(num_steps=6, id_number=number, statuses=statuses, **shape))
    damaged = Path(store.place(key))
    damaged.write_text(damaged.read_text()[:1000])
    return folder


@pytest.fixture
def store(folder: Path) -> Store:
    return open_store(str(folder / "bench-results"))


def stored(store: Store) -> list[RunKey]:
    return store.keys()


def test_the_list_has_one_line_a_run_oldest_first(folder: Path, store: Store) -> None:
    found = bench("ls", cwd=folder)
    assert (found.returncode, found.stderr) == (0, "")
    head, *lines = found.stdout.splitlines()
    assert head.split()[:4] == ["id", "when", "(UTC)", "workload"]
    assert [line.split()[0] for line in lines] == [key.id for key in stored(store)]
    assert "2026-09-21 14:13:21" in lines[0]
    assert "GB/s" in lines[0]
    assert "a100 (emulated)" in lines[1]
    assert "exploratory" in lines[1]
    assert lines[2].rstrip().endswith("interrupted")
    assert "broken: is not complete JSON: cut off or damaged" in lines[3]


def test_the_json_list_holds_the_same(folder: Path, store: Store) -> None:
    found = bench("ls", "--json", cwd=folder)
    entries = json.loads(found.stdout)
    assert [entry["id"] for entry in entries] == [key.id for key in stored(store)]
    assert [entry["problem"] is None for entry in entries] == [True, True, True, False]
    rate = entries[0]["summary"]["throughput_bytes_per_second"]
    assert rate["n"] == 2
    assert Path(folder, entries[0]["document"]).is_file()


def test_an_empty_store_is_no_error(tmp_path: Path) -> None:
    found = bench("ls", cwd=tmp_path)
    assert (found.returncode, found.stdout) == (0, "")
    assert found.stderr == "no runs in ./bench-results\n"
    assert json.loads(bench("ls", "--json", cwd=tmp_path).stdout) == []


def test_pages_are_rendered_anew_beside_their_runs(folder: Path, store: Store) -> None:
    keys = stored(store)[:2]
    found = bench("report", *(key.id for key in keys), cwd=folder)
    assert found.returncode == 0, found.stderr
    pages = found.stdout.split()
    assert [Path(page).parent.name for page in pages] == [key.id for key in keys]
    for page in pages:
        assert "<svg" in Path(folder, page).read_text()


def test_a_page_goes_where_one_wants_it(folder: Path, store: Store, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "page.html"
    run = store.place(stored(store)[0])
    found = bench("report", run, "-o", str(target), cwd=folder)
    assert (found.returncode, found.stdout) == (0, f"{target}\n")
    assert target.read_text().startswith("<!DOCTYPE html>")


def test_a_document_kept_from_json_output_has_a_page_too(
    folder: Path, store: Store, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.json"
    kept.write_bytes(Path(store.place(stored(store)[0])).read_bytes())
    found = bench("report", str(kept), cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert "samples of this run are not at hand" in (tmp_path / "kept.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("nosuch",), "nosuch: no run of that id in ./bench-results; `bench ls` shows"),
        (("01m3250",), "01m3250: not one run alone: "),
        (("01m3250vz8", "01m3250wyg", "-o", "x.html"), "-o: names one file for 2 runs"),
        (("01m3250yx0",), "cut off or damaged"),
        ((), "Missing argument 'RUN...'"),
        (("01m3250vz8", "-o", "/dev/null/page.html"), "cannot write it"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_2(
    folder: Path, arguments: tuple[str, ...], problem: str
) -> None:
    found = bench("report", *arguments, cwd=folder)
    assert found.returncode == 2
    assert found.stdout == ""
    assert len(found.stderr.splitlines()) == 1
    assert problem in found.stderr
    assert not (folder / "x.html").exists()
