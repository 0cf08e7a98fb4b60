"""The closing summary of a run, on a terminal or in a log."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.analysis.causes import CAUSE_LABELS, cause_seconds
from bench.analysis.facts import (
    accelerator_label,
    cache_label,
    guard_overview,
    name_of,
    step_seconds,
)
from bench.analysis.intervals import counted, required_rate
from bench.analysis.wording import (
    duration,
    interval_percent,
    interval_rate,
    memory_bytes,
    percent,
    rate,
    significant,
)
from bench.cli.live import LiveLine, Progress
from bench.cli.terminal import clean, text
from bench.results.schema import Repeat, Run

__all__ = ["LiveLine", "Progress", "summary"]

MAX_CAUSES = 4
MIN_CAUSE_SHARE = 0.005
MAX_RATES = 8
"""Throughputs of single repeats on the line; further ones are counted."""


def summary(run: Run, *, console: Console, document: str = "", report: str = "") -> None:
    """Print a dozen lines on a run, the last one its plain sentence.

    Args:
        run: The run as stored.
        console: Where to; stderr for `bench run`.
        document: Path of the stored document; empty where it was not stored.
        report: Path of the page.
    """
    head = Text.assemble(
        (clean(name_of(run.workload)), "bold"),
        " on ",
        (clean(name_of(run.storage)), "bold"),
        f", accelerator {clean(accelerator_label(run))}, ",
        (run.division, "" if run.division == "certified" else "yellow"),
    )
    console.print(head, highlight=False)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in _lines(run):
        grid.add_row(f"  {label:<11}", value)
    console.print(grid, highlight=False)
    for label, path in (("report", report), ("document", document)):
        if path:  # left to the terminal to wrap, so that it can be copied
            console.print(Text(f"  {label:<11}  ", "dim") + text(path), soft_wrap=True)
    console.print(text(run.sentence, style="bold"), highlight=False)


def _lines(run: Run) -> list[tuple[str, Text]]:
    used = counted(run.repeats)
    lines = [("repeats", _repeats(run))]
    found = run.summary.get("throughput_bytes_per_second")
    if found is not None:
        lines.append(("throughput", text(interval_rate(found) + _single_rates(used))))
        need = [required_rate(r, step_seconds=step_seconds(run)) for r in used]
        if need and need[0] is not None:
            lines.append(("needed", text(f"{rate(need[0])} for an accelerator that never waits")))
    stall = run.summary.get("stall_ratio")
    steady = run.summary.get("steady_stall_ratio")
    if stall is not None and steady is not None:
        once = f"; without the first batch {percent(steady.estimate)}"
        lines.append(("stall", text(interval_percent(stall) + once)))
        first = run.summary["time_to_first_batch_seconds"].estimate
        lines.append(("first batch", text(f"after {duration(first)}")))
        lines.append(("causes", text(_causes(used))))
    lines.append(("cache", text(_cache(run.repeats))))
    host = _host(used)
    if host:
        lines.append(("host", text(host)))
    lines.append(("guards", _guards(run.repeats)))
    return lines


def _repeats(run: Run) -> Text:
    total, ok = len(run.repeats), len(counted(run.repeats))
    if not total:
        return text(f"none; run {run.status}", style="yellow")
    if ok == total and run.status == "ok":
        return text(f"{total}, all count")
    states: dict[str, int] = {}
    for repeat in run.repeats:
        states[repeat.status] = states.get(repeat.status, 0) + 1
    shown = ", ".join(f"{count} {status}" for status, count in states.items())
    return text(f"{ok} of {total} count ({shown}); run {run.status}", style="yellow")


def _single_rates(used: list[Repeat]) -> str:
    rates = [
        significant(r.throughput.bytes_per_second / 1e9) for r in used if r.throughput is not None
    ]
    if len(rates) < 2:
        return ""
    more = f" and {len(rates) - MAX_RATES} more" if len(rates) > MAX_RATES else ""
    return f"; repeats {', '.join(rates[:MAX_RATES])}{more}"


def _causes(used: list[Repeat]) -> str:
    seconds = cause_seconds(used)
    total = sum(seconds.values())
    if total <= 0:
        return "no stall"
    largest = sorted(seconds.items(), key=lambda item: -item[1])[:MAX_CAUSES]
    first, *others = [
        f"{CAUSE_LABELS[name]} {percent(amount / total)}"
        for name, amount in largest
        if amount / total >= MIN_CAUSE_SHARE
    ]
    return ", ".join((f"{first} of the stall", *others))


def _cache(repeats: list[Repeat]) -> str:
    asked = ", ".join(dict.fromkeys(r.cache.requested for r in repeats if r.cache is not None))
    if not asked:
        return "unknown: the target has no files, or nothing was read"
    return f"{asked} asked for, {cache_label(repeats)}"


def _host(used: list[Repeat]) -> str:
    hosts = [repeat.host for repeat in used if repeat.host is not None]
    if not hosts:
        return ""
    cost = sum(host.cpu_seconds_per_gb for host in hosts) / len(hosts)
    peak = max(host.memory_peak_bytes for host in hosts)
    return f"{significant(cost)} CPU s/GB, {memory_bytes(peak)} of memory at most"


def _guards(repeats: list[Repeat]) -> Text:
    overview = guard_overview(repeats)
    if not overview:
        return text("none was measured", style="yellow")
    passed = sum(guard.status == "pass" for guard, _ in overview)
    shown = Text(f"{passed} of {len(overview)} pass")
    for guard, _ in overview:
        if guard.status in ("fail", "warn"):
            style = "bold red" if guard.status == "fail" else "yellow"
            shown += Text("\n") + text(f"{guard.status}: {guard.name}", style=style)
            shown += text(f", {guard.detail}")
    skipped = [guard.name for guard, _ in overview if guard.status == "not measured"]
    if skipped:
        shown += Text("\n") + text("not measured: " + ", ".join(skipped), style="dim")
    return shown
