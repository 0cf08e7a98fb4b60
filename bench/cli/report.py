"""`bench report`: pages of stored runs, rendered anew."""

from __future__ import annotations

from pathlib import Path

import click

from bench.analysis.series import RankTables
from bench.cli.stored import stored_tables
from bench.errors import UsageError
from bench.results.document import parse_document
from bench.results.files import DirectoryFiles
from bench.results.schema import Run
from bench.results.store import DOCUMENT, find_run

__all__ = ["command"]


@click.command("report")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--results",
    default="./bench-results",
    show_default=True,
    metavar="DIR",
    help="Directory in which ids are looked up.",
)
@click.option(
    "-o", "--output", metavar="FILE", help="Where to write the page; by default beside the run."
)
def command(runs: tuple[str, ...], results: str, output: str | None) -> None:
    """Write the page of each RUN: an id or its beginning, a directory, or a document."""
    if output is not None and len(runs) > 1:
        raise UsageError("-o", f"names one file for {len(runs)} runs", "give one run, or no -o")
    pages = [_page(name, results) for name in runs]  # all are read before any is written
    for html, place in pages:
        target = Path(output or place)
        files = DirectoryFiles(str(target.parent))
        files.write_atomic(target.name, html.encode(), existing="replace")
        print(target)


def _page(name: str, results: str) -> tuple[str, str]:
    """Return the page of a run named by a person, and where it goes by default."""
    path = Path(name)
    if path.is_file() and path.name != DOCUMENT:  # kept from `--json`
        data = DirectoryFiles(str(path.parent)).read(path.name)
        return _rendered(parse_document(data, place=name), []), str(path.with_suffix(".html"))
    store, key = find_run(name, results=results)
    run = store.load(key)
    return _rendered(run, stored_tables(store, key, run)), store.place(key, "report.html")


def _rendered(run: Run, tables: list[RankTables]) -> str:
    """Return the page of a run."""
    from bench.report.page import render_page

    return render_page(run, tables)
