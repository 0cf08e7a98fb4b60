"""The results store: `<results>/<target>/<workload>/<id>/`, written once, never changed.

    run.json                        the run document, written last
    steps/<repeat>-<rank>.parquet   one row a step
    steps/<repeat>-<rank>.pieces.parquet
    report.html                     rendered from the others, may be rendered anew

Every other file of a run is refused a second time. A directory without `run.json` is a run
that is going on or was killed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from bench.errors import ResultsError
from bench.results.document import document_text, parse_document, seal
from bench.results.files import DirectoryFiles, Files
from bench.results.schema import Run
from bench.results.tables import encode_table, read_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RunKey", "Store", "StoredRun", "find_run", "open_store"]

DOCUMENT = "run.json"
REPORT = "report.html"
MIN_PREFIX = 4
"""Characters of an id that name a run; fewer would match by luck."""


@dataclass(frozen=True, slots=True)
class RunKey:
    """What names a run's directory in a store."""

    target: str
    workload: str
    id: str

    def __post_init__(self) -> None:
        """Refuse what would leave the run's place in the store."""
        for part in (self.target, self.workload, self.id):
            if not part or part.startswith(".") or "/" in part or "\0" in part:
                raise ResultsError(repr(part), "cannot be part of a path of the results store")

    @property
    def directory(self) -> str:
        """Name of the run's directory, relative to the store."""
        return f"{self.target}/{self.workload}/{self.id}"


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as found in a store.

    Attributes:
        key: Where it is.
        run: The document; None where it is missing or broken.
        problem: Why there is no document.
    """

    key: RunKey
    run: Run | None
    problem: str = ""


class Store:
    """A results store.

    Args:
        files: The place that holds it.
    """

    def __init__(self, files: Files) -> None:
        self.files = files

    @staticmethod
    def key(run: Run) -> RunKey:
        """Return where a run belongs."""
        return RunKey(str(run.storage.get("name")), str(run.workload.get("name")), run.id)

    def check_writable(self) -> None:
        """Find out before a run whether its results can be kept.

        Raises:
            ResultsError: They cannot.
        """
        self.files.check_writable()

    def write_tables(
        self,
        key: RunKey,
        *,
        repeat: int,
        rank: int,
        steps: Mapping[str, npt.NDArray[Any]],
        pieces: npt.NDArray[Any],
        start_ns: int,
    ) -> None:
        """Store the samples of one rank of one repeat.

        Args:
            key: The run.
            repeat: Index of the repeat.
            rank: Number of the rank.
            steps: Columns by name (`bench.measure.attribution.step_columns`), nanoseconds.
            pieces: PIECE_DTYPE rows.
            start_ns: Start of the measured phase on the rank's clock.

        Raises:
            ResultsError: They exist, or cannot be written.
        """
        for name, table in (("", steps), (".pieces", pieces)):
            data = encode_table(table, start_ns=start_ns)
            file = f"{key.directory}/steps/{repeat}-{rank}{name}.parquet"
            self.files.write_atomic(file, data, existing="refuse")

    def write_run(self, run: Run) -> Run:
        """Store a run document; call it after its tables.

        Returns:
            The run as stored, with its checksum.

        Raises:
            ResultsError: A run of this id exists, the document cannot be written, or holds a
                figure that is not finite.
        """
        sealed = seal(run)
        file = f"{self.key(run).directory}/{DOCUMENT}"
        self.files.write_atomic(file, document_text(sealed).encode(), existing="refuse")
        return sealed

    def write_report(self, key: RunKey, html: str) -> str:
        """Store a run's page, replacing an older rendering; return its path."""
        name = f"{key.directory}/{REPORT}"
        self.files.write_atomic(name, html.encode(), existing="replace")
        return self.place(key, REPORT)

    def place(self, key: RunKey, file: str = DOCUMENT) -> str:
        """Return the path of a run's file, for people."""
        return os.path.join(self.files.root, *key.directory.split("/"), file)

    def load(self, key: RunKey) -> Run:
        """Return a verified run document.

        Raises:
            ResultsError: It is missing, cut off, edited, or of a newer version.
        """
        place = self.place(key)
        name = f"{key.directory}/{DOCUMENT}"
        if not self.files.exists(name):
            raise ResultsError(place, "is missing: the run is going on, or was killed")
        return parse_document(self.files.read(name), place=place)

    def read_steps(self, key: RunKey, *, repeat: int, rank: int) -> pd.DataFrame | None:
        """Return the stored step table of a rank; None where there is none."""
        return self._table(key, f"steps/{repeat}-{rank}.parquet")

    def read_pieces(self, key: RunKey, *, repeat: int, rank: int) -> pd.DataFrame | None:
        """Return the stored piece table of a rank; None where there is none."""
        return self._table(key, f"steps/{repeat}-{rank}.pieces.parquet")

    def _table(self, key: RunKey, file: str) -> pd.DataFrame | None:
        name = f"{key.directory}/{file}"
        if not self.files.exists(name):
            return None
        return read_table(self.files.read(name), place=self.place(key, file))

    def keys(self) -> list[RunKey]:
        """Return all runs of the store, oldest first."""
        found = [
            RunKey(target, workload, run_id)
            for target in self.files.list("")
            for workload in self.files.list(target)
            for run_id in self.files.list(f"{target}/{workload}")
        ]
        return sorted(found, key=lambda key: (key.id, key.directory))

    def list_runs(self) -> list[StoredRun]:
        """Return all runs, oldest first; broken ones say what is wrong with them."""
        runs = []
        for key in self.keys():
            try:
                runs.append(StoredRun(key, self.load(key)))
            except ResultsError as error:
                runs.append(StoredRun(key, None, error.problem))
        return runs

    def find(self, prefix: str) -> RunKey:
        """Return the one run whose id begins with `prefix`.

        Raises:
            ResultsError: None does, or several do.
        """
        wanted = prefix.lower()
        found = [key for key in self.keys() if key.id.startswith(wanted)]
        exact = [key for key in found if key.id == wanted]
        if len(exact or found) == 1 and len(wanted) >= MIN_PREFIX:
            return (exact or found)[0]
        if not found:
            raise ResultsError(
                prefix, f"no run of that id in {self.files.root}", "`bench ls` shows what is stored"
            )
        shown = ", ".join(key.id for key in found[:4]) + (", ..." if len(found) > 4 else "")
        raise ResultsError(prefix, f"not one run alone: {shown}", "give more of the id")


def open_store(path: str) -> Store:
    """Return the store in a directory or at an fsspec URL; it need not exist yet.

    Raises:
        ResultsError: There is no driver for the URL.
    """
    if "://" in path:
        from bench.results.remote import UrlFiles  # fsspec takes its time to import

        return Store(UrlFiles(path))
    return Store(DirectoryFiles(path or "."))


def find_run(name: str, *, results: str) -> tuple[Store, RunKey]:
    """Return the store and key of a run named by a person.

    Args:
        name: Path of a `run.json` or of its directory, or the beginning of an id.
        results: Directory in which ids are looked up.

    Raises:
        ResultsError: There is no such run, or the id fits several.
    """
    path = os.path.abspath(name)
    if os.path.isfile(path):
        path = os.path.dirname(path)
    if os.path.isfile(os.path.join(path, DOCUMENT)):
        parent, run_id = os.path.split(path)
        parent, workload = os.path.split(parent)
        root, target = os.path.split(parent)
        return open_store(root), RunKey(target, workload, run_id)
    if os.sep in name or os.path.exists(name):
        raise ResultsError(name, f"holds no {DOCUMENT}", "give a stored run's directory or id")
    store = open_store(results)
    return store, store.find(name)
