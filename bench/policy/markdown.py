"""An approval document as Markdown: the same content for people, nothing computed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bench.analysis.wording import duration, percent, rate
from bench.policy.contract import ClassRow
from bench.policy.document import APPROVED, Approval, Cell, Criterion, Note

__all__ = ["contract_markdown", "markdown", "safe"]

MAX_UNUSED = 10

SPECIAL = re.compile(r"([\\`*{}\[\]<>|#~&]|(?<!\w)_|_(?!\w))")

SHOW = {
    "stall_ratio": percent,
    "throughput_bytes_per_second": rate,
    "time_to_first_batch_seconds": duration,
}

WORDS = {
    "approved": "APPROVED",
    "provisional": "APPROVED, PROVISIONALLY",
    "not met": "NOT APPROVED: requirement not met",
    "inconclusive": "NOT APPROVED: undecided",
    "refused": "NOT APPROVED: the runs cannot carry a decision",
    "invalid": "NOT APPROVED: invalid measurement",
    "not measured": "NOT APPROVED: not measured",
}


def safe(text: object) -> str:
    """Return text that Markdown shows as it is: one line, no markup, no control characters."""
    line = " ".join(str(text).split())
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
    return SPECIAL.sub(r"\\\1", line)


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return a table; cells are made safe, None is "not measured" and never blank."""
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for row in rows:
        cells = ["not measured" if cell is None or cell == "" else safe(cell) for cell in row]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _notes(title: str, notes: Sequence[Note]) -> list[str]:
    if not notes:
        return []
    return [f"**{title}**", "", *(f"- {safe(note.text)}" for note in notes), ""]


def _criterion(criterion: Criterion) -> list[object]:
    show = SHOW[criterion.metric]
    interval = "no interval"
    if criterion.low is not None and criterion.high is not None:
        interval = f"{show(criterion.low)} to {show(criterion.high)}"
    measured = None if criterion.estimate is None else show(criterion.estimate)
    return [
        criterion.name,
        f"{criterion.direction} {show(criterion.limit)}",
        measured,
        interval if measured is not None else None,
        criterion.n,
        criterion.verdict,
        criterion.detail,
    ]


def _cell(cell: Cell) -> list[str]:
    name = cell.storage_class or cell.target
    lines = [f"## {safe(cell.workload)} on {safe(name)}: {WORDS[cell.verdict]}", ""]
    lines += [f"{safe(cell.sentence)}.", ""]
    lines += _notes("Why it is not approved", cell.reasons)
    title = "Provisional, because" if cell.verdict in APPROVED else "Also against a full approval"
    lines += _notes(title, cell.provisional_because)
    lines += _notes("To know", cell.conditions)
    if cell.criteria:
        header = ["limit", "wanted", "measured", "90 % interval", "n", "verdict", "detail"]
        lines += _table(header, map(_criterion, cell.criteria))
    scale = f"{cell.scale.nodes} x {cell.scale.gpus_per_node}" if cell.scale else None
    pairs = [
        ("storage class", cell.storage_class or "none named by the runs"),
        ("target", f"{cell.target} ({cell.storage_kind})"),
        ("accelerator", f"{cell.accelerator} ({cell.device})"),
        ("nodes x accelerators", scale),
        ("access pattern", cell.access_pattern),
        ("measured on nodes", ", ".join(cell.nodes)),
        ("days", ", ".join(cell.days)),
        ("valid until", cell.valid_until or "not approved"),
        ("fingerprint", cell.fingerprint.get("hash")),
    ]
    lines += _table(["what", "value"], pairs)
    if cell.occasions:
        lines += _table(
            ["occasion", "from (UTC)", "to (UTC)", "repeats", "nodes"],
            [
                (number, o.start, o.end, o.num_repeats, ", ".join(o.nodes))
                for number, o in enumerate(cell.occasions, 1)
            ],
        )
        lines += _table(
            ["run", "made", "measured with", "image", "sha256 of run.json"],
            [
                (r.id, r.created_at, r.tool, r.image_digest or "no image", r.sha256)
                for r in cell.runs
            ],
        )
    return lines


def markdown(approval: Approval, *, contract: Sequence[ClassRow]) -> str:
    """Return the document for people.

    Args:
        approval: Sealed.
        contract: Its platform contract (`bench.policy.contract`).
    """
    approved = sum(cell.verdict in APPROVED for cell in approval.cells)
    lines = [f"# Storage approval: {safe(approval.requirements_name)}", ""]
    lines += [f"**{approved} of {len(approval.cells)} requirements hold.**", ""]
    lines += [f"- {safe(cell.sentence)}" for cell in approval.cells]
    lines += [""]
    lines += _table(
        ["what", "value"],
        [
            ("approved by", approval.approved_by),
            ("on (UTC)", approval.created_at),
            ("approval", approval.id),
            ("decided with", approval.tool),
            ("requirements, sha256", approval.requirements_sha256),
            ("this document, checksum", approval.checksum),
        ],
    )
    lines += contract_markdown(contract)
    if approval.cost is not None:
        lines += ["## What stall costs", ""]
        lines += [f"- {safe(text)}" for text in approval.cost["sentences"]]
        lines += [""]
    for cell in approval.cells:
        lines += _cell(cell)
    if approval.unused_runs:
        lines += ["## Runs that no requirement asks for", ""]
        shown = approval.unused_runs[:MAX_UNUSED]
        lines += [f"- {safe(note.code)}: {safe(note.text)}" for note in shown]
        more = len(approval.unused_runs) - len(shown)
        lines += [f"- and {more} more", ""] if more else [""]
    lines += ["## How it was decided", "", *(f"- {safe(rule)}" for rule in approval.rules), ""]
    return "\n".join(lines)


def contract_markdown(rows: Sequence[ClassRow]) -> list[str]:
    """Return the platform contract as lines: which class for which workload, until when."""
    lines = ["## Platform contract", ""]
    if not rows:
        return [*lines, "No storage class is approved for any workload.", ""]
    return lines + _table(
        ["workload", "access", "storage class", "approved for", "state", "until (UTC)", "approval"],
        [
            (
                row.workload,
                row.access_pattern,
                row.storage_class,
                ", ".join(row.scales),
                row.state,
                row.valid_until,
                ", ".join(row.approvals),
            )
            for row in rows
        ],
    )
