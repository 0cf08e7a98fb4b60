"""The page of a run: what stands on it, that nothing can be injected, that it is stable."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_runs import MadeRun, make_run, put_in, tables_in

from bench.report.page import render_page
from bench.results.store import open_store

MAX_PAGE_BYTES = 5 * 10**6

HOSTILE = (
    "</text></svg></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'{{7*7}}$x^2$"
)


class Elements(HTMLParser):
    """Collects the elements of a page and the attributes that could fetch or run something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.targets: list[str] = []
        self.handlers: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "action", "data", "xlink:href"):
                self.targets.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def render(tmp_path_factory: pytest.TempPathFactory) -> Callable[[MadeRun], str]:
    def rendered(made: MadeRun) -> str:
        store = open_store(str(tmp_path_factory.mktemp("results")))
        key = put_in(store, made)
        return render_page(store.load(key), tables_in(store, key, made))

    return rendered


@pytest.fixture(scope="module")
def page(render: Callable[[MadeRun], str]) -> str:
    return render(make_run())


def headings(page: str) -> list[str]:
    return [
        html.unescape(t.partition(" <span")[0]) for t in re.findall(r"<h2[^>]*>(.*?)</h2>", page)
    ]


def test_the_order_of_the_page_is_decision_figures_charts_evidence_disclosure(page: str) -> None:
    assert "<h1>Waiting on storage: 87 % of the stall" in page
    assert headings(page) == [
        "Key figures",
        "Repeats",
        "Throughput over time",
        "The accelerator's time",
        "Stall by cause",
        "Latency of reads",
        "May these figures be believed?",
        "Cold or warm",
        "Full disclosure",
        "Method and limits",
    ]


def test_each_chart_has_a_name_for_people_who_do_not_see_it(page: str) -> None:
    labels = re.findall(r'<svg role="img" aria-label="([^"]+)"', page)
    assert len(labels) == page.count("<svg") == 6
    assert len(set(labels)) == 6


def test_the_page_needs_nothing_but_itself(page: str) -> None:
    found = Elements(page)
    assert not set(found.names) & {"script", "img", "iframe", "object", "embed", "base"}
    outside = [t for t in found.targets if not t.startswith(("#", "data:"))]
    assert outside == []
    assert "@import" not in page
    assert set(re.findall(r"url\((.)", page)) == {"#"}


def test_ids_are_unique_and_every_reference_has_its_target(page: str) -> None:
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    references = re.findall(r'(?:url\(|href=")#([^")]*)', page)
    assert references
    assert set(references) <= set(ids)


def test_the_same_run_gives_the_same_bytes(render: Callable[[MadeRun], str], page: str) -> None:
    assert render(make_run()) == page


@pytest.mark.parametrize(
    "changes",
    [
        {"accelerator": HOSTILE},
        {"guards": ((HOSTILE, "warn", HOSTILE),)},
        {"mode": HOSTILE},
    ],
)
def test_hostile_words_stay_words(
    render: Callable[[MadeRun], str], changes: dict[str, Any]
) -> None:
    found = Elements(render(make_run(num_steps=8, statuses=("ok",), **changes)))
    assert not set(found.names) & {"script", "img"}
    assert found.handlers == []
    assert HOSTILE in "".join(found.text)


def test_hostile_words_in_every_free_part_stay_words(render: Callable[[MadeRun], str]) -> None:
    made = make_run(num_steps=8, statuses=("ok",))
    hostile = made.run.model_copy(
        update={
            "sentence": HOSTILE,
            "fingerprint": {HOSTILE: [HOSTILE]},
            "dataset": {"directory": HOSTILE},
            "not_measured": {HOSTILE: HOSTILE},
            "plan": made.run.plan | {"overrides": [HOSTILE]},
            "tool": made.run.tool.model_copy(update={"commit": HOSTILE}),
        }
    )
    found = Elements(render_page(hostile, []))
    assert not set(found.names) & {"script", "img"}
    assert found.handlers == []
    assert "".join(found.text).count(HOSTILE) == 8  # the command quotes it, the rest is as it is


