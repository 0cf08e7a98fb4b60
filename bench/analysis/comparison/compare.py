"""Candidate against baseline: every cell a row, every verdict with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from bench.analysis.comparison.cells import CellPair, differences_of, group, pair
from bench.analysis.comparison.document import (
    CellSide,
    Compared,
    Comparison,
    Difference,
    MetricComparison,
    Note,
    Overall,
    Parameters,
    RunReference,
    Side,
    Verdict,
)
from bench.analysis.comparison.metrics import compare_metrics
from bench.analysis.comparison.sides import (
    Measured,
    in_turns,
    invalid_because,
    measured,
    unlike_inside,
)
from bench.analysis.comparison.words import overall_sentence, shown_value
from bench.results.gather import Gathered
from bench.results.schema import Tool

__all__ = ["ORDER", "compare"]

ORDER: tuple[Verdict, ...] = (
    *("regressed", "refused", "invalid"),
    *("inconclusive", "improved", "equivalent"),
)
"""Worst first: the verdict over several cells is the first that any of them has."""

DEFERRED = {
    "cells[].limiter": "ceilings are not compared in this version",
}
MAX_DIFFERENCES = 4


def compare(
    baseline: Gathered,
    candidate: Gathered,
    *,
    parameters: Parameters,
    tool: Tool,
    created_at: datetime,
) -> Comparison:
    """Return the comparison of two sides.

    The same runs and parameters give the same document, but for `tool` and `created_at`.

    Args:
        baseline: What to compare with.
        candidate: What is judged.
        parameters: Rule, margins, what is meant to differ.
        tool: What compares.
        created_at: UTC.
    """
    across = parameters.across
    pairs_of_cells = pair(group(baseline.runs, across=across), group(candidate.runs, across=across))
    cells = [_looked_at(one, parameters) for one in pairs_of_cells]
    testable = [
        (index, one, other)
        for index, (cell, one, other) in enumerate(cells)
        if cell.state == "compared" and one is not None and other is not None
    ]
    metrics = compare_metrics([(one, other) for _, one, other in testable], parameters)
    found = [cell for cell, _, _ in cells]
    for (index, _, _), compared in zip(testable, metrics, strict=True):
        found[index] = _judged(found[index], compared)
    found.sort(key=lambda cell: ORDER.index(cell.verdict))
    counts = Counter(cell.verdict for cell in found)
    verdict = next(word for word in ORDER if counts[word])
    return Comparison(
        created_at=created_at.astimezone(UTC).isoformat(timespec="seconds"),
        tool=tool,
        parameters=parameters,
        baseline=_side(baseline),
        candidate=_side(candidate),
        cells=found,  # worst first, then by key
        overall=Overall(
            verdict=verdict,
            counts={word: counts[word] for word in ORDER if counts[word]},
            sentence=overall_sentence(found, verdict),
        ),
        not_measured=dict(DEFERRED),
    )


def _side(side: Gathered) -> Side:
    return Side(
        given=side.given,
        baseline=side.baseline.name if side.baseline is not None else None,
        runs=[
            RunReference(
                id=found.run.id,
                sha256=found.sha256,
                place=found.inside,
                created_at=found.run.created_at,
            )
            for found in side.runs
        ],
    )


Looked = tuple[Compared, Measured | None, Measured | None]


def _looked_at(one: CellPair, parameters: Parameters) -> Looked:
    """Return a cell with all but its figures, and its two sides."""
    if one.baseline is None or one.candidate is None:
        return _lonely(one)
    sides = (measured(one.baseline), measured(one.candidate))
    unlike = differences_of(
        one.baseline.runs[0].run.fingerprint,
        one.candidate.runs[0].run.fingerprint,
        across=parameters.across,
    )
    refused = list(_refused(one, unlike))
    strict = parameters.rule == "approval"
    invalid = [
        note
        for who, cell in (("baseline", one.baseline), ("candidate", one.candidate))
        for note in invalid_because(cell, who=who, strict=strict)
    ]
    notes = list(_notes(one, sides, parameters))
    if parameters.allow_mismatch:
        kept = [note for note in refused if note.code == "same_run"]
        notes = [*(note for note in refused if note not in kept), *notes]
        refused = kept
    state = "refused" if refused else "invalid" if invalid else "compared"
    cell = Compared(
        key=one.key,
        state=state,
        verdict="inconclusive" if state == "compared" else state,
        baseline=sides[0].side,
        candidate=sides[1].side,
        reasons=refused + invalid,
        notes=notes,
        differences=unlike,
        metrics=[],
    )
    return cell, *sides


def _lonely(one: CellPair) -> Looked:
    present = one.baseline or one.candidate
    if present is None:
        raise ValueError("a cell of neither side")
    side: CellSide = measured(present).side
    missing = one.candidate is None
    other = "candidate" if missing else "baseline"
    cell = Compared(
        key=one.key,
        state="missing" if missing else "extra",
        verdict="inconclusive",
        baseline=side if missing else None,
        candidate=None if missing else side,
        reasons=[
            Note(
                code="missing" if missing else "extra",
                text=f"the {other} has no run of this cell, so nothing can be said of it",
            )
        ],
        notes=[],
        differences=[],
        metrics=[],
    )
    return cell, None, None


def _refused(one: CellPair, unlike: Sequence[Difference]) -> Iterator[Note]:
    if one.baseline is None or one.candidate is None:
        return
    ours = {found.run.id for found in one.baseline.runs}
    both = [found.run.id for found in one.candidate.runs if found.run.id in ours]
    if both:
        yield Note(code="same_run", text=f"run {both[0]} stands on both sides")
    first = (one.baseline.runs[0].run, one.candidate.runs[0].run)
    if not all(run.fingerprint.get("hash") for run in first):
        yield Note(
            code="no_fingerprint", text="a run has no fingerprint: what it ran on is not recorded"
        )
    if first[0].division != first[1].division:
        yield Note(
            code="division",
            text=f"the baseline is {first[0].division} and the candidate {first[1].division}",
        )
    for who, cell in (("baseline", one.baseline), ("candidate", one.candidate)):
        yield from unlike_inside(cell, who=who)
    caches = [_caches(measured(cell)) for cell in (one.baseline, one.candidate)]
    if all(caches) and caches[0] != caches[1]:
        yield Note(
            code="cache",
            text=f"the baseline read {' and '.join(sorted(caches[0]))}, the candidate "
            f"{' and '.join(sorted(caches[1]))}",
        )
    mismatches = [found for found in unlike if found.across is None]
    if mismatches:
        shown = ", ".join(
            f"{found.path} ({shown_value(found.baseline)}, now {shown_value(found.candidate)})"
            for found in mismatches[:MAX_DIFFERENCES]
        )
        more = len(mismatches) - MAX_DIFFERENCES
        yield Note(
            code="mismatch",
            text=f"not the same cell: {shown}" + (f" and {more} more" if more > 0 else ""),
        )


def _caches(side: Measured) -> set[str]:
    return {repeat.cache.verdict for repeat in side.repeats if repeat.cache is not None}


def _notes(
    one: CellPair, sides: tuple[Measured, Measured], parameters: Parameters
) -> Iterator[Note]:
    for who, cell, side in zip(
        ("baseline", "candidate"), (one.baseline, one.candidate), sides, strict=True
    ):
        if cell is None:
            continue
        dropped = side.side.num_repeats - side.side.n
        if dropped and side.side.n:
            states = Counter(
                repeat.status
                for found in cell.runs
                for repeat in found.run.repeats
                if repeat.status != "ok"
            )
            shown = ", ".join(f"{count} {status}" for status, count in states.items())
            text = f"{who}: {dropped} of {side.side.num_repeats} repeats do not count ({shown})"
            yield Note(code="dropped", text=text)
        if not all(found.has_samples for found in cell.runs):
            lost = [found.run.id for found in cell.runs if not found.has_samples]
            which = "every run" if len(lost) == len(cell.runs) else f"{len(lost)} of the runs"
            yield Note(
                code="no_samples",
                text=f"{who}: the samples (steps/*.parquet) of {which} are not all beside the "
                "document, so figures of repeats cannot be worked out anew",
            )
        if any(_status(repeat, "short") in ("warn", "fail") for repeat in side.repeats):
            yield Note(code="short", text=f"{who}: a measured phase is short of what it should be")
    if {"exploratory"} & {side.side.division for side in sides}:
        yield Note(code="exploratory", text="exploratory: not the workload as it is declared")
    worst = {word for side in sides for word in _caches(side)} & {"warm", "unknown"}
    if worst:
        words = {"warm": "data came from a cache", "unknown": "whether from a cache is unknown"}
        yield Note(code="cache", text="; ".join(words[word] for word in sorted(worst)))
    if not in_turns(*sides) and all(side.side.n > 1 for side in sides):
        yield Note(
            code="not_in_turns",
            text="not measured in turns: a drift between the two would look like a change",
        )
    for name in parameters.across:
        if one.baseline is not None and one.candidate is not None:
            unlike = differences_of(
                one.baseline.runs[0].run.fingerprint,
                one.candidate.runs[0].run.fingerprint,
                across=[name],
            )
            if not any(found.across == name for found in unlike):
                yield Note(code="same", text=f"nothing differs in {name}, across which it compares")


def _status(repeat: object, guard: str) -> str:
    guards = getattr(repeat, "guards", ())
    return next((one.status for one in guards if one.name == guard), "not measured")


def _judged(cell: Compared, metrics: Sequence[MetricComparison]) -> Compared:
    """Return a compared cell with its figures and the worst of their verdicts."""
    deciding = [metric for metric in metrics if metric.deciding and metric.verdict is not None]
    if not deciding:
        note = Note(code="nothing_measured", text="the two sides have no figure in common")
        return cell.model_copy(update={"state": "invalid", "verdict": "invalid", "reasons": [note]})
    verdict = next(word for word in ORDER if any(m.verdict == word for m in deciding))
    reasons = [
        Note(code="undecided", text=f"{metric.name.partition('_')[0]}: {metric.reason}")
        for metric in deciding
        if metric.reason
    ]
    if verdict != "inconclusive":
        reasons = []
    return cell.model_copy(
        update={"verdict": verdict, "reasons": reasons, "metrics": list(metrics)}
    )
