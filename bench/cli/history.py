"""`bench history`: where stored runs changed level, and what changed around it."""

from __future__ import annotations

import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import __version__
from bench.analysis.comparison.words import METRIC_LABELS
from bench.analysis.history import History, HistoryParameters, Series, history
from bench.cli.compare_table import STYLES
from bench.cli.terminal import text
from bench.errors import UsageError
from bench.measure.host import harness_commit
from bench.policy.gate import GATES, Gate, exit_code, is_warning
from bench.report.history import FORMATS, change_rows, render, shown
from bench.results.files import DirectoryFiles
from bench.results.gather import gather_directory
from bench.results.schema import Tool
from bench.results.store import DOCUMENT

__all__ = ["command"]

SPARKS = "▁▂▃▄▅▆▇█"
MAX_SPARKS = 40


@click.command("history")
@click.argument("place", default="./bench-results")
@click.option("--gate", type=click.Choice(GATES), help="Set the exit status by the verdicts.")
@click.option(
    "--recent",
    default=10,
    show_default=True,
    type=click.IntRange(1),
    help="A change counts while its first run is among so many latest ones.",
)
@click.option(
    "--throughput-change",
    default=0.02,
    show_default=True,
    type=click.FloatRange(0, 0.5, min_open=True),
    help="Least change of throughput to look for, as a share.",
)
@click.option(
    "--stall-change",
    default=0.01,
    show_default=True,
    type=click.FloatRange(0, 0.5, min_open=True),
    help="Least change of stall to look for, as a ratio of time.",
)
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="FILE",
    help=f"Write the history: {' '.join(FORMATS)}. May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the document instead of the table.")
def command(
    *,
    place: str,
    gate: Gate | None,
    recent: int,
    throughput_change: float,
    stall_change: float,
    outputs: tuple[str, ...],
    as_json: bool,
) -> int:
    """Look for changes of level over the runs of PLACE, a directory or URL.

    A change belongs to the first run of the new level. Beside it stands what changed in the
    environment then.
    """
    places = [Path(output) for output in outputs]
    for target in places:
        if target.suffix not in FORMATS or target.is_dir() or target.name == DOCUMENT:
            raise UsageError(
                f"-o {target}", "is no format of a history", f"use one of {', '.join(FORMATS)}"
            )
    gathered = gather_directory(place)
    if not gathered.runs and not gathered.problems:
        raise UsageError(place, "holds no run", "give a directory of stored runs")
    found = history(
        gathered,
        parameters=HistoryParameters(
            throughput_ratio=throughput_change, stall_ratio=stall_change, recent=recent
        ),
        tool=Tool(version=__version__, commit=harness_commit(), python=platform.python_version()),
        created_at=datetime.fromtimestamp(time.time(), UTC),
    )
    contents = [render(found, target.suffix).encode() for target in places]
    for target, content in zip(places, contents, strict=True):
        files = DirectoryFiles(str(target.parent))
        files.write_atomic(target.name, content, existing="replace")
    if as_json:
        click.echo(render(found, ".json"), nl=False)
    else:
        _show(found, [str(target) for target in places])
    verdicts = [series.verdict for series in found.series] or ["inconclusive"]
    code = exit_code(verdicts, gate=gate)
    if code == 0 and is_warning(verdicts, gate=gate):
        print("bench: warning: passed, but not everything could be told", file=sys.stderr)
    return code


def _show(found: History, places: list[str]) -> None:
    console = Console(highlight=False)
    label = ""
    for series in found.series:
        if series.label != label:
            label = series.label
            console.print(text(label, style="bold"))
        line = Text(f"  {METRIC_LABELS[series.metric]:<10}  ")
        line += text(f"{series.verdict:<12}", style=STYLES[series.verdict])
        values = [point.estimate.estimate for point in series.points]
        line += text(f"  {shown(series, values[-1]):>10}  {_spark(values)}  n = {len(values)}")
        console.print(line, soft_wrap=True)
        _show_changes(found, series, console)
        if series.reason:
            console.print(text(f"    {series.reason}", style="dim"))
    for note in found.left_out:
        console.print(text(f"left out: {note.text}", style="yellow"), soft_wrap=True)
    for place in places:
        console.print(text(f"written  {place}"), soft_wrap=True)
    worse = any(series.verdict == "regressed" for series in found.series)
    console.print(text(found.sentence, style="bold red" if worse else "bold"))


def _show_changes(found: History, series: Series, console: Console) -> None:
    only = found.model_copy(update={"series": [series]})
    for row in change_rows(only):
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        words = (
            f"{row.before}, now {row.after}, {row.change}, since {row.since}, run {row.run}, "
            f"{row.num_since} runs ago"
        )
        grid.add_row("    changed", text(words, style="red" if row.is_worse else "green"))
        for around in row.environment or ("nothing that is recorded",):
            grid.add_row("    with", text(around))
        console.print(grid)


def _spark(values: list[float]) -> str:
    """Return values as a line of blocks between their least and largest."""
    last = values[-MAX_SPARKS:]
    low, high = min(last), max(last)
    if high <= low:
        return SPARKS[3] * len(last)
    return "".join(SPARKS[int((v - low) / (high - low) * (len(SPARKS) - 1) + 0.5)] for v in last)
