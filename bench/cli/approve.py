"""`bench approve`: is what was measured good enough? The decision, and its document."""

from __future__ import annotations

import getpass
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bench import __version__
from bench.cli.admission import admission_yaml, policy_options
from bench.cli.terminal import text
from bench.errors import UsageError
from bench.measure.host import harness_commit
from bench.policy.approve import approve
from bench.policy.contract import contract
from bench.policy.cost import Usage, cost, parse_usage
from bench.policy.decide import GivenRun
from bench.policy.document import APPROVED, Approval, Cell, approval_text
from bench.policy.markdown import markdown
from bench.results.document import parse_document
from bench.results.files import DirectoryFiles
from bench.results.ids import RANDOM_BYTES, new_id
from bench.results.schema import Tool
from bench.results.store import DOCUMENT, find_run
from bench.spec.documents import Workload
from bench.spec.load import load_requirements, load_workload
from bench.spec.lookup import read_text
from bench.spec.requirements import Requirements

__all__ = ["command", "given_runs"]

EXAMPLE_GPUS = 64
"""For the sentence on cost where --gpus is not given."""


@click.command("approve")
@click.argument("requirements")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--results",
    default="./bench-results",
    show_default=True,
    metavar="DIR",
    help="Directory in which ids are looked up.",
)
@click.option("--by", help="Who approves; the user of this session by default.")
@click.option(
    "-w",
    "--workload",
    "workload_files",
    multiple=True,
    metavar="FILE",
    help="A workload that is neither in ./workloads nor packaged; may be repeated.",
)
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="PATH",
    help="A .json or .md file, or a directory for both; may be repeated. By default "
    "./approvals/NAME/ID.",
)
@click.option("--gpus", type=click.IntRange(1), help="Also say what stall costs with so many.")
@click.option("--gpu-hour-rate", type=click.FloatRange(0), help="Price of a GPU hour.")
@click.option("--currency", default="EUR", show_default=True, help="Of --gpu-hour-rate.")
@click.option("--usage", metavar="CSV", help="GPU hours by namespace, class and workload.")
@click.option("--json", "as_json", is_flag=True, help="Print the approval document.")
@click.option("--policy", metavar="FILE", help="Also write the admission policy, YAML.")
@policy_options
def command(
    *,
    requirements: str,
    runs: tuple[str, ...],
    results: str,
    by: str | None,
    workload_files: tuple[str, ...],
    outputs: tuple[str, ...],
    as_json: bool,
    policy: str | None,
    **options: Any,
) -> int:
    """Hold each RUN against REQUIREMENTS, a file, and write the approval document.

    A RUN is an id or its beginning, a run's directory or document, or a directory of runs.
    """
    demanded = load_requirements(requirements)
    given = list(given_runs(runs, results=results))
    approval = approve(
        demanded,
        given,
        workloads=_workloads(demanded, workload_files),
        approved_by=by or _user(),
        approval_id=new_id(time.time_ns(), random=os.urandom(RANDOM_BYTES)),
        tool=_tool(),
        now=datetime.fromtimestamp(time.time(), UTC),
        price=_price(
            gpus=options.pop("gpus"),
            rate=options.pop("gpu_hour_rate"),
            currency=options.pop("currency"),
            usage=options.pop("usage"),
        ),
    )
    places = _write(approval, outputs or (f"approvals/{approval.requirements_name}/{approval.id}",))
    if policy is not None:
        _write_new(Path(policy), admission_yaml([approval], now=None, **options))
        places.append(policy)
    if as_json:
        click.echo(approval_text(approval), nl=False)
    else:
        _show(approval, places)
    return approval.exit_code


def given_runs(names: Sequence[str], *, results: str) -> Iterator[GivenRun]:
    """Yield the runs that a person named.

    Args:
        names: Ids, documents, directories of a run or of many.
        results: Directory in which ids are looked up.

    Raises:
        ResultsError: One is missing, damaged or edited.
        UsageError: A directory holds no run.
    """
    for name in names:
        path = Path(name)
        if path.is_dir() and not (path / DOCUMENT).is_file():
            found = sorted(path.rglob(DOCUMENT))
            if not found:
                raise UsageError(name, "holds no run", "give a run, or a directory of runs")
        elif path.is_file():
            found = [path]
        else:
            store, key = find_run(name, results=results)
            found = [Path(store.place(key))]
        yield from map(_given, found)


