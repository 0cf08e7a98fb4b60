"""A comparison as rows of words: what terminal, Markdown, HTML and CSV share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from bench.analysis.comparison.document import ACROSS, Compared, Comparison, MetricComparison
from bench.analysis.comparison.words import (
    METRIC_LABELS,
    shown_count,
    shown_detectable,
    shown_effect,
    shown_estimate,
    shown_interval,
    shown_p,
    shown_value,
)

__all__ = ["Row", "banners", "cell_rows", "facts", "meant_differences", "rules", "shared_notes"]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of one cell in words."""

    metric: str
    baseline: str
    candidate: str
    change: str
    interval: str
    n: str
    p: str
    p_holm: str
    detectable: str
    verdict: str


def cell_rows(cell: Compared, *, deciding: bool | None = None) -> Iterator[Row]:
    """Yield the rows of a cell.

    Args:
        cell: Of a comparison.
        deciding: Only figures that decide, or only those that inform; None for all.
    """
    for metric in cell.metrics:
        if deciding is None or metric.deciding == deciding:
            yield _row(metric)


def _row(metric: MetricComparison) -> Row:
    # p of the direction seen: the other one says nothing that this does not.
    worse = (metric.effect < 0) == metric.lower_is_worse
    raw, adjusted = (
        (metric.p_worse, metric.p_worse_holm) if worse else (metric.p_better, metric.p_better_holm)
    )
    return Row(
        metric=METRIC_LABELS.get(metric.name, metric.name),
        baseline=shown_estimate(metric, metric.baseline.estimate),
        candidate=shown_estimate(metric, metric.candidate.estimate),
        change=shown_effect(metric),
        interval=shown_interval(metric),
        n=shown_count(metric),
        p=shown_p(raw) if metric.deciding else "",
        p_holm=shown_p(adjusted) if metric.deciding else "",
        detectable=shown_detectable(metric) if metric.deciding else "",
        verdict=metric.verdict or "",
    )


def facts(comparison: Comparison) -> list[tuple[str, str]]:
    """Return what is compared with what: name and words."""
    return [
        ("baseline", _side(comparison, "baseline")),
        ("candidate", _side(comparison, "candidate")),
        (
            "across",
            "; ".join(f"{name}: {ACROSS[name]}" for name in comparison.parameters.across)
            or "nothing: both sides are of the same cell",
        ),
    ]


def rules(comparison: Comparison) -> str:
    """Return the rule of the verdicts in a sentence or two."""
    given = comparison.parameters
    margins = f"{100 * given.margins.throughput_ratio:g} % of throughput"
    stall = f"{100 * given.margins.stall_ratio:g} points of stall"
    what = (
        "a change counts when its whole interval lies beyond the margin"
        if given.rule == "approval"
        else "a change counts when it is significant and its estimate lies beyond the margin"
    )
    return (
        f"Rule {given.rule}: {what} ({margins}, {stall}). One-sided alpha {given.alpha:g}, Holm "
        f"over the cells; intervals are two-sided "
        f"{100 * given.confidence:g} %; n counts repeats, at least {given.min_repeats} a side."
    )


def banners(comparison: Comparison) -> list[str]:
    """Return the remarks that nobody must miss."""
    found = []
    if comparison.parameters.allow_mismatch:
        paths = sorted(
            {
                difference.path
                for cell in comparison.cells
                for difference in cell.differences
                if difference.across is None
            }
        )
        what = f": the sides differ in {', '.join(paths)}" if paths else ""
        found.append(f"Mismatch allowed by hand{what}. A change may come from that.")
    sides = [s for cell in comparison.cells for s in (cell.baseline, cell.candidate) if s]
    if any("exploratory" in side.division for side in sides):
        found.append("Exploratory: not measured on the workload as it is declared.")
    return found


def meant_differences(comparison: Comparison) -> list[tuple[str, str, str, str]]:
    """Return what differs as it is meant to: across, path, before, now; each once."""
    found = {
        (d.across, d.path, shown_value(d.baseline), shown_value(d.candidate))
        for cell in comparison.cells
        for d in cell.differences
        if d.across is not None
    }
    return sorted((str(name), path, one, other) for name, path, one, other in found)


def shared_notes(comparison: Comparison) -> list[tuple[str, str]]:
    """Return the notes, each once: words, and of how many cells where it is not of all."""
    counts = Counter(note.text for cell in comparison.cells for note in cell.notes)
    whole = sum(cell.state not in ("missing", "extra") for cell in comparison.cells)
    return [
        (words, "" if count == whole else f"{count} of {whole} cells")
        for words, count in counts.items()
    ]


def _side(comparison: Comparison, which: str) -> str:
    side = comparison.baseline if which == "baseline" else comparison.candidate
    count = len(side.runs)
    kind = "baseline " if side.baseline is not None else ""
    dates = sorted(run.created_at[:10] for run in side.runs)
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    return f"{kind}{side.given}, {count} run{'s' if count != 1 else ''} of {when}"
