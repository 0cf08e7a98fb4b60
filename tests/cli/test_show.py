"""The closing summary: a dozen lines, the last of them the sentence."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from made_runs import make_run
from rich.console import Console

from bench.cli.show import summary

SITUATIONS: dict[str, dict[str, Any]] = {
    "certified": {},
    "one-repeat": {"statuses": ("ok",)},
    "exploratory-short": {
        "division": "exploratory",
        "guards": (("short", "warn", "12 steps and 3.1 ring fills (at least 30 and 20)"),),
    },
    "unthrottled": {"accelerator": "none"},
    "not-waiting": {"step_seconds": 0.7, "first_seconds": 0.0},
    "warm": {"verdict": "warm", "guards": (("cache", "fail", "cold asked for, warm"),)},
    "invalid": {"statuses": ("invalid",), "guards": (("identity", "fail", "off by 3 %"),)},
    "interrupted": {"statuses": ("ok", "interrupted")},
    "failed": {"statuses": ("failed",)},
    "nothing": {"statuses": ()},
    "four-ranks": {"num_ranks": 4, "num_steps": 30},
}


def shown(width: int = 100, **shape: Any) -> str:
    run = make_run(**shape).run
    sink = io.StringIO()
    directory = f"bench-results/local-dir/unet3d/{run.id}"
    summary(
        run,
        console=Console(file=sink, width=width),
        document=f"{directory}/run.json",
        report=f"{directory}/report.html",
    )
    return sink.getvalue()


@pytest.mark.parametrize("name", SITUATIONS)
def test_each_situation_reads_as_its_golden_file(
    name: str, golden: Callable[[str, str], None]
) -> None:
    golden(f"{name}.txt", shown(**SITUATIONS[name]))


@pytest.mark.parametrize("name", SITUATIONS)
def test_it_fits_a_narrow_terminal(name: str) -> None:
    lines = shown(width=60, **SITUATIONS[name]).splitlines()
    too_long = [line for line in lines if len(line.rstrip()) > 60 and "bench-results/" not in line]
    assert too_long == []  # paths are left to the terminal, so that they can be copied
    assert len(lines) <= 28


def test_the_last_line_is_the_sentence() -> None:
    run = make_run().run
    assert shown(width=400).splitlines()[-1] == run.sentence


def test_no_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = io.StringIO()
    monkeypatch.setenv("NO_COLOR", "1")
    summary(make_run(**SITUATIONS["warm"]).run, console=Console(file=sink, force_terminal=True))
    assert "\x1b[3" not in sink.getvalue()
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    summary(make_run(**SITUATIONS["warm"]).run, console=Console(file=sink, force_terminal=True))
    assert "\x1b[1;31m" in sink.getvalue()


def test_what_steers_a_terminal_is_made_harmless() -> None:
    evil = "\x1b]0;title\x07[bold red]x[/]\r\u202e"
    text = shown(accelerator=evil, guards=((evil, "warn", evil),))
    assert not set("\x1b\x07\r\u202e") & set(text)
    assert "[bold red]x[/]" in text
