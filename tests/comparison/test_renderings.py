"""Renderings of comparisons and histories: golden per situation, hostile names, a real browser."""

from __future__ import annotations

import io
import re
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from made_cells import FIRST, NOW, TOOL, compared, drawn, gathered, made
from rich.console import Console

from bench.analysis.history import HistoryParameters, history
from bench.cli.compare_table import print_comparison
from bench.report.comparison import FORMATS, render
from bench.report.history import FORMATS as HISTORY_FORMATS
from bench.report.history import render as render_history

DAY = timedelta(days=1)
HOSTILE = "<script>alert(1)</script>\"'|`*_[x](http://y) &amp; @all \x1b[31m\n# head =cmd()"


def side(mean: float = 1.9e9, *, number: int = 1, cv: float = 0.01, n: int = 5, **more):
    rates, stalls = drawn(mean, cv=cv, n=n, seed=number)
    return made(rates, stalls=stalls, number=number, start=FIRST + number * DAY, **more)


def several():
    """Return a comparison with a row of every kind."""
    names = ("gone", "noisy", "same", "slow", "fast", "broken", "other")
    left = gathered(*(side(number=i, workload=w) for i, w in enumerate(names, 1)))
    bad = {"statuses": ["ok"] * 4 + ["invalid"], "status": "invalid"}
    kernel = {"print_changes": {"kernel__release": "6.9"}}
    right = gathered(
        side(1.9e9, number=32, workload="noisy", cv=0.1),
        side(1.9e9, number=13, workload="same"),
        side(1.7e9, number=14, workload="slow"),
        side(2.1e9, number=15, workload="fast"),
        side(1.9e9, number=16, workload="broken", **bad),
        side(1.9e9, number=17, workload="other", **kernel),
        side(1.9e9, number=18, workload="new", gpus=8),
    )
    return compared(left, right)


