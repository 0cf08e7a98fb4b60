"""The stored form of a comparison, and the check that it can be worked out anew."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from bench.analysis.comparison.compare import compare
from bench.analysis.comparison.document import Comparison, Side
from bench.errors import InvalidMeasurement, ResultsError
from bench.results.baselines import Baseline
from bench.results.gather import Gathered, GivenRun

__all__ = ["comparison_text", "parse_comparison", "recompute"]


def comparison_text(comparison: Comparison) -> str:
    """Return the JSON text of a comparison with its checksum, ending in a newline."""
    content = comparison.model_dump(mode="json")
    content["checksum"] = _checksum(content)
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def parse_comparison(data: bytes, *, place: str) -> Comparison:
    """Read a comparison and verify its checksum.

    Raises:
        ResultsError: It is cut off, edited, of another version, or no comparison.
    """
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ResultsError(place, "is not complete JSON: cut off or damaged") from error
    if not isinstance(raw, dict) or raw.get("kind") != "comparison":
        raise ResultsError(place, "is no comparison", "give what bench compare -o wrote as .json")
    if raw.get("checksum") != _checksum(raw):
        raise ResultsError(place, "does not match its checksum: edited or damaged")
    try:
        return Comparison.model_validate(raw)
    except ValidationError as error:
        raise ResultsError(place, "is no comparison of this version of bench") from error


def recompute(comparison: Comparison, runs: Mapping[str, GivenRun]) -> Comparison:
    """Return the comparison worked out anew from stored runs, with the same parameters.

    Args:
        comparison: As stored.
        runs: By id; every run that the comparison names.

    Raises:
        ResultsError: A run is not at hand.
        InvalidMeasurement: A run is not the document that was compared.
    """
    return compare(
        _side(comparison.baseline, runs),
        _side(comparison.candidate, runs),
        parameters=comparison.parameters,
        tool=comparison.tool,
        created_at=datetime.fromisoformat(comparison.created_at),
    ).model_copy(update={"checksum": comparison.checksum})


def _side(side: Side, runs: Mapping[str, GivenRun]) -> Gathered:
    found = []
    for reference in side.runs:
        run = runs.get(reference.id)
        if run is None:
            raise ResultsError(reference.place, "is not at hand", "name its store with --results")
        if run.sha256 != reference.sha256:
            raise InvalidMeasurement(run.place, "is not the document that was compared")
        found.append(run)
    pointer = None
    if side.baseline is not None:  # only its name stands in the document
        pointer = Baseline(name=side.baseline, runs=[], set_at="", by="", why="", earlier=[])
    return Gathered(side.given, tuple(found), baseline=pointer)


def _checksum(content: dict[str, Any]) -> str:
    canonical = json.dumps(
        content | {"checksum": ""}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
