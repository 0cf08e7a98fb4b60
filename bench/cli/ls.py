"""`bench ls`: what is stored."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from rich.cells import cell_len

from bench.analysis.facts import accelerator_label, cache_label, name_of
from bench.analysis.wording import percent, rate
from bench.cli.terminal import clean, text
from bench.results.ids import created_ms, is_id
from bench.results.schema import Run
from bench.results.store import Store, StoredRun, open_store

__all__ = ["command"]


@click.command("ls")
@click.option(
    "--results",
    default="./bench-results",
    show_default=True,
    metavar="DIR",
    help="Directory of the stored runs.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def command(results: str, *, as_json: bool) -> None:
    """List the runs that are stored, oldest first."""
    store = open_store(results)
    runs = store.list_runs()
    if as_json:
        entries = [_entry(store, stored) for stored in runs]
        print(json.dumps(entries, indent=1, ensure_ascii=False))
        return
    if not runs:
        print(f"no runs in {clean(results)}", file=sys.stderr)
        return
    _print_table(runs)


def _entry(store: Store, stored: StoredRun) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": stored.key.id,
        "target": stored.key.target,
        "workload": stored.key.workload,
        "document": store.place(stored.key),
        "problem": stored.problem or None,
    }
    run = stored.run
    if run is None:
        return entry
    return entry | {
        "created_at": run.created_at,
        "status": run.status,
        "division": run.division,
        "accelerator": run.plan.get("accelerator"),
        "num_repeats": len(run.repeats),
        "cache": cache_label(run.repeats),
        "summary": {name: value.model_dump() for name, value in run.summary.items()},
        "sentence": run.sentence,
    }


def _print_table(runs: list[StoredRun]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    rows = [_cells(stored) for stored in runs]
    columns = _columns(rows, width=console.width if console.is_terminal else None)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(name, no_wrap=name != "status", overflow="fold")
    for stored, cells in zip(runs, rows, strict=True):
        style = "red" if stored.run is None else "" if stored.run.status == "ok" else "yellow"
        if "division" not in columns and cells["division"] == "exploratory":
            cells["status"] += ", exploratory"
        table.add_row(*(text(cells[name]) for name in columns), style=style)
    if not console.is_terminal:  # a pipe gets every run on one line, however long
        console.width = _width(rows, columns) + 1
    console.print(table)


COLUMNS = (
    *("id", "when (UTC)", "workload", "target", "accelerator", "n"),
    *("throughput", "stall", "cache", "division", "status"),
)
DROP_ORDER = ("accelerator", "when (UTC)", "cache", "n", "division")
"""What goes first where the terminal is narrow."""

MAX_STATUS = 30
"""Cells of the last column, in which reasons fold."""


def _columns(rows: list[dict[str, str]], *, width: int | None) -> list[str]:
    """Return the columns that fit; all of them where there is no width to fit."""
    columns = list(COLUMNS)
    for name in DROP_ORDER:
        if width is None or _width(rows, columns, most=MAX_STATUS) <= width:
            break
        columns.remove(name)
    return columns


def _width(rows: list[dict[str, str]], columns: list[str], *, most: int = 10_000) -> int:
    widths = [max(len(name), *(cell_len(clean(row[name])) for row in rows)) for name in columns]
    return sum(widths[:-1]) + min(widths[-1], most) + 2 * len(columns)


def _cells(stored: StoredRun) -> dict[str, str]:
    cells = dict.fromkeys(COLUMNS, "-")
    cells |= {
        "id": stored.key.id,
        "workload": stored.key.workload,
        "target": stored.key.target,
        "when (UTC)": _when(stored.key.id),
    }
    run = stored.run
    return cells | ({"status": f"broken: {stored.problem}"} if run is None else _figures(run))


def _figures(run: Run) -> dict[str, str]:
    throughput = run.summary.get("throughput_bytes_per_second")
    stall = run.summary.get("stall_ratio")
    return {
        "workload": name_of(run.workload),
        "target": name_of(run.storage),
        "accelerator": accelerator_label(run),
        "n": str(throughput.n if throughput else 0),
        "throughput": rate(throughput.estimate) if throughput else "-",
        "stall": percent(stall.estimate) if stall else "-",
        "cache": cache_label(run.repeats),
        "division": run.division,
        "status": run.status,
    }


def _when(run_id: str) -> str:
    from datetime import UTC, datetime

    if not is_id(run_id):
        return "unknown"
    made = datetime.fromtimestamp(created_ms(run_id) / 1000, UTC)
    return made.strftime("%Y-%m-%d %H:%M:%S")