@pytest.mark.parametrize(
    ("changes", "banner"),
    [
        ({}, "Certified: workload and target as declared"),
        ({"division": "exploratory"}, "Exploratory: "),
        ({"guards": (("short", "warn", "3 steps"),)}, "Warning: short (repeats 0, 1), 3 steps."),
        ({"guards": (("identity", "fail", "3 %"),)}, "Guard failed: identity (repeats 0, 1), 3 %."),
        ({"statuses": ("ok", "invalid")}, "1 of 2 repeats do not count."),
        ({"statuses": ("invalid", "invalid")}, "Invalid: a guard failed"),
        ({"statuses": ("interrupted",)}, "Interrupted: "),
        ({"statuses": ("failed",)}, "Failed: "),
    ],
)
def test_a_banner_says_what_nobody_must_miss(
    render: Callable[[MadeRun], str], changes: dict[str, Any], banner: str
) -> None:
    found = render(make_run(**{"num_steps": 6, "statuses": ("ok", "ok")} | changes))
    banners = re.search(r'<ul class="banners">(.*?)</ul>', found, re.DOTALL)
    assert banners is not None
    assert banner in html.unescape(banners[1])


def test_each_chart_of_an_exploratory_or_short_run_says_so(
    render: Callable[[MadeRun], str],
) -> None:
    short = (("short", "warn", "6 steps"),)
    found = render(make_run(num_steps=6, division="exploratory", guards=short))
    assert found.count('<span class="tag">exploratory</span>') == 6
    assert found.count('<span class="tag">short</span>') == 6


def test_unthrottled_runs_speak_of_no_stall(render: Callable[[MadeRun], str]) -> None:
    found = render(make_run(num_steps=8, accelerator="none"))
    assert "Stall by cause" not in headings(found)
    assert "needed:" not in found


def test_a_run_that_measured_nothing_has_a_page_that_says_so(
    render: Callable[[MadeRun], str],
) -> None:
    for statuses in ((), ("failed",)):
        found = render(make_run(statuses=statuses))
        assert "There is nothing to draw" in found
        assert "<svg" not in found
    assert "was killed by SIGKILL" in found


def test_without_tables_the_page_says_that_samples_are_not_at_hand() -> None:
    found = render_page(make_run(num_steps=8).run, [])
    assert found.count("The samples of this run are not at hand.") == 2
    assert "Stall by cause" in headings(found)


def test_what_is_disclosed_is_complete(page: str) -> None:
    words = html.unescape("".join(Elements(page).text))
    for expected in (
        "bench run unet3d -s local-dir -a h100 --repeats 3",
        "268435456 (268 MB, 256 MiB)",
        "facts.mount_options",
        "rw, relatime",
        "f" * 64,
        "ceilings are not compared in this version",
        "stationarity",
    ):
        assert expected in words, expected


def test_a_page_does_not_grow_with_the_run(render: Callable[[MadeRun], str]) -> None:
    shape = {"step_seconds": 0.0035, "batch_bytes": 2_800_000, "bytes_per_second": 0.6e9}
    long = render(make_run(num_steps=100_000, pieces_per_step=1, statuses=("ok",), **shape))
    assert len(long.encode()) < MAX_PAGE_BYTES


def test_many_repeats_and_ranks_do_not_make_it_large(render: Callable[[MadeRun], str]) -> None:
    many = render(make_run(num_steps=8, num_ranks=10, statuses=("ok",) * 14))
    assert len(many.encode()) < MAX_PAGE_BYTES
    assert "2 further ranks are not drawn" in many
    assert "2 repeats are not drawn" in many


def test_templates_are_packaged() -> None:
    import bench.report

    folder = Path(bench.report.__file__).parent / "templates"
    assert {p.name for p in folder.iterdir()} == {
        "comparison.css",
        "comparison.html.j2",
        "history.html.j2",
        "page.css",
        "page.html.j2",
    }
