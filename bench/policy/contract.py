"""The platform contract: which storage classes which kind of workload may use, until when.

Made from one or many approval documents. The newest decision on a cell counts, whatever it
says, so a later refusal takes an approval back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from bench.policy.document import APPROVED, Approval, Cell
from bench.policy.occasions import instant

__all__ = ["ClassRow", "contract", "enforceable"]


@dataclass(frozen=True, slots=True)
class ClassRow:
    """A storage class for a kind of workload.

    Attributes:
        workload: Name of the workload.
        access_pattern: How it reads.
        storage_class: Kubernetes storage class.
        scales: What it is approved for: "8 x h100 (emulated)".
        state: `mixed` when some other cell of the same workload and class is not approved.
        valid_until: UTC, ISO 8601; the earliest of its cells.
        approvals: Ids of the approval documents.
    """

    workload: str
    access_pattern: str | None
    storage_class: str
    scales: tuple[str, ...]
    state: Literal["approved", "provisional", "mixed"]
    valid_until: str
    approvals: tuple[str, ...]


def contract(approvals: Sequence[Approval]) -> list[ClassRow]:
    """Return the contract that these documents make together, sorted by workload and class."""
    newest: dict[tuple[object, ...], tuple[Approval, Cell]] = {}
    for approval in sorted(approvals, key=lambda a: (a.created_at, a.id)):
        for cell in approval.cells:
            if cell.storage_class is not None:
                newest[_key(cell)] = (approval, cell)
    pairs: dict[tuple[str, str], list[tuple[Approval, Cell]]] = {}
    for approval, cell in newest.values():
        pairs.setdefault((cell.workload, str(cell.storage_class)), []).append((approval, cell))
    rows = [_row(found) for _, found in sorted(pairs.items())]
    return [row for row in rows if row is not None]


def enforceable(
    rows: Sequence[ClassRow], *, now: datetime | None, provisional: bool
) -> dict[str, dict[str, str]]:
    """Return what an admission policy may allow: workload -> storage class -> end of validity.

    Args:
        rows: The contract.
        now: UTC; what has ended by then is left out. None leaves nothing out.
        provisional: Whether provisional approvals are good enough. `mixed` never is, since
            admission cannot see for which accelerator a claim is made.
    """
    states = ("approved", "provisional") if provisional else ("approved",)
    allowed: dict[str, dict[str, str]] = {}
    for row in rows:
        ends = instant(row.valid_until, place=f"approval of {row.storage_class}")
        if row.state in states and (now is None or ends > now):
            text = ends.strftime("%Y-%m-%dT%H:%M:%SZ")
            allowed.setdefault(row.workload, {})[row.storage_class] = text
    return allowed


def _key(cell: Cell) -> tuple[object, ...]:
    scale = (cell.scale.nodes, cell.scale.gpus_per_node) if cell.scale else None
    return (cell.workload, cell.storage_class, cell.target, cell.accelerator, scale)


def _row(found: Sequence[tuple[Approval, Cell]]) -> ClassRow | None:
    good = [(approval, cell) for approval, cell in found if cell.verdict in APPROVED]
    if not good:
        return None
    state: Literal["approved", "provisional", "mixed"] = "approved"
    if len(good) < len(found):
        state = "mixed"
    elif any(cell.verdict == "provisional" for _, cell in good):
        state = "provisional"
    first = good[0][1]
    return ClassRow(
        workload=first.workload,
        access_pattern=first.access_pattern,
        storage_class=str(first.storage_class),
        scales=tuple(sorted({_scale(cell) for _, cell in good})),
        state=state,
        valid_until=min(str(cell.valid_until) for _, cell in good),
        approvals=tuple(sorted({approval.id for approval, _ in good})),
    )


def _scale(cell: Cell) -> str:
    count = f"{cell.scale.nodes} x {cell.scale.gpus_per_node} x " if cell.scale else ""
    return f"{count}{cell.accelerator} ({cell.device})"
