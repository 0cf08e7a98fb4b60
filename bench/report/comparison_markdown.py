"""A comparison as Markdown, for a pull request: the finding first, all else folded away."""

from __future__ import annotations

from collections.abc import Iterator

from bench.analysis.comparison.document import Compared, Comparison
from bench.policy.markdown import safe
from bench.report.comparison_rows import (
    Row,
    banners,
    cell_rows,
    facts,
    meant_differences,
    rules,
    shared_notes,
)

__all__ = ["comparison_markdown"]

MARKS = {
    "regressed": "🔴 regressed",
    "refused": "⛔ refused",
    "invalid": "⛔ invalid",
    "inconclusive": "🟡 inconclusive",
    "improved": "🟢 improved",
    "equivalent": "🟢 equivalent",
}
HEAD = (
    *("", "cell", "figure", "baseline", "candidate", "change (90 % interval)"),
    *("n", "p", "p, Holm", "could see"),
)
MAX_ROWS = 200
"""A comment has a size limit; the JSON and HTML files hold all cells."""


def comparison_markdown(comparison: Comparison) -> str:
    """Return a comparison as GitHub and GitLab render it."""
    verdict, _, finding = comparison.overall.sentence.partition(": ")
    mark = MARKS[comparison.overall.verdict].partition(" ")[0]
    lines = [f"### {mark} {safe(verdict).capitalize()}: {safe(finding)}", ""]
    for banner in banners(comparison):
        lines += [f"> **{safe(banner)}**", ""]
    lines += _table(comparison)
    lines += _remarks(comparison)
    lines += ["<details><summary>What was compared, and how</summary>", ""]
    lines += [f"- **{name}**: {safe(words)}" for name, words in facts(comparison)]
    lines += [
        f"- **differs** ({name}): `{_code(path)}`: {safe(one)}, now {safe(other)}"
        for name, path, one, other in meant_differences(comparison)
    ]
    lines += ["", safe(rules(comparison)), ""]
    informing = [*_informing(comparison)]
    if informing:
        lines += ["| cell | figure | baseline | candidate | change | 90 % interval |"]
        lines += ["|---|---|---|---|---|---|", *informing, ""]
    lines += ["</details>", ""]
    return "\n".join(lines)


def _table(comparison: Comparison) -> list[str]:
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    rows = [line for cell in comparison.cells for line in _cell(cell)]
    lines += rows[:MAX_ROWS]
    if len(rows) > MAX_ROWS:
        lines += ["", f"{len(rows) - MAX_ROWS} more rows are in the other files."]
    return [*lines, ""]


def _cell(cell: Compared) -> Iterator[str]:
    label = safe(cell.label)
    rows = [*cell_rows(cell, deciding=True)]
    if not rows:
        word = MARKS[cell.verdict] if cell.state == cell.verdict else f"🟡 {cell.state}"
        yield f"| {word} | {label} | | | | | | | | |"
    for position, row in enumerate(rows):
        mark = MARKS[cell.verdict] if position == 0 else ""
        yield f"| {mark} | {label if position == 0 else ''} | {_words(row)} |"


def _words(row: Row) -> str:
    change = row.change if row.interval == "none" else f"{row.change} ({row.interval})"
    strong = f"**{change}**" if row.verdict in ("regressed", "improved") else change
    words = (row.metric, row.baseline, row.candidate, strong, row.n)
    return " | ".join((*words, *(safe(w) for w in (row.p, row.p_holm, row.detectable))))


def _remarks(comparison: Comparison) -> list[str]:
    """Return reasons by cell, then notes; one that several cells share stands once."""
    lines = [
        f"- **{safe(cell.label)}**: {safe(note.text)}"
        for cell in comparison.cells
        for note in cell.reasons
    ]
    lines += [
        f"- {safe(words)}" + (f" ({where})" if where else "")
        for words, where in shared_notes(comparison)
    ]
    return [*lines, ""] if lines else []


def _informing(comparison: Comparison) -> Iterator[str]:
    for cell in comparison.cells[:MAX_ROWS]:
        for row in cell_rows(cell, deciding=False):
            words = (row.metric, row.baseline, row.candidate, row.change, row.interval)
            yield f"| {safe(cell.label)} | {' | '.join(words)} |"


def _code(words: str) -> str:
    return "".join(c for c in words if c.isprintable() and c not in "`|<>")
