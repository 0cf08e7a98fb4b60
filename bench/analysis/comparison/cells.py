"""Which runs are of one cell, and which cell of one side belongs to which of the other.

Every cell of either side comes out once: paired, missing or extra. Nothing is left out in
silence.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.analysis.comparison.document import Across, CellKey, Difference
from bench.analysis.facts import name_of
from bench.results.fingerprint import Unlike, unlike
from bench.results.gather import GivenRun

__all__ = ["Cell", "CellPair", "cell_key", "differences_of", "group", "pair", "suggested"]

PREFIXES: Mapping[Across, tuple[tuple[str, ...], ...]] = {
    "storage": (("storage",),),
    "kernel": (("kernel",),),
    "loader": (("loader",),),
    "image": (("tool",),),
    "node": (("node",),),
    "device": (("device",),),
}
"""Parts of the fingerprint that may differ across each; CSI facts are found by their names."""

LOADER_KEYS = (
    *("engine", "mode", "block_bytes", "threads", "reader_processes", "ring_bytes"),
    *("cache", "sync"),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """Runs of one cell of one side, by id."""

    key: CellKey
    runs: tuple[GivenRun, ...]


@dataclass(frozen=True, slots=True)
class CellPair:
    """A cell of both sides; None where one of them lacks it."""

    key: CellKey
    baseline: Cell | None
    candidate: Cell | None


def cell_key(found: GivenRun, *, across: Collection[Across] = ()) -> CellKey:
    """Return what names the cell of a run, without what is compared across."""
    run = found.run
    loader = run.fingerprint.get("loader")
    if not isinstance(loader, Mapping):
        loader = {name: run.plan.get(name) for name in LOADER_KEYS}
    return CellKey(
        workload=name_of(run.workload),
        storage=None if "storage" in across else name_of(run.storage),
        accelerator=str(run.plan.get("accelerator") or "unknown"),
        nodes=int(run.plan.get("nodes") or 1),
        gpus_per_node=int(run.plan.get("gpus_per_node") or 1),
        loader=None if "loader" in across else dict(loader),
    )


def group(runs: Sequence[GivenRun], *, across: Collection[Across] = ()) -> list[Cell]:
    """Return the cells of one side, sorted by their keys."""
    cells: dict[str, list[GivenRun]] = {}
    keys: dict[str, CellKey] = {}
    for found in runs:
        key = cell_key(found, across=across)
        name = _canonical(key)
        keys[name] = key
        cells.setdefault(name, []).append(found)
    return [Cell(keys[name], tuple(cells[name])) for name in sorted(cells)]


def pair(baseline: Sequence[Cell], candidate: Sequence[Cell]) -> list[CellPair]:
    """Return every cell of both sides once.

    Cells of equal keys belong together. What is left over and alone with its workload,
    target and scale on either side does too, and so does the only cell of each side: the
    comparison then says in what they differ, which helps more than "missing" and "extra".
    """
    ones = {_canonical(cell.key): cell for cell in baseline}
    others = {_canonical(cell.key): cell for cell in candidate}
    found = [CellPair(ones[name].key, ones[name], others[name]) for name in ones.keys() & others]
    left = [cell for name, cell in ones.items() if name not in others]
    right = [cell for name, cell in others.items() if name not in ones]
    for related in (_without_loader, _nothing_but_alone):
        if related is _nothing_but_alone and (len(baseline), len(candidate)) != (1, 1):
            continue
        for one, other in _alone(left, right, related):
            found.append(CellPair(one.key, one, other))
            left.remove(one)
            right.remove(other)
    found += [CellPair(cell.key, cell, None) for cell in left]
    found += [CellPair(cell.key, None, cell) for cell in right]
    return sorted(found, key=lambda one: (_canonical(one.key), one.baseline is None))


def differences_of(
    baseline: Mapping[str, Any], candidate: Mapping[str, Any], *, across: Collection[Across]
) -> list[Difference]:
    """Return where two fingerprints differ, and which of it is meant to."""
    return [
        Difference(
            path=found.name, baseline=found.one, candidate=found.other, across=_meant(found, across)
        )
        for found in unlike(baseline, candidate)
    ]


def suggested(differences: Sequence[Difference]) -> list[Across]:
    """Return what to compare across so that nothing unexpected differs; empty where nothing can."""
    names: list[Across] = []
    for found in differences:
        if found.across is not None:
            continue
        path = tuple(found.path.split("."))
        theme = "csi" if _is_csi(path) else path[0]
        name = next((n for n, prefixes in PREFIXES.items() if (theme,) in prefixes), None)
        if theme == "csi":
            name = "csi"
        if name is None:
            return []
        names.append(name)
    return sorted(set(names))


def _meant(found: Unlike, across: Collection[Across]) -> Across | None:
    for name in across:
        if name == "csi":
            if _is_csi(found.path):
                return name
        elif any(found.path[: len(prefix)] == prefix for prefix in PREFIXES[name]):
            return name
    return None


def _is_csi(path: Sequence[str]) -> bool:
    return path[:1] == ("storage",) and any(
        part == "provisioner" or part.startswith("csi") for part in path[1:]
    )


def _canonical(key: CellKey) -> str:
    return json.dumps(key.model_dump(mode="json"), sort_keys=True)


def _without_loader(cell: Cell) -> str:
    return _canonical(cell.key.model_copy(update={"loader": None}))


def _nothing_but_alone(cell: Cell) -> str:
    del cell
    return ""


def _alone(
    left: Sequence[Cell], right: Sequence[Cell], related: Any
) -> Iterator[tuple[Cell, Cell]]:
    for one in list(left):
        ones = [cell for cell in left if related(cell) == related(one)]
        others = [cell for cell in right if related(cell) == related(one)]
        if len(ones) == 1 and len(others) == 1:
            yield one, others[0]
