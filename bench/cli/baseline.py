"""`bench baseline`: named pointers to stored runs, changed only on purpose."""

from __future__ import annotations

import getpass
import json
import time
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Table

from bench.analysis.comparison.cells import group
from bench.cli.terminal import clean, text
from bench.errors import DocumentError, ResultsError, UsageError
from bench.policy.baseline import refused_because
from bench.results.baselines import (
    Baseline,
    BaselineRun,
    Setting,
    check_name,
    list_baselines,
    load_baseline,
    save_baseline,
)
from bench.results.gather import gather
from bench.results.store import open_store

__all__ = ["command"]

results_option = click.option(
    "--results",
    default="./bench-results",
    show_default=True,
    metavar="PLACE",
    help="Directory or URL of the stored runs.",
)


@click.group(name="baseline")
def command() -> None:
    """Name stored runs, to compare with: set, show, list.

    A baseline points at runs by id and digest. Nothing but `set` changes it.
    """


@command.command("set")
@click.argument("name")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@results_option
@click.option("--why", required=True, help="Why these runs; kept with the baseline.")
@click.option("--by", help="Who sets it; the user of this session by default.")
@click.option("--replace", is_flag=True, help="Change a baseline that exists; its past is kept.")
def set_baseline(
    *, name: str, runs: tuple[str, ...], results: str, why: str, by: str | None, replace: bool
) -> None:
    """Point baseline NAME at runs of the store: ids, directories, or another baseline."""
    check_name(name)
    if not why.strip():
        raise UsageError("--why", "is empty", "say why these runs are what to compare with")
    files = open_store(results).files
    earlier = load_baseline(files, name)
    if earlier is not None and not replace:
        raise UsageError(
            f"baseline {name}",
            f"exists, set {earlier.set_at} by {clean(earlier.by)}",
            "say --replace to change it; its past is kept",
        )
    found = gather(",".join(runs), results=results).runs
    refused = refused_because(found)
    if refused:
        raise DocumentError([f"baseline {name}: {reason}; it is not set" for reason in refused])
    for one in found:
        if not files.exists(one.inside):
            raise UsageError(
                one.place, f"is not in the store {results}", "set the baseline where its runs are"
            )
    entries = [BaselineRun(id=one.run.id, sha256=one.sha256, place=one.inside) for one in found]
    past = []
    if earlier is not None:
        fields = {key: getattr(earlier, key) for key in Setting.model_fields}
        past = [Setting(**fields), *earlier.earlier]
    place = save_baseline(
        files,
        Baseline(
            name=name,
            runs=entries,
            set_at=datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
            by=by or _user(),
            why=why,
            earlier=past,
        ),
    )
    cells = group(found)
    print(f"baseline {name}: {len(entries)} runs of {len(cells)} cells, in {clean(place)}")
    for cell in cells:
        print(f"  {clean(cell.key.label)}")


@command.command("show")
@click.argument("name")
@results_option
@click.option("--json", "as_json", is_flag=True, help="Print the pointer as stored.")
def show(*, name: str, results: str, as_json: bool) -> None:
    """Show what baseline NAME points at, who set it and why, and its past."""
    found = load_baseline(open_store(results).files, name)
    if found is None:
        raise ResultsError(
            clean(name), f"no baseline of that name in {results}", "see bench baseline list"
        )
    if as_json:
        click.echo(json.dumps(found.model_dump(mode="json"), indent=1, ensure_ascii=False))
        return
    console = Console(highlight=False)
    for position, setting in enumerate((found, *found.earlier)):
        lead = "now" if position == 0 else "before"
        console.print(
            text(f"{lead}  set {setting.set_at} by {setting.by}: {setting.why}", style="bold")
        )
        for run in setting.runs:
            console.print(text(f"  {run.place}  sha256 {run.sha256[:12]}"), soft_wrap=True)


@command.command("list")
@results_option
def list_all(*, results: str) -> None:
    """List the baselines of a store."""
    files = open_store(results).files
    names = list_baselines(files)
    if not names:
        click.echo(f"no baselines in {clean(results)}", err=True)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("name", "runs", "set (UTC)", "by", "why"):
        table.add_column(head, overflow="fold", no_wrap=head in ("name", "set (UTC)"))
    for name in names:
        try:
            found = load_baseline(files, name)
        except ResultsError as error:
            table.add_row(name, "", "", "", text(f"broken: {error.problem}"), style="red")
            continue
        if found is not None:
            cells = (str(len(found.runs)), found.set_at[:16].replace("T", " "), found.by, found.why)
            table.add_row(*(text(cell) for cell in (name, *cells)))
    Console(highlight=False).print(table)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:  # a container's numeric user has no name
        raise UsageError("--by", "is needed: this user has no name", "say who sets it") from error