def _given(path: Path) -> GivenRun:
    data = DirectoryFiles(str(path.parent)).read(path.name)
    run = parse_document(data, place=str(path))
    inside = f"{run.storage.get('name')}/{run.workload.get('name')}/{run.id}/{DOCUMENT}"
    return GivenRun(run, hashlib.sha256(data).hexdigest(), inside)


def _price(
    *, gpus: int | None, rate: float | None, currency: str, usage: str | None
) -> Callable[[Sequence[Cell]], dict[str, Any]] | None:
    """Return what works out the cost; None where nobody asked for it."""
    if gpus is None and rate is None and usage is None:
        return None
    hours: list[Usage] = []
    if usage is not None:
        content, label = read_text(Path(usage))
        hours = parse_usage(content, place=label)
    return partial(cost, gpus=gpus or EXAMPLE_GPUS, rate=rate, currency=currency, usage=hours)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:  # a container's numeric user has no name
        raise UsageError("--by", "is needed: this user has no name", "say who approves") from error


def _tool() -> Tool:
    import platform

    return Tool(version=__version__, commit=harness_commit(), python=platform.python_version())


def _workloads(requirements: Requirements, files: Sequence[str]) -> Mapping[str, Workload]:
    """Return the declared workloads by name; those that cannot be found are left out."""
    found = {}
    for file in files:
        workload = load_workload(file)
        found[workload.metadata.name] = workload
    for requirement in requirements.spec.requirements:
        name = requirement.workload
        if name not in found:
            try:
                found[name] = load_workload(name)
            except UsageError as error:
                if error.place != f"workload {name!r}":  # found, but wrong
                    raise
    return found


def _write(approval: Approval, outputs: Sequence[str]) -> list[str]:
    texts = {
        ".json": approval_text(approval),
        ".md": markdown(approval, contract=contract([approval])),
    }
    places = []
    for output in outputs:
        path = Path(output)
        if path.suffix in texts:
            wanted = {path: texts[path.suffix]}
        elif path.suffix and not path.is_dir():
            raise UsageError(f"-o {output}", f"{path.suffix} is no format of an approval")
        else:
            wanted = {path / f"approval{suffix}": words for suffix, words in texts.items()}
        for place, words in wanted.items():
            _write_new(place, words)
            places.append(str(place))
    return places


def _write_new(place: Path, content: str) -> None:
    files = DirectoryFiles(str(place.parent))
    files.write_atomic(place.name, content.encode(), existing="refuse")


COLOURS = {"approved": "green", "provisional": "yellow", "not met": "red", "invalid": "red"}


def _show(approval: Approval, places: Sequence[str]) -> None:
    from rich.table import Table

    console = Console(highlight=False)
    for cell in approval.cells:
        console.print(text(cell.sentence, style=COLOURS.get(cell.verdict, "magenta")))
        table = Table.grid(padding=(0, 2))
        for lead, words in _details(cell):
            table.add_row(text(f"  {lead}"), text(words))
        console.print(table)
    table = Table.grid(padding=(0, 2))
    for sentence in approval.cost["sentences"] if approval.cost else ():
        table.add_row("cost", text(sentence))
    for note in approval.unused_runs:
        table.add_row("unused run", text(f"{note.code}: {note.text}"))
    if any(cell.verdict in APPROVED for cell in approval.cells):
        table.add_row("valid until", _until(approval))
    console.print(table)
    for place in places:  # a path is one line, to be copied
        console.print(text(f"document     {place}"), soft_wrap=True)


def _until(approval: Approval) -> str:
    return min(cell.valid_until for cell in approval.cells if cell.valid_until)


def _details(cell: Cell) -> Iterator[tuple[str, str]]:
    for note in cell.reasons:
        yield "because", note.text
    for note in cell.provisional_because:
        yield ("provisional" if cell.verdict in APPROVED else "also"), note.text
    for note in cell.conditions:
        yield "to know", note.text
