"""A history in every format: page with charts, Markdown, CSV that Otava reads, JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.analysis.comparison.words import METRIC_LABELS, shown_value
from bench.analysis.history import Change, EnvironmentChange, History, Series
from bench.analysis.wording import percent, rate
from bench.policy.markdown import safe

__all__ = ["FORMATS", "ChangeRow", "change_rows", "environment_words", "render", "shown"]

MAX_DRAWN = 40
MIN_DRAWN = 3
"""Runs of which a chart says more than the table."""
MAX_DIFFERENCES = 6


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One change of level in words."""

    label: str
    metric: str
    since: str
    run: str
    before: str
    after: str
    change: str
    num_since: int
    is_worse: bool
    environment: tuple[str, ...]


def shown(series: Series, value: float) -> str:
    """Return a value of a series in its unit."""
    return rate(value) if series.unit == "bytes_per_second" else percent(value)


def change_rows(history: History) -> Iterator[ChangeRow]:
    """Yield every change of level, by series, the latest first."""
    for series in history.series:
        for change in reversed(series.changes):
            yield _row(series, change)


def _row(series: Series, change: Change) -> ChangeRow:
    is_ratio = series.unit == "bytes_per_second"
    words = f"{100 * change.effect:+.1f} %" if is_ratio else f"{100 * change.effect:+.2f} points"
    return ChangeRow(
        label=series.label,
        metric=METRIC_LABELS[series.metric],
        since=change.created_at[:16].replace("T", " "),
        run=change.run,
        before=shown(series, change.before),
        after=shown(series, change.after),
        change=words,
        num_since=len(series.points) - change.index,
        is_worse=change.is_worse,
        environment=tuple(
            words
            for one in change.environment
            for words in environment_words(one, relative_to=change.index)
        ),
    )


def environment_words(change: EnvironmentChange, *, relative_to: int | None = None) -> list[str]:
    """Return what changed at a run, a line each.

    Args:
        change: Of the environment.
        relative_to: Point that it stands beside.
    """
    where = ""
    if relative_to is not None and change.index != relative_to:
        gap = change.index - relative_to
        where = f"{abs(gap)} run{'s' if abs(gap) > 1 else ''} {'later' if gap > 0 else 'earlier'}, "
    lines = [
        f"{where}{one.path}: {shown_value(one.baseline)}, now {shown_value(one.candidate)}"
        for one in change.differences[:MAX_DIFFERENCES]
    ]
    more = len(change.differences) - MAX_DIFFERENCES
    return [*lines, f"{where}and {more} more"] if more > 0 else lines


def _json(history: History) -> str:
    content = history.model_dump(mode="json")
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _csv(history: History) -> str:
    """Return a row a run and a column a series: time, run, commit, figures in base units."""
    names = [_column(series, history.series) for series in history.series]
    rows: dict[str, dict[str, object]] = {}
    for name, series in zip(names, history.series, strict=True):
        for point in series.points:
            row = rows.setdefault(
                point.run, {"time": point.created_at, "run": point.run, "commit": point.commit}
            )
            row[name] = repr(point.estimate.estimate)
    sink = io.StringIO()
    writer = csv.DictWriter(sink, ["time", "run", "commit", *names], lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows.values(), key=lambda row: (str(row["time"]), str(row["run"]))))
    return sink.getvalue()


def _column(series: Series, others: Sequence[Series]) -> str:
    """Return the name of a series: letters, digits and dots, unlike any other."""
    key = series.key
    words = f"{key.workload}.{key.storage}.{key.accelerator}.{key.nodes}x{key.gpus_per_node}"
    plain = "".join(c if c.isalnum() or c in ".-" else "_" for c in words)
    same = [
        one
        for one in others
        if one.metric == series.metric
        and (one.key.workload, one.key.storage, one.key.accelerator, one.key.nodes)
        == (key.workload, key.storage, key.accelerator, key.nodes)
        and one.key.gpus_per_node == key.gpus_per_node
    ]
    number = "" if len(same) == 1 else f".{next(i for i, s in enumerate(same) if s is series) + 1}"
    return f"{plain}{number}.{series.metric}"


def _markdown(history: History) -> str:
    lines = [f"### History of {safe(history.given)}", "", f"{safe(history.sentence)}.", ""]
    rows = [*change_rows(history)]
    if rows:
        lines += ["| cell | figure | since | before | after | change | runs since | around it |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
    lines += [
        f"| {safe(row.label)} | {row.metric} | {row.since} | {row.before} | {row.after} "
        f"| {'🔴' if row.is_worse else '🟢'} {row.change} | {row.num_since} "
        f"| {'<br>'.join(safe(words) for words in row.environment) or 'nothing recorded'} |"
        for row in rows
    ]
    lines += ["", *(f"- left out: {safe(note.text)}" for note in history.left_out)]
    return "\n".join(lines).rstrip() + "\n"


def _html(history: History) -> str:
    from bench.report.comparison_page import environment

    cells: dict[str, list[Series]] = {}
    for series in history.series:
        cells.setdefault(series.label, []).append(series)
    drawn = [
        (label, some, _drawing(some, number)) for number, (label, some) in enumerate(cells.items())
    ]
    template = environment().get_template("history.html.j2")
    return template.render(
        history=history, cells=drawn, rows=[*change_rows(history)], shown=shown, most=MAX_DRAWN
    )


def _drawing(series: Sequence[Series], number: int) -> str:
    from bench.report.history_chart import series_chart

    if number >= MAX_DRAWN or len(series[0].points) < MIN_DRAWN:
        return ""
    return series_chart(series, name=f"cell{number}")


FORMATS: Mapping[str, Callable[[History], str]] = {
    ".json": _json,
    ".md": _markdown,
    ".html": _html,
    ".csv": _csv,
}
"""By the end of a file's name."""


def render(history: History, suffix: str) -> str:
    """Return a history as the text of a file.

    Args:
        history: The document.
        suffix: One of FORMATS.
    """
    return FORMATS[suffix](history)
