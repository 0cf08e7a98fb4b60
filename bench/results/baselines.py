"""Named baselines: small pointers to stored runs, changed only by an explicit command.

`<results>/baselines/<name>.json` holds ids and digests, who set them and why, and every earlier
setting. Nothing else writes there: a bad run cannot become the next baseline by itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import ResultsError
from bench.results.files import Files

__all__ = [
    "Baseline",
    "BaselineRun",
    "Setting",
    "check_name",
    "list_baselines",
    "load_baseline",
    "save_baseline",
]

DIRECTORY = "baselines"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class Part(BaseModel):
    """Base of all parts of a pointer."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class BaselineRun(Part):
    """A run that a baseline points at."""

    id: str
    sha256: str
    """Of the stored document's bytes."""
    place: str
    """`<target>/<workload>/<id>/run.json` inside the store."""


class Setting(Part):
    """One setting of a baseline."""

    runs: list[BaselineRun]
    set_at: str
    """UTC, ISO 8601."""
    by: str
    why: str


class Baseline(Setting):
    """A named baseline as it is now, with its past."""

    schema_version: Literal[1] = 1
    name: str
    earlier: list[Setting]
    """What it pointed at before, the latest first."""
    checksum: str = ""
    """sha256 of the pointer with this field empty."""


def check_name(name: str) -> str:
    """Return the name of a baseline.

    Raises:
        ResultsError: It cannot be one.
    """
    if not NAME.fullmatch(name) or name.endswith(".json"):
        raise ResultsError(
            repr(name),
            "cannot name a baseline",
            "use small letters, digits, dots, dashes and underscores, 63 at most",
        )
    return name


def load_baseline(files: Files, name: str) -> Baseline | None:
    """Return a baseline of a store; None where there is none of that name.

    Raises:
        ResultsError: It is damaged or edited.
    """
    if not NAME.fullmatch(name) or not files.exists(_file(name)):
        return None
    place = f"{files.root}/{_file(name)}"
    remedy = "set it anew with bench baseline set --replace"
    try:
        raw = json.loads(files.read(_file(name)))
    except ValueError as error:
        raise ResultsError(place, "is not complete JSON: cut off or damaged", remedy) from error
    if not isinstance(raw, dict) or raw.get("checksum") != _checksum(raw):
        raise ResultsError(place, "does not match its checksum: edited or damaged", remedy)
    try:
        return Baseline.model_validate(raw)
    except ValidationError as error:
        raise ResultsError(place, "is no baseline of this version", remedy) from error


def save_baseline(files: Files, baseline: Baseline) -> str:
    """Store a baseline, in place of the setting before; return its path."""
    raw = baseline.model_dump(mode="json")
    raw["checksum"] = _checksum(raw)
    text = json.dumps(raw, indent=1, ensure_ascii=False) + "\n"
    files.write_atomic(_file(baseline.name), text.encode(), existing="replace")
    return f"{files.root}/{_file(baseline.name)}"


def list_baselines(files: Files) -> list[str]:
    """Return the names of a store's baselines, sorted."""
    names = (name.removesuffix(".json") for name in files.names(DIRECTORY) if ".json" in name)
    return sorted(name for name in names if NAME.fullmatch(name))


def _file(name: str) -> str:
    return f"{DIRECTORY}/{name}.json"


def _checksum(raw: dict[str, Any]) -> str:
    plain = json.dumps(raw | {"checksum": ""}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(plain.encode()).hexdigest()
