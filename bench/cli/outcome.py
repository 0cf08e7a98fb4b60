"""What every way to run does with a document in the end: report page, summary, exit status."""

from __future__ import annotations

import json

from rich.console import Console

from bench.cli.show import summary
from bench.cli.stored import stored_tables
from bench.errors import Interrupted, InvalidMeasurement
from bench.launch.campaign import Campaign
from bench.report.page import render_page
from bench.results.schema import Run
from bench.results.store import Store

__all__ = ["conclude", "present"]


def present(run: Run, store: Store, *, as_json: bool) -> None:
    """Write the report page, and print the run."""
    key = store.key(run)
    page = store.write_report(key, render_page(run, stored_tables(store, key, run)))
    if as_json:
        print(json.dumps(run.model_dump(mode="json"), indent=1, ensure_ascii=False))
    else:
        summary(run, console=Console(), document=store.place(key), report=page)


def conclude(run: Run, campaign: Campaign) -> None:
    """Raise what the exit status has to say."""
    if campaign.interrupted:
        raise Interrupted("run", "interrupted; what was measured is stored")
    if campaign.error is not None:
        raise campaign.error
    if run.status == "invalid":
        bad = next(repeat for repeat in run.repeats if repeat.status == "invalid")
        raise InvalidMeasurement(f"repeat {bad.index}", bad.problem, "see the report's guards")
