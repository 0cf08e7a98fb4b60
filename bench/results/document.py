"""The stored form of a run document: one text, a checksum that finds edits, strict reading.

The checksum is the sha256 of the document's canonical JSON (keys sorted, no spaces, UTF-8)
with `checksum` empty. It finds accidents and edits by hand; it proves nothing against
somebody who computes it anew.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from bench.errors import ResultsError
from bench.results.schema import SCHEMA_VERSION, Run

__all__ = ["document_text", "parse_document", "seal"]


def seal(run: Run) -> Run:
    """Return the run with its checksum set: what is stored, and what `--json` prints.

    Raises:
        ResultsError: A figure is not finite; JSON has no such number.
    """
    return run.model_copy(update={"checksum": _checksum(_plain(run))})


def document_text(run: Run) -> str:
    """Return the JSON text of a sealed run, as stored, ending in a newline."""
    return json.dumps(_plain(run), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def parse_document(data: bytes, *, place: str) -> Run:
    """Read a run document and verify its checksum.

    Args:
        data: Content of a `run.json`.
        place: Its path, for messages.

    Raises:
        ResultsError: It is cut off, edited, of a newer version, or no run document.
    """
    restore = "restore it from a copy, or delete its directory"
    try:
        raw = json.loads(data, parse_constant=_no_number)
    except ResultsError as error:
        raise ResultsError(place, error.problem, restore) from error
    except (ValueError, RecursionError) as error:
        raise ResultsError(place, "is not complete JSON: cut off or damaged", restore) from error
    if not isinstance(raw, dict) or not {"schema_version", "id", "repeats"} <= raw.keys():
        raise ResultsError(place, "is not a run document", "give the run.json of a stored run")
    version = raw["schema_version"]
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ResultsError(place, f"has no schema version but {version!r}", restore)
    if version > SCHEMA_VERSION:
        raise ResultsError(
            place,
            f"has schema version {version}; this bench reads up to {SCHEMA_VERSION}",
            "read it with the bench that wrote it, or a newer one",
        )
    if raw.get("checksum") != _checksum(raw):
        raise ResultsError(place, "does not match its checksum: edited or damaged", restore)
    try:
        return Run.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise ResultsError(place, f"field {path}: {first['msg']}", restore) from error


def _no_number(word: str) -> float:
    """Refuse NaN and Infinity, which Python's reader takes and no JSON has."""
    raise ResultsError("", f"holds {word}, which is no number")


def _plain(run: Run) -> dict[str, Any]:
    for path, number in _numbers(run.model_dump(), run.id):  # JSON mode makes them null
        if not math.isfinite(number):
            raise ResultsError(path, f"is {number}, not a number that JSON can hold")
    content = run.model_dump(mode="json")
    plain: dict[str, Any] = json.loads(json.dumps(content))  # keys become text as when stored
    return plain


def _checksum(content: dict[str, Any]) -> str:
    canonical = json.dumps(
        content | {"checksum": ""}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def _numbers(value: object, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, float):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _numbers(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _numbers(item, f"{path}[{index}]")
