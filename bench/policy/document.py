"""The approval document: what was decided, from which runs, by whom, until when.

Immutable like a run document: base units, a checksum that finds edits, strict reading. What
is unknown is null with a reason beside it, and unknown is never approved.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import ResultsError
from bench.results.schema import Interval

__all__ = [
    "APPROVED",
    "SCHEMA_VERSION",
    "Approval",
    "Cell",
    "Criterion",
    "Note",
    "Occasion",
    "RunReference",
    "Scale",
    "Verdict",
    "approval_text",
    "parse_approval",
    "seal_approval",
]

SCHEMA_VERSION = 1

Verdict = Literal[
    "approved", "provisional", "not met", "inconclusive", "refused", "invalid", "not measured"
]
APPROVED: tuple[Verdict, ...] = ("approved", "provisional")
"""Verdicts under which the requirement holds."""


class Part(BaseModel):
    """Base of all parts of an approval document."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Note(Part):
    """One reason or remark."""

    code: str
    """Short name for programs: exploratory, warm, few_occasions, ..."""
    text: str
    """The same for people, with the figure and its bound."""


class Criterion(Part):
    """One limit of a requirement, held against the figures."""

    name: str
    """Field of the requirement: max_stall_ratio, min_throughput, ..."""
    metric: str
    """Figure of a repeat that it bounds."""
    limit: float
    direction: Literal["at most", "at least"]
    estimate: float | None
    low: float | None
    """Ends of the 90 % two-sided interval, which are one-sided 95 % bounds."""
    high: float | None
    n: int
    """Repeats."""
    num_occasions: int
    """Occasions that the interval takes as its clusters; 1 where repeats are."""
    worst: float | None
    """Of all repeats."""
    verdict: Literal["pass", "not met", "inconclusive", "not measured", "not decided"]
    """`not decided` in a cell whose runs cannot carry a decision, whatever the figures."""
    detail: str
    more_needed: int | None = None
    """How many further repeats (occasions, where they are the clusters), as variable as these,
    would probably settle it."""


class Occasion(Part):
    """Repeats without a long pause between them: one sample of what changes by the day."""

    start: str
    """UTC, ISO 8601."""
    end: str
    day: str
    """UTC date of the start."""
    runs: list[str]
    num_repeats: int
    nodes: list[str]


class RunReference(Part):
    """One run document that the decision rests on."""

    id: str
    created_at: str
    path: str
    """Inside its results store."""
    sha256: str
    """Of the stored file."""
    checksum: str
    """Its own."""
    fingerprint: str
    tool: str
    """Version and commit that measured."""
    image_digest: str | None
    num_repeats: int


class Scale(Part):
    """How large the runs were; an approval holds for this alone."""

    nodes: int
    gpus_per_node: int

    @property
    def gpus(self) -> int:
        """Accelerators in all."""
        return self.nodes * self.gpus_per_node


class Cell(Part):
    """The decision on one requirement."""

    workload: str
    target: str
    accelerator: str
    device: str
    """emulated, cuda or unknown."""
    storage_kind: str
    """directory, pvc, ephemeral, object, simulated or unknown."""
    storage_class: str | None
    """Of Kubernetes; None where the runs name none, and then nothing can be enforced."""
    access_pattern: str | None
    scale: Scale | None
    verdict: Verdict
    sentence: str
    """The decision for people."""
    reasons: list[Note]
    """Why it is not approved; empty where it is."""
    provisional_because: list[Note]
    conditions: list[Note]
    """What a reader must know even where it is approved."""
    criteria: list[Criterion]
    stall: Interval | None
    """Measured stall ratio, whether or not it is limited; None where there is none."""
    occasions: list[Occasion]
    days: list[str]
    nodes: list[str]
    valid_until: str | None
    """UTC, ISO 8601; None where nothing is approved."""
    fingerprint: dict[str, Any]
    """Of the runs, all themes."""
    runs: list[RunReference]


class Approval(Part):
    """All decisions of one call, and what they rest on."""

    schema_version: Literal[1] = 1
    kind: Literal["Approval"] = "Approval"
    id: str
    """Lower-case ULID."""
    created_at: str
    approved_by: str
    """Who asked for the decision and answers for it."""
    tool: str
    requirements_name: str
    requirements_sha256: str
    """Of the canonical JSON of `requirements`."""
    requirements: dict[str, Any]
    verdict: Verdict
    """The worst of the cells, in the order of exit codes."""
    exit_code: int
    review_after_days: int
    cells: list[Cell]
    unused_runs: list[Note]
    """Runs that were given and that no requirement asks for; code is the run's id."""
    rules: list[str]
    """The rules of the decision, in words."""
    cost: dict[str, Any] | None = None
    """What stall costs, where rates or usage were given."""
    checksum: str = ""
    """sha256 of the document with this field empty."""


def canonical(content: dict[str, Any]) -> bytes:
    """Return the one serialised form that digests are taken of."""
    text = json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8", "surrogatepass")


def seal_approval(approval: Approval) -> Approval:
    """Return the approval with its checksum set."""
    return approval.model_copy(update={"checksum": _checksum(approval.model_dump(mode="json"))})


def approval_text(approval: Approval) -> str:
    """Return the JSON text of a sealed approval, ending in a newline."""
    content = approval.model_dump(mode="json")
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def parse_approval(data: bytes, *, place: str) -> Approval:
    """Read an approval document and verify its checksum.

    Raises:
        ResultsError: It is cut off, edited, of a newer version, or no approval.
    """
    restore = "restore it from a copy, or approve again"
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ResultsError(place, "is not complete JSON: cut off or damaged", restore) from error
    if not isinstance(raw, dict) or raw.get("kind") != "Approval":
        remedy = "give the approval.json that `bench approve` wrote"
        raise ResultsError(place, "is not an approval document", remedy)
    version = raw.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or version > SCHEMA_VERSION:
        raise ResultsError(
            place, f"has schema version {version!r}; this bench reads up to {SCHEMA_VERSION}"
        )
    if raw.get("checksum") != _checksum(raw):
        raise ResultsError(place, "does not match its checksum: edited or damaged", restore)
    try:
        return Approval.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise ResultsError(place, f"field {path}: {first['msg']}", restore) from error


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(canonical(content | {"checksum": ""})).hexdigest()