SITUATIONS: dict[str, Callable] = {
    "every-kind": several,
    "regressed": lambda: compared(side(), side(1.7e9, number=2)),
    "all-equivalent": lambda: compared(
        gathered(side(), side(number=3, workload="resnet50")),
        gathered(side(number=2), side(number=4, workload="resnet50")),
    ),
    "too-few": lambda: compared(side(n=2), side(number=2, n=1)),
    "unthrottled": lambda: compared(
        made(drawn(1.9e9)[0], number=1, accelerator="none"),
        made(drawn(1.7e9, seed=2)[0], number=2, accelerator="none"),
    ),
    "approval-across-kernel": lambda: compared(
        side(),
        side(number=2, print_changes={"kernel__release": "6.9"}),
        across=["kernel"],
        rule="approval",
        min_repeats=5,
    ),
    "mismatch-allowed": lambda: compared(
        side(),
        side(number=2, division="exploratory", print_changes={"kernel__release": "6.9"}),
        allow_mismatch=True,
    ),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_markdown_and_text_of_every_situation(name: str, golden: Callable) -> None:
    comparison = SITUATIONS[name]()
    golden(f"{name}.md", render(comparison, ".md"))
    sink = io.StringIO()
    print_comparison(comparison, console=Console(file=sink, width=110, highlight=False))
    golden(f"{name}.txt", "".join(f"{line.rstrip()}\n" for line in sink.getvalue().splitlines()))


def rounded(text: str) -> str:
    """Return text without the digits in which the logarithms of two processors may differ."""
    return re.sub(r"-?\d+\.\d{5,}(e-?\d+)?", lambda found: f"{float(found[0]):.6g}", text)


@pytest.mark.parametrize("suffix", [".csv", ".xml"])
def test_tables_for_programs(suffix: str, golden: Callable) -> None:
    golden(f"every-kind{suffix}", rounded(render(several(), suffix)))


def test_the_same_document_gives_the_same_bytes() -> None:
    for suffix in FORMATS:
        assert render(several(), suffix) == render(several(), suffix), suffix


def test_a_narrow_terminal_gets_fewer_columns_and_whole_lines() -> None:
    sink = io.StringIO()
    console = Console(file=sink, width=80, highlight=False, force_terminal=True, no_color=True)
    print_comparison(several(), console=console)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", sink.getvalue())
    assert max(map(len, plain.splitlines())) <= 80
    assert "regressed  slow on ceph-a, h100" in plain


def hostile():
    rates, stalls = drawn(1.9e9)
    runs = [
        made(
            r,
            stalls=stalls,
            number=i,
            workload=HOSTILE,
            target=HOSTILE,
            accelerator=HOSTILE,
            print_changes={"kernel__release": f"{i}{HOSTILE}"},
        )
        for i, r in enumerate((rates, drawn(1.5e9, seed=2)[0]), 1)
    ]
    return compared(*(gathered(run, given=HOSTILE) for run in runs), across=["kernel"])


def test_hostile_names_stay_text_everywhere() -> None:
    comparison = hostile()
    page = render(comparison, ".html")
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 4
    comment = render(comparison, ".md")
    assert not re.search(r"(?<!\\)<script", comment)
    assert "\n# head" not in comment
    ET.fromstring(render(comparison, ".xml"))
    table = render(comparison, ".csv")
    assert "\x1b" not in render(comparison, ".xml")
    assert not re.search(r"(^|,)=", table, re.MULTILINE)
    sink = io.StringIO()
    print_comparison(comparison, console=Console(file=sink, width=200))
    assert "\x1b[31m" not in sink.getvalue()


@pytest.mark.parametrize("name", ["=cmd()", "+1", "-1", "@x"])
def test_no_name_is_a_formula_in_a_spreadsheet(name: str) -> None:
    table = render(compared(side(workload=name), side(number=2, workload=name)), ".csv")
    assert {line.partition(",")[0] for line in table.splitlines()[1:]} == {f"'{name}"}


def made_history():
    runs = []
    for i in range(30):
        mean, kernel = (1.9e9, "6.8.0-40") if i < 22 else (1.7e9, "6.8.0-45")
        rates, stalls = drawn(mean, cv=0.01, n=3, seed=i)
        changes = {"kernel__release": kernel}
        runs.append(
            made(rates, stalls=stalls, number=i, start=FIRST + i * DAY, print_changes=changes)
        )
    runs.append(made([1e9], number=99, statuses=["invalid"], status="invalid"))
    given = HistoryParameters(throughput_ratio=0.02, stall_ratio=0.01, recent=10)
    return history(gathered(*runs), parameters=given, tool=TOOL, created_at=NOW)


def test_history_in_every_format(golden: Callable) -> None:
    found = made_history()
    for suffix in (".md", ".csv"):
        golden(f"history{suffix}", rounded(render_history(found, suffix)))
    for suffix in HISTORY_FORMATS:
        assert render_history(found, suffix) == render_history(made_history(), suffix)


# In a browser


@pytest.mark.parametrize("kind", ["comparison", "hostile", "history"])
@pytest.mark.parametrize("scheme", ["0", "1"], ids=["dark", "light"])
def test_pages_draw_in_a_browser_without_complaint(
    browser: str, tmp_path: Path, kind: str, scheme: str
) -> None:
    from PIL import Image

    pages = {
        "comparison": lambda: render(several(), ".html"),
        "hostile": lambda: render(hostile(), ".html"),
        "history": lambda: render_history(made_history(), ".html"),
    }
    page, shot = tmp_path / "page.html", tmp_path / "page.png"
    page.write_text(pages[kind]())
    assert page.read_text().count("<svg") == {"comparison": 2, "hostile": 2, "history": 1}[kind]
    flags = (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--hide-scrollbars", "--enable-logging=stderr", "--window-size=1150,1600"),
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--blink-settings=preferredColorScheme={scheme}",
    )
    done = subprocess.run(
        [browser, *flags, f"--screenshot={shot}", page.as_uri()],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "CONSOLE" not in done.stderr
    with Image.open(shot) as image:
        grey = image.convert("L")
        corner, (darkest, lightest) = grey.getpixel((2, 2)), grey.getextrema()
    assert corner < 60 if scheme == "0" else corner > 200
    assert lightest - darkest > 150
