"""From what a person names to stored runs: files, ids, baselines, directories, URLs.

Every document is verified by its checksum on the way. One that is damaged stops a comparison;
a history lists it and goes on.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.errors import DocumentError, ResultsError
from bench.results.baselines import Baseline, load_baseline
from bench.results.document import parse_document
from bench.results.files import DirectoryFiles
from bench.results.remote import UrlFiles
from bench.results.schema import Run
from bench.results.store import DOCUMENT, open_store

__all__ = ["Gathered", "GivenRun", "collector_paused", "gather", "gather_directory"]

MAX_PROBLEMS = 10
STEPS = "steps"

DATASET_MARK = "manifest.parquet"
"""A directory that holds it is a data set: a million files and no run."""


@dataclass(frozen=True, slots=True)
class GivenRun:
    """A stored run with what identifies its document.

    Attributes:
        run: The document.
        sha256: Of the stored bytes.
        place: For people: its path or URL.
        has_samples: Whether the tables of every repeat that counts lie beside it.
    """

    run: Run
    sha256: str
    place: str
    has_samples: bool

    @property
    def inside(self) -> str:
        """Where it is inside its store."""
        run = self.run
        return f"{run.storage.get('name')}/{run.workload.get('name')}/{run.id}/{DOCUMENT}"


@dataclass(frozen=True, slots=True)
class Gathered:
    """What one name led to.

    Attributes:
        given: The name.
        runs: Each once, in the order of their ids.
        problems: Documents that cannot be used, one line each.
        baseline: The stored baseline that the name is; None for others.
    """

    given: str
    runs: tuple[GivenRun, ...]
    problems: tuple[str, ...] = ()
    baseline: Baseline | None = None


def gather(name: str, *, results: str) -> Gathered:
    """Return the runs of one side of a comparison.

    Args:
        name: A document, a run's directory, a directory or URL of many, the name of a baseline,
            or the beginning of an id; several, separated by commas.
        results: Directory or URL in which baselines and ids are looked up.

    Raises:
        ResultsError: There is no such run, or none at all.
        DocumentError: Documents are damaged, edited or of another version; all of them.
    """
    with collector_paused():
        return _gather_all(name, results)


def _gather_all(name: str, results: str) -> Gathered:
    parts = [name] if _is_place(name) else [part for part in name.split(",") if part]
    if not parts:
        raise ResultsError(repr(name), "names no run", "give a run, a directory or a baseline")
    found = [_gather(part, results=results) for part in parts]
    problems = [problem for one in found for problem in one.problems]
    if problems:
        more = len(problems) - MAX_PROBLEMS
        raise DocumentError(
            problems[:MAX_PROBLEMS] + ([f"{name}: {more} more of them"] if more > 0 else [])
        )
    runs = _once(run for one in found for run in one.runs)
    if not runs:
        raise ResultsError(name, "holds no run", "give a run, or a directory of runs")
    return Gathered(name, runs, baseline=found[0].baseline if len(found) == 1 else None)


def gather_directory(place: str) -> Gathered:
    """Return all runs of a directory or URL, broken ones as problems.

    Raises:
        ResultsError: It is missing, or cannot be read.
    """
    with collector_paused():
        return _from_url(place) if "://" in place else _from_directory(place)


def _from_directory(place: str) -> Gathered:
    if not os.path.isdir(place):
        raise ResultsError(place, "is no directory", "give the directory of stored runs")
    runs, problems = [], []
    for directory in _run_directories(place):
        try:
            runs.append(_read(directory))
        except ResultsError as error:
            problems.append(str(error))
    return Gathered(place, _once(runs), tuple(problems))


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Read without looking for cycles, of which documents have none: it takes half the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _is_place(name: str) -> bool:
    return "://" in name or os.path.exists(name)


def _gather(name: str, *, results: str) -> Gathered:
    if "://" in name or os.path.isdir(name):
        return gather_directory(name)
    if os.path.isfile(name):
        return Gathered(name, (_read(os.path.dirname(name) or ".", os.path.basename(name)),))
    if os.sep in name or name.endswith(".json"):
        raise ResultsError(name, "is no file or directory", "check the path")
    store = open_store(results)
    pointer = load_baseline(store.files, name)
    if pointer is not None:
        return Gathered(name, tuple(_pointed(pointer, results)), baseline=pointer)
    key = store.find(name)
    place = store.place(key)
    return Gathered(name, (_verified(store.files.read(f"{key.directory}/{DOCUMENT}"), place),))


def _pointed(pointer: Baseline, results: str) -> Iterator[GivenRun]:
    files = open_store(results).files
    for entry in pointer.runs:
        place = f"{results.rstrip('/')}/{entry.place}"
        if not files.exists(entry.place):
            raise ResultsError(
                place,
                f"is missing; baseline {pointer.name} points at it",
                "restore it, or set anew",
            )
        found = _verified(files.read(entry.place), place)
        if found.sha256 != entry.sha256:
            raise ResultsError(
                place,
                f"is not the document that baseline {pointer.name} was set to",
                "restore it from a copy, or set the baseline anew",
            )
        yield found


def _run_directories(place: str) -> Iterator[str]:
    for directory, inner, files in os.walk(place):
        if DOCUMENT in files:
            inner.clear()
            yield directory
        elif DATASET_MARK in files:
            inner.clear()
        inner[:] = sorted(name for name in inner if not name.startswith("."))


def _read(directory: str, name: str = DOCUMENT) -> GivenRun:
    data = DirectoryFiles(directory).read(name)
    try:
        tables: Sequence[str] = os.listdir(os.path.join(directory, STEPS))
    except OSError:
        tables = ()
    return _verified(data, os.path.join(directory, name), tables)


def _from_url(url: str) -> Gathered:
    files = UrlFiles(url)
    names = files.tree()
    if not names and files.exists(""):  # the document itself
        parent, _, last = url.rpartition("/")
        return Gathered(url, (_verified(UrlFiles(parent).read(last), url),))
    documents = [name for name in names if name.rpartition("/")[2] == DOCUMENT]
    tables: dict[str, list[str]] = {}
    for name in names:
        directory, _, file = name.rpartition(f"{STEPS}/")
        if directory or name.startswith(f"{STEPS}/"):
            tables.setdefault(directory, []).append(file)
    runs, problems = [], []
    for name, data in zip(documents, files.read_many(documents), strict=True):
        try:
            beside = tables.get(name.removesuffix(DOCUMENT), ())
            runs.append(_verified(data, files.place(name), beside))
        except ResultsError as error:
            problems.append(str(error))
    return Gathered(url, _once(runs), tuple(problems))


def _verified(data: bytes, place: str, tables: Sequence[str] | None = None) -> GivenRun:
    run = parse_document(data, place=place)
    wanted = {
        f"{repeat.index}-{rank.rank}.parquet"
        for repeat in run.repeats
        if repeat.status == "ok"
        for rank in repeat.ranks
    }
    has_samples = True if tables is None else wanted <= set(tables)
    return GivenRun(run, hashlib.sha256(data).hexdigest(), place, has_samples)


def _once(runs: Iterator[GivenRun] | Sequence[GivenRun]) -> tuple[GivenRun, ...]:
    """Return each run once, by id; copies have to be the same.

    Raises:
        ResultsError: Two documents of one id differ.
    """
    known: dict[str, GivenRun] = {}
    for found in runs:
        before = known.setdefault(found.run.id, found)
        if before.run.checksum != found.run.checksum:
            raise ResultsError(
                found.place, f"has the id of {before.place} and other content", "keep one of them"
            )
    return tuple(sorted(known.values(), key=lambda found: found.run.id))
