"""`bench compare`: candidate against baseline, cell by cell, with a verdict for each."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import click

from bench import __version__
from bench.analysis.comparison.cells import suggested
from bench.analysis.comparison.compare import compare
from bench.analysis.comparison.document import Across, Comparison, Margins, Parameters
from bench.analysis.comparison.seal import comparison_text, parse_comparison, recompute
from bench.analysis.comparison.verdicts import ALPHA
from bench.cli.compare_table import print_comparison
from bench.cli.terminal import clean
from bench.errors import InvalidMeasurement, ResultsError, UsageError
from bench.measure.host import harness_commit
from bench.policy.gate import GATES, Gate, exit_code, is_warning
from bench.report.comparison import FORMATS, render
from bench.results.files import DirectoryFiles
from bench.results.gather import GivenRun, collector_paused, gather, gather_directory
from bench.results.schema import Tool

__all__ = ["command"]

MIN_REPEATS = {"ci": 3, "approval": 5}


@click.command("compare")
@click.argument("baseline", required=False)
@click.argument("candidate", required=False)
@click.option(
    "--results",
    default="./bench-results",
    show_default=True,
    metavar="PLACE",
    help="Directory or URL in which ids and baselines are looked up.",
)
@click.option(
    "--across",
    multiple=True,
    type=click.Choice(get_args(Across)),
    help="What is meant to differ; all else has to match. May be repeated.",
)
@click.option(
    "--gate",
    type=click.Choice(GATES),
    help="Set the exit status by the verdict: ci lets inconclusive pass, approval does not.",
)
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="FILE",
    help=f"Write the comparison: {' '.join(FORMATS)}. May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the document instead of the table.")
@click.option(
    "--throughput-margin",
    default=0.05,
    show_default=True,
    type=click.FloatRange(0, 0.5, min_open=True),
    help="Share of throughput that does not matter.",
)
@click.option(
    "--stall-margin",
    default=0.02,
    show_default=True,
    type=click.FloatRange(0, 0.5, min_open=True),
    help="Points of stall, as a ratio of time, that do not matter.",
)
@click.option(
    "--min-repeats",
    type=click.IntRange(2),
    help="Repeats a side to decide at all; 3, with --gate=approval 5.",
)
@click.option("--unpaired", is_flag=True, help="Never pair repeats that were measured in turns.")
@click.option("--allow-mismatch", is_flag=True, help="Compare what does not match, with a banner.")
@click.option(
    "--check", metavar="FILE", help="Work out a stored comparison (.json) anew, and compare."
)
def command(
    *,
    baseline: str | None,
    candidate: str | None,
    results: str,
    gate: Gate | None,
    outputs: tuple[str, ...],
    as_json: bool,
    check: str | None,
    **rules: Any,
) -> int:
    """Compare CANDIDATE with BASELINE, cell by cell.

    Either is a stored baseline, an id or its beginning, a run, a directory or URL of runs, or
    several of these with commas between.
    """
    if check is not None:
        return _check(check, results)
    if baseline is None or candidate is None:
        raise UsageError("bench compare", "needs BASELINE and CANDIDATE", "see --help")
    places = _outputs(outputs)
    with collector_paused():
        comparison = compare(
            gather(baseline, results=results),
            gather(candidate, results=results),
            parameters=_parameters(gate or "ci", **rules),
            tool=Tool(
                version=__version__, commit=harness_commit(), python=platform.python_version()
            ),
            created_at=datetime.fromtimestamp(time.time(), UTC),
        )
    _refuse(comparison)
    contents = [render(comparison, place.suffix) for place in places]  # all before any is written
    for place, content in zip(places, contents, strict=True):
        DirectoryFiles(str(place.parent)).write_atomic(
            place.name, content.encode(), existing="replace"
        )
    if as_json:
        click.echo(comparison_text(comparison), nl=False)
    else:
        print_comparison(comparison, places=[str(place) for place in places])
    verdicts = {cell.verdict for cell in comparison.cells}
    code = exit_code(verdicts, gate=gate)
    if code == 0 and is_warning(verdicts, gate=gate):
        print("bench: warning: passed, but not everything could be told", file=sys.stderr)
    return code


def _parameters(
    rule: Gate,
    *,
    across: tuple[Across, ...],
    throughput_margin: float,
    stall_margin: float,
    min_repeats: int | None,
    unpaired: bool,
    allow_mismatch: bool,
) -> Parameters:
    return Parameters(
        rule=rule,
        across=sorted(set(across)),
        allow_mismatch=allow_mismatch,
        alpha=ALPHA,
        confidence=1 - 2 * ALPHA,
        margins=Margins(throughput_ratio=throughput_margin, stall_ratio=stall_margin),
        min_repeats=min_repeats or MIN_REPEATS[rule],
        pairing="never" if unpaired else "auto",
    )


def _refuse(comparison: Comparison) -> None:
    """Refuse a comparison of which nothing remains.

    Raises:
        UsageError: Every cell that both sides have is refused, or there is none.
    """
    states = {cell.state for cell in comparison.cells}
    names = f"{comparison.baseline.given} and {comparison.candidate.given}"
    if states <= {"missing", "extra"}:
        one, other = (
            next(clean(cell.label) for cell in comparison.cells if cell.state == state)
            for state in ("missing", "extra")
        )
        raise UsageError(
            names,
            f"have no cell in common: {one} here, {other} there",
            "compare runs of the same cell, or name with --across what is meant to differ",
        )
    if states <= {"missing", "extra", "refused"}:
        cell = next(cell for cell in comparison.cells if cell.state == "refused")
        reasons = "; ".join(clean(reason.text) for reason in cell.reasons)
        across = suggested(cell.differences)
        codes = {reason.code for reason in cell.reasons}
        remedy = "compare like with like, or use --allow-mismatch"
        if across and codes == {"mismatch"}:
            options = " ".join(f"--across {name}" for name in across)
            remedy = f"if that is what you compare, say {options}; else use --allow-mismatch"
        if "same_run" in codes:
            remedy = "give another run"
        raise UsageError(clean(cell.label), reasons, remedy)


def _outputs(outputs: Sequence[str]) -> list[Path]:
    """Return where to write, each looked at before anything is measured or written.

    Raises:
        UsageError: A format is unknown, or a file is no earlier comparison.
    """
    places = [Path(output) for output in outputs]
    for place in places:
        if place.suffix not in FORMATS or place.is_dir():
            raise UsageError(
                f"-o {place}", "is no format of a comparison", f"use one of {', '.join(FORMATS)}"
            )
        if place.suffix == ".json" and place.exists():
            try:
                parse_comparison(DirectoryFiles(str(place.parent)).read(place.name), place="")
            except ResultsError as error:
                raise UsageError(
                    f"-o {place}", "exists and is no comparison", "give another name"
                ) from error
    return places


def _check(name: str, results: str) -> int:
    path = Path(name)
    stored = parse_comparison(DirectoryFiles(str(path.parent)).read(path.name), place=name)
    runs: dict[str, GivenRun] = {found.run.id: found for found in gather_directory(results).runs}
    again = recompute(stored, runs)
    if again != stored:
        raise InvalidMeasurement(
            name, "is not what its runs come to", "compare anew with this version of bench"
        )
    count = len({*(r.id for r in stored.baseline.runs), *(r.id for r in stored.candidate.runs)})
    print(f"the same, worked out anew from {count} runs: {clean(stored.overall.sentence)}")
    return 0
