"""The live line of a run: one line that changes on a terminal, a line now and then elsewhere.

Nothing refreshes by itself: the line is drawn when news arrives, so that looking at a run
costs it no thread and no wake-ups.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.text import Text

from bench.analysis.wording import data_bytes, percent, rate
from bench.cli.terminal import clean, text

__all__ = ["LiveLine", "Progress"]

REDRAW_SECONDS = 0.2
LINE_SECONDS = 5.0
BAR_CELLS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run is; None for what is not known (yet).

    Attributes:
        phase: "prepare", "cache", "start-up", "replay", "measure", "collect".
        repeat: 1-based; 0 before the first.
        repeats: How many there will be.
        elapsed_seconds: Since the phase began.
        eta_seconds: Until the phase ends.
        bytes_per_second: Rate of late.
        stall_ratio: Stall so far.
        ring_occupancy: Share of slots holding data, 0 to 1.
        bytes_done: Of this phase.
        bytes_total: Of this phase.
        note: A few words, shown last.
    """

    phase: str
    repeat: int = 0
    repeats: int = 0
    elapsed_seconds: float = 0.0
    eta_seconds: float | None = None
    bytes_per_second: float | None = None
    stall_ratio: float | None = None
    ring_occupancy: float | None = None
    bytes_done: int | None = None
    bytes_total: int | None = None
    note: str = ""


class LiveLine:
    """Shows progress on a console; use it as a context manager.

    Args:
        console: Where to, usually stderr.
        mode: auto picks by the console; off shows nothing (`--json`).
        clock: Monotonic seconds.
        line_seconds: Time between lines where the console is no terminal.
    """

    def __init__(
        self,
        console: Console,
        *,
        mode: Literal["auto", "off"] = "auto",
        clock: Callable[[], float] = time.monotonic,
        line_seconds: float = LINE_SECONDS,
    ) -> None:
        self._console = console
        self._clock = clock
        self._shown_at = -float("inf")
        self._shown: tuple[str, int] | None = None
        self._off = mode == "off"
        moving = console.is_terminal and not console.is_dumb_terminal and not self._off
        self._live = (
            Live(
                console=console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            if moving
            else None
        )
        self._interval = REDRAW_SECONDS if moving else line_seconds

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, progress: Progress) -> None:
        """Show where the run is, unless that was done a moment ago."""
        now, what = self._clock(), (progress.phase, progress.repeat)
        if self._off or (what == self._shown and now - self._shown_at < self._interval):
            return
        self._shown, self._shown_at = what, now
        if self._live is not None:
            self._live.update(_moving_line(progress, width=self._console.width), refresh=True)
        else:
            self._console.print(text(_plain_line(progress)), soft_wrap=True, highlight=False)

    def say(self, words: str) -> None:
        """Print a line that stays, above the live one."""
        if not self._off:
            self._console.print(text(words), soft_wrap=True, highlight=False)


def _head(progress: Progress) -> str:
    if not progress.repeat:
        return progress.phase
    return f"{progress.phase} {progress.repeat}/{progress.repeats or '?'}"


def _figures(progress: Progress) -> dict[str, str]:
    """Return what is known, in the order in which it is shown."""
    found: dict[str, str] = {}
    if progress.bytes_per_second is not None:
        found["rate"] = rate(progress.bytes_per_second)
    if progress.stall_ratio is not None:
        found["stall"] = f"stall {percent(progress.stall_ratio)}"
    if progress.ring_occupancy is not None:
        found["ring"] = f"ring {progress.ring_occupancy * 100:.0f} %"
    if progress.bytes_done is not None:
        total = f" of {data_bytes(progress.bytes_total)}" if progress.bytes_total else ""
        found["bytes"] = data_bytes(progress.bytes_done) + total
    if progress.eta_seconds is not None:
        found["left"] = f"{_clock_text(progress.eta_seconds)} left"
    else:
        found["elapsed"] = _clock_text(progress.elapsed_seconds)
    if progress.note:
        found["note"] = clean(progress.note)
    return found


def _plain_line(progress: Progress) -> str:
    return f"{_head(progress)}: {', '.join(_figures(progress).values())}"


DROP_ORDER = ("note", "elapsed", "bar", "bytes", "ring", "left", "stall", "rate")
"""What goes first where the terminal is narrow."""


def _moving_line(progress: Progress, *, width: int) -> Text:
    parts = {"head": clean(_head(progress)), **_figures(progress)}
    if progress.ring_occupancy is not None:
        filled = round(min(1.0, max(0.0, progress.ring_occupancy)) * BAR_CELLS)
        parts["ring"] += f" [{'#' * filled}{'.' * (BAR_CELLS - filled)}]"
    for name in DROP_ORDER:
        if cell_len("  ".join(parts.values())) < width:
            break
        if name == "bar" and "ring" in parts:
            parts["ring"] = parts["ring"].partition(" [")[0]
        else:
            parts.pop(name, None)
    line = Text(no_wrap=True, overflow="ellipsis")
    for name, words in parts.items():
        line.append("" if name == "head" else "  ")
        line.append(words, style={"head": "bold", "rate": "cyan"}.get(name, ""))
    return line


def _clock_text(seconds: float) -> str:
    whole = max(0, round(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
