"""`bench reproduce`: run a stored plan again, and say whether the figures agree."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import yaml

from bench.analysis.facts import name_of, reproduce_command
from bench.cli.terminal import clean
from bench.errors import InfrastructureError, InvalidMeasurement, UsageError
from bench.policy.agreement import Agreement, compare_runs
from bench.results.document import parse_document
from bench.results.files import DirectoryFiles
from bench.results.schema import Run
from bench.results.store import find_run
from bench.spec.documents import API_VERSION
from bench.spec.load import load_storage, load_workload

__all__ = ["command"]

EXIT_CODES = {"agrees": 0, "differs": 1, "undecided": 3}

FACTS = ("name", "facts", "host")
"""Parts of a run's `storage` that were found out and are no part of the document."""


@click.command("reproduce", context_settings={"ignore_unknown_options": True})
@click.argument("run")
@click.option(
    "--results",
    default="./bench-results",
    show_default=True,
    metavar="DIR",
    help="Store of the run, and where the new one goes.",
)
@click.option("--repeats", type=click.IntRange(1), help="As many as the first run by default.")
@click.option("--dry-run", is_flag=True, help="Print the command line that would be run, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- RUN OPTIONS]")
def command(
    *,
    run: str,
    results: str,
    repeats: int | None,
    dry_run: bool,
    as_json: bool,
    arguments: tuple[str, ...],
) -> int:
    """Run the stored plan of RUN again, and say whether the new interval agrees.

    What stands behind -- goes to `bench run`: -- --launcher kubernetes
    """
    first = _stored(run, results)
    if first.status != "ok":
        raise UsageError(run, f"is {first.status}: there is nothing to agree with", "give another")
    with _documents(first) as files:
        words = [*_words(first, files, repeats), "--results", results, *arguments]
        if files:
            made = " and ".join(files)
            print(f"bench: {made} as stored in the run, in files of their own", file=sys.stderr)
        if dry_run:
            print(shlex.join(["bench", "run", *words]))
            return 0
        print(f"bench: again: {shlex.join(['bench', 'run', *words])}", file=sys.stderr)
        again = _run(words)
    if again.status != "ok":
        raise InvalidMeasurement(f"run {again.id}", f"ended {again.status}", "see its report")
    agreement = compare_runs(first, again)
    if as_json:
        ids = {"first": first.id, "again": again.id}
        print(json.dumps(ids | asdict(agreement), indent=1, ensure_ascii=False))
    else:
        _show(first, again, agreement)
    return EXIT_CODES[agreement.verdict]


def _stored(name: str, results: str) -> Run:
    path = Path(name)
    if path.is_file():
        data = DirectoryFiles(str(path.parent)).read(path.name)
        return parse_document(data, place=name)
    store, key = find_run(name, results=results)
    return store.load(key)


def _words(run: Run, files: Mapping[str, str], repeats: int | None) -> list[str]:
    """Return the arguments of `bench run` that measure the same cell again."""
    words = shlex.split(reproduce_command(run))[2:]  # without "bench run"
    words[0] = files.get("workload", words[0])
    words[words.index("-s") + 1] = files.get("storage", name_of(run.storage))
    if repeats is not None:
        words[words.index("--repeats") + 1] = str(repeats)
    return words


@contextlib.contextmanager
def _documents(run: Run) -> Iterator[dict[str, str]]:
    """Give files of the documents that are no longer what the run was made with.

    Yields:
        Paths by "workload" and "storage"; empty where names lead to the same documents.

    Raises:
        UsageError: A document has changed, and the run was exploratory: its changed values
            would pass for declared ones.
    """
    changed = {
        part: content
        for part, content, same in (
            ("workload", _workload_document(run), _same_workload(run)),
            ("storage", _storage_document(run), _same_storage(run)),
        )
        if not same
    }
    if changed and run.division != "certified":
        raise UsageError(
            f"run {run.id}",
            f"was exploratory, and its {' and '.join(changed)} document is not as it was",
            "put the document back into ./workloads or ./storageclasses",
        )
    if not changed:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="bench-reproduce-") as directory:
        files = {}
        for part, content in changed.items():
            path = Path(directory) / f"{part}.yaml"
            path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
            files[part] = str(path)
        yield files


def _document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    plain = json.loads(json.dumps(spec))
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": plain}


def _workload_document(run: Run) -> dict[str, Any]:
    spec = {key: value for key, value in run.workload.items() if key != "name"}
    return _document("Workload", name_of(run.workload), spec)


def _storage_document(run: Run) -> dict[str, Any]:
    spec = {
        key: value for key, value in run.storage.items() if key not in FACTS and value is not None
    }
    return _document("StorageTarget", name_of(run.storage), spec)


def _same_workload(run: Run) -> bool:
    """Say whether the name leads to the workload that was run; samples may have been raised."""
    try:
        found = load_workload(name_of(run.workload), overrides=run.plan.get("overrides") or ())
    except UsageError:
        return False
    spec = found.spec.model_dump(mode="json", by_alias=True)
    used = {key: value for key, value in run.workload.items() if key != "name"}
    used_dataset = dict(used.get("dataset") or {})
    if (
        run.plan.get("dataset_bytes") is not None
        or used_dataset.get("samples", 0) >= (spec["dataset"]["samples"])
    ):
        used_dataset["samples"] = spec["dataset"]["samples"]
    return bool(spec == used | {"dataset": used_dataset})


def _same_storage(run: Run) -> bool:
    """Say whether the name leads to the target that was run; io.threads is set by a run."""
    try:
        found = load_storage(name_of(run.storage), overrides=run.plan.get("overrides") or ())
    except UsageError:
        return False
    spec = found.spec.model_dump(mode="json", by_alias=True)
    used = {key: value for key, value in run.storage.items() if key not in FACTS}
    io_settings = dict(used.get("io") or {})
    if spec["io"]["threads"] is None:
        io_settings["threads"] = None
    return bool(spec == used | {"io": io_settings})


def _run(words: list[str]) -> Run:
    """Run `bench run`; return its document.

    Raises:
        BenchError: As `bench run` does; what was measured is stored.
    """
    from bench.cli.run import command as run

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        run.main([*words, "--json"], prog_name="bench run", standalone_mode=False)
    text = printed.getvalue()
    if not text:
        raise InfrastructureError("bench run", "ended without a document")
    return Run.model_validate_json(text)


def _show(first: Run, again: Run, agreement: Agreement) -> None:
    word = {
        "agrees": "the new run agrees with the first",
        "differs": "the new run differs from the first",
        "undecided": "undecided: the intervals are too wide to say whether the runs agree",
    }[agreement.verdict]
    print(f"{word} ({first.id}, again {again.id})")
    for metric in agreement.metrics:
        print(f"  {metric.metric:<12} {metric.verdict}: {clean(metric.detail)}")
    if agreement.differences:
        shown = ", ".join(agreement.differences[:8])
        more = ", ..." if len(agreement.differences) > 8 else ""
        print(f"  not the same cell: fingerprints differ in {clean(shown)}{more}")
