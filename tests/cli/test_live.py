"""The live line: one that moves on a terminal, a line now and then elsewhere, none for JSON."""

from __future__ import annotations

import contextlib
import io
import re

import pytest
from rich.console import Console

from bench.cli.live import LiveLine, Progress

MEASURE = Progress(
    phase="measure",
    repeat=2,
    repeats=3,
    elapsed_seconds=12.0,
    eta_seconds=73.0,
    bytes_per_second=1.93e9,
    stall_ratio=0.372,
    ring_occupancy=0.62,
    bytes_done=12_300_000_000,
    bytes_total=57_600_000_000,
    note="first epoch",
)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def plain(**settings: str) -> tuple[LiveLine, io.StringIO, Clock]:
    sink, clock = io.StringIO(), Clock()
    return LiveLine(Console(file=sink, width=60), clock=clock, **settings), sink, clock


def moving(width: int) -> str:
    sink = io.StringIO()
    console = Console(file=sink, width=width, force_terminal=True, color_system=None)
    with LiveLine(console, clock=Clock()) as line:
        line.update(MEASURE)
    return sink.getvalue()


def drawn(width: int) -> str:
    return str(re.findall(r"measure[^\r\n\x1b]*", moving(width))[-1]).rstrip()


def test_elsewhere_a_line_tells_everything() -> None:
    line, sink, _ = plain()
    with line:
        line.update(MEASURE)
    assert sink.getvalue() == (
        "measure 2/3: 1.93 GB/s, stall 37.2 %, ring 62 %, 12.3 GB of 57.6 GB, 1:13 left, "
        "first epoch\n"
    )


def test_elsewhere_lines_come_every_few_seconds_and_with_each_phase() -> None:
    line, sink, clock = plain()
    with line:
        for now in range(12):
            clock.now = float(now)
            line.update(Progress(phase="prepare" if now < 3 else "measure", elapsed_seconds=now))
    assert sink.getvalue().splitlines() == [
        "prepare: 0:00",
        "measure: 0:03",
        "measure: 0:08",
    ]


def test_json_wants_nothing() -> None:
    line, sink, _ = plain(mode="off")
    with line:
        line.update(MEASURE)
        line.say("words")
    assert sink.getvalue() == ""
    sink = io.StringIO()
    with LiveLine(Console(file=sink, force_terminal=True), mode="off") as line:
        line.update(MEASURE)
    assert sink.getvalue() == ""


def test_a_terminal_gets_a_bar_where_there_is_room() -> None:
    assert drawn(120) == (
        "measure 2/3  1.93 GB/s  stall 37.2 %  ring 62 % [#####...]  12.3 GB of 57.6 GB  "
        "1:13 left  first epoch"
    )


@pytest.mark.parametrize("width", range(20, 121, 5))
def test_a_narrow_terminal_gets_one_line_that_fits(width: int) -> None:
    assert len(drawn(width)) < width


def test_rate_and_stall_are_the_last_to_go() -> None:
    assert drawn(60) == "measure 2/3  1.93 GB/s  stall 37.2 %  ring 62 %  1:13 left"
    assert drawn(40) == "measure 2/3  1.93 GB/s  stall 37.2 %"


def test_the_moving_line_leaves_nothing_and_shows_the_cursor_again() -> None:
    text = moving(80)
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    assert text.index("\x1b[?25l") < text.index("\x1b[?25h")
    assert text.endswith("\x1b[2K") or "\x1b[2K" in text[text.rindex("measure") :]


def test_an_interrupt_shows_the_cursor_again() -> None:
    sink = io.StringIO()
    console = Console(file=sink, width=80, force_terminal=True)
    line = LiveLine(console, clock=Clock())
    with contextlib.suppress(KeyboardInterrupt), line:
        line.update(MEASURE)
        raise KeyboardInterrupt
    assert sink.getvalue().count("\x1b[?25h") == 1


def test_redraws_are_few_however_often_news_comes() -> None:
    sink, clock = io.StringIO(), Clock()
    console = Console(file=sink, width=80, force_terminal=True, color_system=None)
    with LiveLine(console, clock=clock) as line:
        for i in range(1000):
            clock.now = i / 1000
            line.update(MEASURE)
    assert sink.getvalue().count("stall") <= 7


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    sink = io.StringIO()
    with LiveLine(Console(file=sink, force_terminal=True, width=200), clock=Clock()) as line:
        line.update(MEASURE)
    assert "\x1b[?25l" not in sink.getvalue()
    assert "measure 2/3: 1.93 GB/s" in sink.getvalue()


def test_a_note_cannot_steer_the_terminal() -> None:
    line, sink, _ = plain()
    with line:
        line.update(Progress(phase="prepare", note="file\x1b[2J\nname"))
        line.say("\x1b]0;x\x07")
    assert not set("\x1b\x07") & set(sink.getvalue())
    assert len(sink.getvalue().splitlines()) == 2
