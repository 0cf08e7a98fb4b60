"""A comparison on a terminal, or in a log."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.analysis.comparison.document import Comparison
from bench.cli.terminal import clean, text
from bench.report.comparison_rows import (
    Row,
    banners,
    cell_rows,
    facts,
    meant_differences,
    rules,
    shared_notes,
)

__all__ = ["STYLES", "print_comparison"]

STYLES = {
    "regressed": "bold red",
    "refused": "bold magenta",
    "invalid": "bold magenta",
    "inconclusive": "yellow",
    "improved": "green",
    "equivalent": "green",
}

COLUMNS = {
    "metric": "",
    "baseline": "baseline",
    "candidate": "candidate",
    "change": "change",
    "interval": "90 % interval",
    "n": "n",
    "p": "p",
    "p_holm": "p, Holm",
    "detectable": "could see",
    "verdict": "verdict",
}
"""Field of a row -> heading."""

DROP_ORDER = ("p", "detectable", "p_holm", "n")
"""What goes first where the terminal is narrow; the document holds it all."""

GAP = 2
INDENT = 2


def print_comparison(
    comparison: Comparison, *, places: Sequence[str] = (), console: Console | None = None
) -> None:
    """Print every cell with its verdict, and the sentence that closes it.

    Args:
        comparison: The document.
        places: Files that it was written to.
        console: Where to; the standard output by default.
    """
    console = console or Console(highlight=False)
    for banner in banners(comparison):
        console.print(text(banner, style="bold yellow"))
    _print_grid(console, facts(comparison))
    differing = meant_differences(comparison)
    _print_grid(
        console, [("differs", f"{path}: {one}, now {other}") for _, path, one, other in differing]
    )
    _print_cells(comparison, console)
    _print_grid(
        console,
        [
            ("note", f"{words} ({where})" if where else words)
            for words, where in shared_notes(comparison)
        ],
    )
    console.print()
    console.print(text(rules(comparison), style="dim"), highlight=False)
    for place in places:
        console.print(text(f"written  {place}"), soft_wrap=True)
    console.print(
        text(comparison.overall.sentence, style=STYLES[comparison.overall.verdict]),
        highlight=False,
    )


def _print_cells(comparison: Comparison, console: Console) -> None:
    rows = [[*cell_rows(cell, deciding=True)] for cell in comparison.cells]
    known = [row for some in rows for row in some]
    columns = _columns(known, console)
    widths = _widths(known, columns)
    console.print()
    if known:
        head = _line([COLUMNS[name] for name in columns], widths, style="dim")
        console.print(head, soft_wrap=True)
    for cell, some in zip(comparison.cells, rows, strict=True):
        word = cell.state if cell.state in ("missing", "extra") else cell.verdict
        label = text(word, style=STYLES[cell.verdict]) + Text("  ") + text(cell.label, style="bold")
        console.print(label, highlight=False)
        for row in some:
            words = [getattr(row, name) for name in columns]
            console.print(_line(words, widths, verdict=row.verdict), soft_wrap=True)
        _print_grid(console, [("because", note.text) for note in cell.reasons])


def _print_grid(console: Console, pairs: Sequence[tuple[str, str]]) -> None:
    if not pairs:
        return
    grid = Table.grid(padding=(0, GAP))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for lead, words in pairs:
        grid.add_row(f"{'':{INDENT}}{lead:<9}", text(words))
    console.print(grid)


def _columns(rows: Sequence[Row], console: Console) -> list[str]:
    """Return the columns that fit; all of them where there is no terminal to fit."""
    columns = list(COLUMNS)
    for name in DROP_ORDER:
        width = INDENT + sum(_widths(rows, columns)) + GAP * len(columns)
        if not console.is_terminal or width <= console.width:
            break
        columns.remove(name)
    return columns


def _widths(rows: Sequence[Row], columns: Sequence[str]) -> list[int]:
    return [
        max(
            cell_len(COLUMNS[name]),
            *(cell_len(clean(getattr(row, name))) for row in rows),
            0,
        )
        for name in columns
    ]


def _line(
    words: Sequence[str], widths: Sequence[int], *, style: str = "", verdict: str = ""
) -> Text:
    line = Text(" " * INDENT)
    for position, (word, width) in enumerate(zip(words, widths, strict=True)):
        shown = clean(word)
        colour = STYLES.get(verdict, style) if verdict and word == verdict else style
        pad = " " * (width - cell_len(shown))
        is_words = position in (0, len(words) - 1)
        line.append(shown + pad if is_words else pad + shown, style=colour)
        line.append(" " * GAP)
    line.rstrip()
    return line
