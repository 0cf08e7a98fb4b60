"""What preflight found, and what it says about it: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from bench.errors import UsageError

__all__ = [
    "Attempt",
    "Facts",
    "Found",
    "JsonObject",
    "Note",
    "Refusal",
    "Right",
    "Unknown",
    "Verdict",
]

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that the server did not let us read, or did not answer."""

    reason: str


Found = JsonObject | None | Unknown
"""An object as the server has it; None where there is none of that name."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a run cannot be; the three parts of an error's message."""

    place: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Note:
    """Something to know that refuses nothing."""

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """One verb on one kind of object.

    Attributes:
        namespace: Where; None for the whole cluster.
        group: API group; "" for the core.
        resource: With its sub-resource: "pods/log".
        verb: As RBAC has it.
    """

    namespace: str | None
    group: str
    resource: str
    verb: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One creation that was tried without effect (dryRun=All).

    Attributes:
        kind: Of the object.
        name: Of the object.
        code: HTTP status; 0 where the server did not answer.
        message: The server's words where it refused; else empty.
        intended: What was sent.
        applied: What would have been stored; None where it was refused.
    """

    kind: str
    name: str
    code: int
    message: str
    intended: JsonObject
    applied: JsonObject | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the API server said.

    Attributes:
        namespace: Of the run.
        user: As the server knows it.
        objects: (kind, name) -> what was found; only what the plan names is asked for.
        quotas: ResourceQuotas of the namespace.
        limit_ranges: LimitRanges of the namespace.
        nodes: Name, labels, taints, conditions and allocatable amounts of each node.
        used: Node name -> resource -> amount that its pods request; "pods" is their number.
        volumes: PersistentVolumes of a class that makes none by itself; None where that does
            not matter.
        missing: Rights that a run needs and the user lacks.
        attempts: Every manifest, and bare pods made of the Jobs' templates.
    """

    namespace: str
    user: str
    objects: Mapping[tuple[str, str], Found]
    quotas: tuple[JsonObject, ...] | Unknown
    limit_ranges: tuple[JsonObject, ...] | Unknown
    nodes: tuple[JsonObject, ...] | Unknown
    used: Mapping[str, Mapping[str, Decimal]] | Unknown
    volumes: tuple[JsonObject, ...] | Unknown | None
    missing: tuple[Right, ...] | Unknown
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """All refusals at once, and what is worth knowing."""

    refusals: tuple[Refusal, ...]
    notes: tuple[Note, ...]

    def check(self) -> None:
        """Raise where anything refuses the run.

        Raises:
            UsageError: Names every refusal.
        """
        if not self.refusals:
            return
        first, *others = self.refusals
        if not others:
            raise UsageError(first.place, first.problem, first.remedy)
        listed = " ".join(f"({i}) {refusal}." for i, refusal in enumerate(self.refusals, 1))
        raise UsageError(
            f"preflight: {len(self.refusals)} things stand in the way", listed, "nothing was made"
        )
