"""A comparison for programs: CSV for spreadsheets, JUnit XML for CI systems."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from bench.analysis.comparison.document import Compared, Comparison, MetricComparison
from bench.report.comparison_rows import cell_rows

__all__ = ["COLUMNS", "comparison_csv", "comparison_junit"]

COLUMNS = (
    *("workload", "storage_baseline", "storage_candidate", "accelerator", "nodes"),
    *("gpus_per_node", "state", "verdict", "metric", "unit", "deciding", "metric_verdict"),
    *("baseline", "baseline_low", "baseline_high", "baseline_n"),
    *("candidate", "candidate_low", "candidate_high", "candidate_n"),
    *("scale", "effect", "effect_low", "effect_high", "margin", "method"),
    *("p_worse", "p_worse_holm", "p_better", "p_better_holm"),
    *("detectable", "repeats_needed", "reason"),
)
"""Figures in base units, ratios 0 to 1; empty where there is none."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Spreadsheets run text that begins so."""


def comparison_csv(comparison: Comparison) -> str:
    """Return one row a figure and cell; a cell without figures has one row that says why."""
    sink = io.StringIO()
    writer = csv.DictWriter(sink, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for cell in comparison.cells:
        head = _head(cell)
        reason = "; ".join(note.text for note in cell.reasons)
        if not cell.metrics:
            writer.writerow(_plain(head | {"reason": reason}))
        for metric in cell.metrics:
            writer.writerow(_plain(head | _figures(metric)))
    return sink.getvalue()


def _head(cell: Compared) -> dict[str, object]:
    return {
        "workload": cell.key.workload,
        "storage_baseline": cell.baseline.storage if cell.baseline else None,
        "storage_candidate": cell.candidate.storage if cell.candidate else None,
        "accelerator": cell.key.accelerator,
        "nodes": cell.key.nodes,
        "gpus_per_node": cell.key.gpus_per_node,
        "state": cell.state,
        "verdict": cell.verdict,
    }


def _figures(metric: MetricComparison) -> dict[str, object]:
    sides = {"baseline": metric.baseline, "candidate": metric.candidate}
    found: dict[str, object] = {
        "metric": metric.name,
        "metric_verdict": metric.verdict,
        "effect_low": metric.low,
        "effect_high": metric.high,
    }
    for name, side in sides.items():
        found |= {name: side.estimate, f"{name}_low": side.low, f"{name}_high": side.high}
        found |= {f"{name}_n": side.n}
    same = ("unit", "deciding", "scale", "effect", "margin", "method", "reason")
    found |= {name: getattr(metric, name) for name in same}
    return found | {name: getattr(metric, name) for name in COLUMNS[-7:-1]}


def _plain(row: dict[str, object]) -> dict[str, object]:
    return {name: _safe(row.get(name)) for name in COLUMNS}


def _safe(value: object) -> object:
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return value


def comparison_junit(comparison: Comparison) -> str:
    """Return one test case a cell: regressed fails, refused and invalid are errors.

    What could not be told is skipped, with the reason, and never a success.
    """
    cases = [*map(_case, comparison.cells)]
    verdicts = [cell.verdict for cell in comparison.cells]
    counts = {
        "tests": len(cases),
        "failures": verdicts.count("regressed"),
        "errors": sum(verdict in ("refused", "invalid") for verdict in verdicts),
        "skipped": verdicts.count("inconclusive"),
    }
    shown = " ".join(f'{name}="{count}"' for name, count in counts.items())
    name = quoteattr(_xml(f"{comparison.candidate.given} against {comparison.baseline.given}"))
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites name="bench compare" {shown}>',
        f'<testsuite name={name} timestamp="{comparison.created_at[:19]}" {shown}>',
        *cases,
        "</testsuite>",
        "</testsuites>",
    ]
    return "\n".join(lines) + "\n"


def _case(cell: Compared) -> str:
    head = (
        f"<testcase classname={quoteattr(_xml(f'bench.{cell.key.workload}'))} "
        f'name={quoteattr(_xml(cell.label))} time="0">'
    )
    words = [*_details(cell)]
    body = escape(_xml("\n".join(words)))
    first = next((note.text for note in cell.reasons), words[0] if words else cell.verdict)
    message = quoteattr(_xml(first))
    inner = f"<system-out>{body}</system-out>"
    if cell.verdict == "regressed":
        inner = f'<failure type="regressed" message={message}>{body}</failure>'
    elif cell.verdict in ("refused", "invalid"):
        inner = f'<error type="{cell.verdict}" message={message}>{body}</error>'
    elif cell.verdict == "inconclusive":
        inner = f"<skipped message={message}/>{inner}"
    return f"{head}\n{inner}\n</testcase>"


def _details(cell: Compared) -> Iterator[str]:
    for row in sorted(cell_rows(cell, deciding=True), key=lambda row: row.verdict != cell.verdict):
        yield (
            f"{row.metric} {row.verdict}: {row.baseline}, now {row.candidate}, {row.change} "
            f"(90 %: {row.interval}, n = {row.n}, p = {row.p}, Holm {row.p_holm}, "
            f"could see {row.detectable})"
        )
    for note in (*cell.reasons, *cell.notes):
        yield note.text


def _xml(words: str) -> str:
    """Leave out what XML 1.0 cannot hold, escaped or not."""
    return "".join(c for c in words if c.isprintable() or c == "\n")
