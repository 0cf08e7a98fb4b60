"""`bench compare`, `bench history` and `bench baseline` as a person or a pipeline uses them."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from datetime import timedelta
from pathlib import Path

import pytest
from made_cells import FIRST, drawn, made, write
from made_runs import make_run, put_in

from bench.cli import main as cli
from bench.policy.gate import exit_code
from bench.results.document import document_text, seal
from bench.results.store import open_store

DAY = timedelta(days=1)


def side(mean: float = 1.9e9, *, number: int = 1, cv: float = 0.01, n: int = 5, **more):
    rates, stalls = drawn(mean, cv=cv, n=n, seed=number)
    return made(rates, stalls=stalls, number=number, start=FIRST + number * DAY, **more)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch, capsys):
    """Run a command line in an empty directory; return (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        printed = capsys.readouterr()
        return int(caught.value.code or 0), printed.out, printed.err

    return run


def put(where: str, *runs) -> str:
    write(Path(where), *runs)
    return where


SLOWER = {"mean": 1.7e9, "number": 2}
NOISY = {"number": 2, "cv": 0.1}


@pytest.mark.parametrize(
    ("candidate", "statuses"),
    [
        # without a gate, --gate=ci, --gate=approval
        (SLOWER, (0, 1, 1)),
        ({"mean": 2.2e9, "number": 2}, (0, 0, 0)),
        ({"number": 2}, (0, 0, 0)),
        (NOISY, (0, 0, 3)),
        ({"number": 2, "statuses": ["ok"] * 4 + ["invalid"], "status": "invalid"}, (0, 4, 4)),
        ({"number": 2, "print_changes": {"kernel__release": "x"}}, (2, 2, 2)),
    ],
    ids=["regressed", "improved", "equivalent", "inconclusive", "invalid", "refused"],
)
def test_the_gate_sets_the_exit_status(bench, candidate: dict, statuses: tuple[int, ...]) -> None:
    put("before", side())
    put("after", side(**candidate))
    found = [bench("compare", "before", "after", *gate) for gate in ((), CI, APPROVAL)]
    assert tuple(status for status, _, _ in found) == statuses
    warned = "bench: warning: passed, but not everything could be told" in found[1][2]
    assert warned == (candidate is NOISY)


CI = ("--gate", "ci")
APPROVAL = ("--gate", "approval")


@pytest.mark.parametrize(
    ("verdicts", "codes"),
    [
        # without a gate, ci, approval
        ({"regressed", "refused", "invalid", "inconclusive"}, (2, 1, 1)),
        ({"refused", "invalid", "inconclusive", "improved"}, (2, 2, 2)),
        ({"invalid", "inconclusive", "equivalent"}, (0, 4, 4)),
        ({"inconclusive", "equivalent"}, (0, 0, 3)),
        ({"improved", "equivalent"}, (0, 0, 0)),
    ],
)
def test_exit_codes_have_an_order(verdicts: set[str], codes: tuple[int, ...]) -> None:
    assert tuple(exit_code(verdicts, gate=gate) for gate in (None, "ci", "approval")) == codes


def test_over_several_cells_the_worst_decides(bench) -> None:
    put("before", *(side(number=i, workload=w) for i, w in enumerate("abc", 1)))
    put(
        "after",
        side(number=11, workload="a", statuses=["invalid"] * 5, status="invalid"),
        side(number=12, workload="b", cv=0.1),
        side(number=13, workload="c"),
    )
    assert [bench("compare", "before", "after", *gate)[0] for gate in (CI, APPROVAL)] == [4, 4]
    put("worse", side(1.5e9, number=14, workload="c"), side(number=15, workload="a"))
    assert bench("compare", "before", "worse", *CI)[0] == 1
    assert bench("compare", "before", "worse", *APPROVAL)[0] == 1


def test_a_missing_cell_is_a_row_and_no_pass_for_an_approval(bench) -> None:
    put("before", side(), side(number=3, workload="resnet50"))
    put("after", side(number=2))
    status, out, err = bench("compare", "before", "after", *CI)
    assert (status, "warning" in err) == (0, True)
    assert "missing  resnet50 on ceph-a, h100" in out
    assert bench("compare", "before", "after", *APPROVAL)[0] == 3


def test_nothing_in_common_is_bad_input(bench) -> None:
    put("before", side(), side(number=3, workload="resnet50"))
    put("after", side(number=2, workload="cosmoflow"), side(number=4, workload="bert"))
    status, out, err = bench("compare", "before", "after", "-o", "x.md")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert "have no cell in common: resnet50 on ceph-a, h100 here, bert on ceph-a" in err
    assert not Path("x.md").exists()


def test_a_refusal_names_what_differs_and_the_option(bench) -> None:
    put("before", side())
    put("after", side(number=2, print_changes={"kernel__release": "6.9"}))
    status, out, err = bench("compare", "before", "after", "-o", "x.html")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert "kernel.release (6.8.0-40, now 6.9)" in err
    assert "--across kernel" in err
    assert not Path("x.html").exists()
    assert bench("compare", "before", "after", "--across", "kernel")[0] == 0
    status, out, _ = bench("compare", "before", "after", "--allow-mismatch")
    assert status == 0
    assert "Mismatch allowed by hand: the sides differ in kernel.release" in out


# How a side is named


def test_sides_are_files_directories_ids_lists_and_baselines(bench) -> None:
    runs = [side(), side(1.7e9, number=2), side(1.9e9, number=3)]
    places = write(Path("bench-results"), *runs)
    want = bench("compare", str(places[0]), str(places[1]), "--json")[1]
    metric = json.loads(want)["cells"][0]["metrics"]
    for left, right in (
        (f"{places[0]}/run.json", f"{places[1]}/run.json"),
        (runs[0].id, runs[1].id),
        (runs[0].id[:12], runs[1].id[:12]),
        (f"file://{places[0].absolute()}", f"file://{places[1].absolute()}/run.json"),
    ):
        status, out, err = bench("compare", left, right, "--json")
        assert (status, err) == (0, ""), (left, right)
        assert json.loads(out)["cells"][0]["metrics"] == metric
    both = json.loads(bench("compare", f"{runs[0].id},{runs[2].id}", runs[1].id, "--json")[1])
    assert both["cells"][0]["baseline"]["n"] == 10
    assert bench("baseline", "set", "nightly", runs[0].id, "--why", "first", "--by", "eva")[0] == 0
    named = json.loads(bench("compare", "nightly", runs[1].id, "--json")[1])
    assert named["baseline"]["baseline"] == "nightly"
    assert named["cells"][0]["metrics"] == metric


def test_runs_behind_a_url_are_compared_like_others(bench) -> None:
    import fsspec

    for place, run in (("before", side()), ("after", side(1.7e9, number=2))):
        store = open_store(f"memory://compare/{place}")
        store.write_run(run)
    status, out, _ = bench("compare", "memory://compare/before", "memory://compare/after", *CI)
    assert (status, "regressed" in out) == (1, True)
    status, out, _ = bench("history", "memory://compare")
    assert (status, "2 runs of 1 cell" in out) == (0, True)
    name = side().id
    assert (
        bench("compare", name, "memory://compare/after", "--results", "memory://compare/before")[0]
        == 0
    )
    assert bench("compare", "nosuch://x/y", "memory://compare/after")[0] == 2
    fsspec.filesystem("memory").rm("/compare", recursive=True)


@pytest.mark.parametrize(
    ("left", "problem"),
    [
        ("nosuch", "no run of that id in ./bench-results"),
        ("no/such/place", "is no file or directory"),
        ("empty", "holds no run"),
        ("broken", "does not match its checksum: edited or damaged"),
        ("cut", "is not complete JSON: cut off or damaged"),
        ("nan", "holds NaN, which is no number"),
        ("later", "has schema version 7; this bench reads up to 1"),
        (",", "names no run"),
        ("memory://nothing-here", "holds no run"),
    ],
)
def test_what_cannot_be_read_is_one_line_and_status_2(bench, left: str, problem: str) -> None:
    put("after", side(number=2))
    Path("empty").mkdir()
    text = document_text(seal(side()))
    for name, content in (
        ("broken", text.replace('"status": "ok"', '"status": "failed"', 1)),
        ("cut", text[: len(text) // 2]),
        ("nan", text.replace('"duration_seconds": 400.0', '"duration_seconds": NaN', 1)),
        ("later", text.replace('"schema_version": 1', '"schema_version": 7', 1)),
    ):
        Path(name, "a").mkdir(parents=True)
        Path(name, "a", "run.json").write_text(content)
    before = sorted(Path().rglob("*"))
    status, out, err = bench("compare", left, "after", "-o", "x.md", *CI)
    assert (status, out) == (2, "")
    assert problem in err
    assert len(err.splitlines()) == 1
    assert sorted(Path().rglob("*")) == before


def test_every_broken_document_of_a_directory_is_named(bench) -> None:
    put("after", side(number=2))
    put("before", side(), side(number=3), side(number=4))
    broken = sorted(Path("before").rglob("run.json"))[:2]
    for place in broken:
        place.write_text(place.read_text()[:100])
    _, _, err = bench("compare", "before", "after")
    assert [str(place) in err for place in broken] == [True, True]


def test_two_contents_under_one_id_are_refused(bench) -> None:
    put("before", side())
    put("again", side(1.0e9))
    _, _, err = bench("compare", "before,again", "before")
    assert "has the id of" in err


def test_missing_tables_are_said(bench, tmp_path: Path) -> None:
    store = open_store("with-tables")
    keys = [put_in(store, make_run(num_steps=6, id_number=i, seed=i)) for i in (1, 2)]
    left, right = (str(Path(store.place(key)).parent) for key in keys)
    assert "samples" not in bench("compare", left, right)[1]
    next(Path(left, "steps").glob("*.parquet")).unlink()
    assert "baseline: the samples (steps/*.parquet)" in bench("compare", left, right)[1]


# What is written


def test_all_formats_come_from_one_document(bench) -> None:
    put("before", side(), side(number=3, workload="resnet50"))
    put("after", side(1.7e9, number=2))
    outputs = [f"out/c{suffix}" for suffix in (".json", ".md", ".html", ".csv", ".xml")]
    flags = [word for output in outputs for word in ("-o", output)]
    status, out, _ = bench("compare", "before", "after", *CI, *flags)
    assert status == 1
    assert [f"written  {output}" in out for output in outputs] == [True] * 5
    document = json.loads(Path("out/c.json").read_text())
    rows = list(csv.DictReader(io.StringIO(Path("out/c.csv").read_text())))
    assert float(rows[0]["effect"]) == document["cells"][0]["metrics"][0]["effect"]
    assert rows[-1]["state"] == "missing"
    suites = ET.fromstring(Path("out/c.xml").read_text())
    assert {k: suites.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "2",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
    }
    assert bench("compare", "before", "after", "--json")[1].startswith('{\n "schema_version": 1')
    assert bench("compare", "--check", "out/c.json", "--results", ".")[0] == 0


def test_a_stored_comparison_is_worked_out_anew(bench) -> None:
    put("store/before", side())
    put("store/after", side(1.7e9, number=2))
    bench("compare", "store/before", "store/after", "-o", "c.json")
    status, out, _ = bench("compare", "--check", "c.json", "--results", "store")
    assert (status, out.startswith("the same, worked out anew from 2 runs: regressed")) == (0, True)
    status, _, err = bench("compare", "--check", "c.json", "--results", "store/before")
    assert (status, "is not at hand" in err) == (2, True)
    content = json.loads(Path("c.json").read_text())
    content["cells"][0]["verdict"] = "equivalent"
    Path("c.json").write_text(json.dumps(content))
    status, _, err = bench("compare", "--check", "c.json", "--results", "store")
    assert (status, "does not match its checksum" in err) == (2, True)


@pytest.mark.parametrize(
    ("output", "problem"),
    [("x.pdf", "is no format of a comparison"), ("before", "is no format"), ("run.json", "exists")],
)
def test_an_output_that_cannot_be_is_refused_first(bench, output: str, problem: str) -> None:
    put("before", side())
    put("after", side(number=2))
    Path("run.json").write_text(next(Path("before").rglob("run.json")).read_text())
    kept = Path("run.json").read_text()
    status, _, err = bench("compare", "before", "after", "-o", "ok.md", "-o", output)
    assert (status, problem in err) == (2, True)
    assert Path("run.json").read_text() == kept
    assert not Path("ok.md").exists()


def test_a_thousand_stored_runs_are_compared_in_seconds(bench) -> None:
    """Five seconds is the promise; here it may take longer on a busy machine."""
    names = [f"workload-{i}" for i in range(100)]
    for i in range(500):
        workload = names[i % 100]
        put("before", side(number=i + 1, workload=workload))
        put("after", side(number=1000 + i, workload=workload))
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "bench", "compare", "before", "after", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(Path(cli.__file__).parents[2])},
    )
    print(f"1,000 runs in {time.monotonic() - start:.2f} s")
    assert done.returncode == 0, done.stderr
    cells = json.loads(done.stdout)["cells"]
    assert len(cells) == 100
    assert {cell["baseline"]["n"] for cell in cells} == {25}


# History


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 runs of two cells; from the 23rd on one of them is 10 % slower, on another kernel."""
    place = tmp_path_factory.mktemp("history") / "store"
    for i in range(30):
        kernel = "6.8.0-40" if i < 22 else "6.8.0-45"
        changes = {"print_changes": {"kernel__release": kernel}, "start": FIRST + i * DAY}
        for number, workload, mean in (
            (i + 1, "unet3d", 1.9e9 if i < 22 else 1.7e9),
            (i + 101, "resnet50", 1.1e9),
        ):
            rates, stalls = drawn(mean, cv=0.01, n=3, seed=number)
            write(place, made(rates, stalls=stalls, number=number, workload=workload, **changes))
    return place


def test_a_change_belongs_to_the_first_run_of_the_new_level(bench, store: Path) -> None:
    status, out, _ = bench("history", str(store), "--json")
    assert status == 0
    series = {(s["key"]["workload"], s["metric"]): s for s in json.loads(out)["series"]}
    changed = series["unet3d", "throughput_bytes_per_second"]
    (change,) = changed["changes"]
    assert change["run"] == changed["points"][22]["run"]
    assert change["effect"] == pytest.approx(-0.105, abs=0.01)
    (around,) = change["environment"]
    assert [d["path"] for d in around["differences"]] == ["kernel.release"]
    assert series["unet3d", "stall_ratio"]["verdict"] == "regressed"
    steady = series["resnet50", "throughput_bytes_per_second"]
    assert (steady["changes"], steady["verdict"]) == ([], "equivalent")
    assert len(steady["environment"]) == 1


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ((), 0),
        (CI, 1),
        (APPROVAL, 1),
        ((*CI, "--recent", "5"), 0),
        ((*APPROVAL, "--recent", "5"), 0),
    ],
)
def test_the_gate_counts_recent_changes(bench, store: Path, arguments, status: int) -> None:
    assert bench("history", str(store), *arguments)[0] == status


def test_a_short_history_is_no_pass_for_an_approval(bench) -> None:
    put("store", *(side(number=i) for i in range(1, 5)))
    status, out, err = bench("history", "store", *CI)
    assert (status, "warning" in err) == (0, True)
    assert "4 runs; 8 are needed to tell a change" in out
    assert bench("history", "store", *APPROVAL)[0] == 3


def test_runs_that_cannot_be_used_are_named_and_never_points(bench) -> None:
    put(
        "store",
        *(side(number=i) for i in range(1, 10)),
        side(number=20, statuses=["invalid"] * 5, status="invalid"),
    )
    broken = min(Path("store").rglob("run.json"))
    broken.write_text(broken.read_text()[:200])
    status, out, _ = bench("history", "store")
    assert status == 0
    assert "8 runs of 1 cell" in out
    assert "is invalid" in out
    assert "cut off or damaged" in out


def test_a_history_is_written_in_every_format(bench, store: Path) -> None:
    flags = [word for end in ("html", "md", "csv", "json") for word in ("-o", f"h.{end}")]
    assert bench("history", str(store), *flags)[0] == 0
    rows = list(csv.DictReader(io.StringIO(Path("h.csv").read_text())))
    assert len(rows) == 60
    assert list(rows[0])[:3] == ["time", "run", "commit"]
    assert Path("h.html").read_text().count("<svg") == 2
    assert "kernel.release: 6.8.0-40, now 6.8.0-45" in Path("h.md").read_text()
    assert bench("history", str(store), "-o", "h.pdf")[0] == 2
    assert bench("history", "nowhere")[0] == 2


# Baselines


def test_a_baseline_is_set_shown_listed_and_changed_on_purpose(bench) -> None:
    one, two = side(), side(number=2)
    put("bench-results", one, two)
    status, out, _ = bench("baseline", "set", "nightly", one.id, "--why", "good", "--by", "eva")
    assert (status, "1 runs of 1 cells" in out) == (0, True)
    again = ("baseline", "set", "nightly", two.id, "--why", "new kernel", "--by", "ida")
    status, _, err = bench(*again)
    assert (status, "exists, set " in err and "by eva" in err) == (2, True)
    assert bench(*again, "--replace")[0] == 0
    shown = json.loads(bench("baseline", "show", "nightly", "--json")[1])
    assert [shown["runs"][0]["id"], shown["by"], shown["why"]] == [two.id, "ida", "new kernel"]
    assert [(e["runs"][0]["id"], e["by"], e["why"]) for e in shown["earlier"]] == [
        (one.id, "eva", "good")
    ]
    assert "new kernel" in bench("baseline", "show", "nightly")[1]
    assert "nightly" in bench("baseline", "list")[1]
    assert bench("ls")[0] == 0  # the pointers are no runs


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"statuses": ["ok"] * 4 + ["invalid"], "status": "invalid"}, "is invalid"),
        ({"statuses": ["ok"] * 4 + ["failed"], "status": "failed"}, "is failed"),
        ({"statuses": ["ok"] * 4 + ["interrupted"], "status": "interrupted"}, "is interrupted"),
        ({"fingerprint": {}}, "has no fingerprint"),
        ({"n": 2}, "2 repeats count; a baseline needs 3"),
    ],
)
def test_a_bad_run_never_becomes_a_baseline(bench, changes: dict, problem: str) -> None:
    good, bad = side(), side(number=2, **changes)
    put("bench-results", good, bad)
    bench("baseline", "set", "nightly", good.id, "--why", "good")
    kept = Path("bench-results/baselines/nightly.json").read_bytes()
    status, _, err = bench("baseline", "set", "nightly", bad.id, "--why", "x", "--replace")
    assert (status, problem in err) == (2, True)
    assert Path("bench-results/baselines/nightly.json").read_bytes() == kept


def test_comparing_and_measuring_never_change_a_baseline(bench) -> None:
    good = side()
    put("bench-results", good)
    bench("baseline", "set", "nightly", good.id, "--why", "good")
    kept = Path("bench-results/baselines/nightly.json").read_bytes()
    put("bench-results", side(1.7e9, number=2))
    assert bench("compare", "nightly", side(1.7e9, number=2).id, *CI)[0] == 1
    bench("history", "bench-results")
    assert Path("bench-results/baselines/nightly.json").read_bytes() == kept


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("set", "Nightly", "x", "--why", "y"), "cannot name a baseline"),
        (("set", "../up", "x", "--why", "y"), "cannot name a baseline"),
        (("set", "nightly", "x", "--why", " "), "--why: is empty"),
        (("set", "nightly", "x"), "Missing option '--why'"),
        (("set", "nightly", "elsewhere", "--why", "y"), "is not in the store"),
        (("show", "nosuch"), "no baseline of that name"),
    ],
)
def test_wrong_use_of_baselines_is_status_2(bench, arguments, problem: str) -> None:
    put("elsewhere", side())
    status, _, err = bench("baseline", *arguments)
    assert (status, problem in err) == (2, True)


def test_a_baseline_holds_only_the_documents_that_it_was_set_to(bench) -> None:
    run = side()
    (place,) = write(Path("bench-results"), run)
    put("after", side(number=2))
    bench("baseline", "set", "nightly", run.id, "--why", "good")
    changed = seal(run.model_copy(update={"sentence": "another"}))
    place.joinpath("run.json").write_text(document_text(changed))
    status, _, err = bench("compare", "nightly", "after")
    assert (status, "is not the document that baseline nightly was set to" in err) == (2, True)
    place.joinpath("run.json").unlink()
    assert "is missing; baseline nightly points at it" in bench("compare", "nightly", "after")[2]
    pointer = Path("bench-results/baselines/nightly.json")
    pointer.write_text(pointer.read_text().replace("good", "bad"))
    assert "edited or damaged" in bench("compare", "nightly", "after")[2]
    assert "broken" in bench("baseline", "list")[1]
