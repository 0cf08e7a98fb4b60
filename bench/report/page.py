"""One run as one HTML page: self-contained, no script, readable light, dark and printed.

Everything that comes from the document is escaped by the template; only the drawings of
`bench.report.charts` go in as they are, and their texts are escaped by matplotlib.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.analysis.facts import (
    accelerator_label,
    cache_label,
    guard_overview,
    name_of,
    reproduce_command,
    step_seconds,
)
from bench.analysis.intervals import counted, required_rate
from bench.analysis.series import RankTables
from bench.analysis.wording import (
    data_bytes,
    duration,
    memory_bytes,
    percent,
    rate,
    significant,
)
from bench.report.figures import Figure, figures
from bench.results.schema import Interval, Repeat, Run

__all__ = ["render_page"]

MAX_VALUE_CHARACTERS = 2000
"""Of one disclosed value; longer ones are cut, and the document holds them whole."""


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """A figure at the head of the page."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Banner:
    """A remark that nobody must miss."""

    kind: str
    """bad, caution or good."""
    words: str


def render_page(run: Run, tables: Sequence[RankTables]) -> str:
    """Return the page of a run; the same bytes for the same input.

    Args:
        run: The stored document.
        tables: Its stored tables; charts over time are left out, with a remark, without them.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bench.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["drawing"] = Markup
    environment.filters["memory"] = memory_bytes
    charts: list[Figure] = figures(run, tables)
    return environment.get_template("page.html.j2").render(
        run=run,
        title=f"{name_of(run.workload)} on {name_of(run.storage)}",
        accelerator=accelerator_label(run),
        banners=_banners(run),
        remarks=_remarks(run),
        key_figures=_key_figures(run),
        figures=charts,
        guards=guard_overview(run.repeats),
        caches=[repeat for repeat in run.repeats if repeat.cache is not None],
        command=reproduce_command(run),
        disclosure=_disclosure(run),
        errors=[(r.index, r.errors.model_dump()) for r in run.repeats],
        rows_of=_rows,
        num_counted=len(counted(run.repeats)),
        steps_stored=any(table.steps is not None for table in tables),
    )


def _banners(run: Run) -> list[Banner]:
    found = []
    if run.status != "ok":
        words = {
            "invalid": "Invalid: a guard failed, so these figures must not be used.",
            "failed": "Failed: this run did not end well.",
            "interrupted": "Interrupted: this run was stopped before its end.",
        }[run.status]
        found.append(Banner("bad", words))
    bad = len(run.repeats) - len(counted(run.repeats))
    if bad and run.status == "ok":
        found.append(Banner("caution", f"{bad} of {len(run.repeats)} repeats do not count."))
    if run.division == "exploratory":
        found.append(
            Banner(
                "caution",
                "Exploratory: data, shape, batch or step time differ from the declared "
                "workload, so this run certifies nothing.",
            )
        )
    for guard, indexes in guard_overview(run.repeats):
        if guard.status in ("fail", "warn"):
            kind = "bad" if guard.status == "fail" else "caution"
            where = f"repeat{'s' if len(indexes) > 1 else ''} {', '.join(map(str, indexes))}"
            label = "Guard failed" if guard.status == "fail" else "Warning"
            found.append(Banner(kind, f"{label}: {guard.name} ({where}), {guard.detail}."))
    if not found:
        found.append(Banner("good", "Certified: workload and target as declared, no guard failed."))
    return sorted(found, key=lambda banner: banner.kind != "bad")


def _remarks(run: Run) -> list[str]:
    """Return what every chart says of itself, since charts are cut out and passed on."""
    found: list[str] = [run.division] if run.division != "certified" else []
    if run.status != "ok":
        found.append(run.status)
    if any(g.name == "short" and g.status != "pass" for g, _ in guard_overview(run.repeats)):
        found.append("short")
    return found


def _key_figures(run: Run) -> list[KeyFigure]:
    used = counted(run.repeats)
    found = _rates(run, used)
    stall = run.summary.get("stall_ratio")
    if stall is not None:
        steady = run.summary["steady_stall_ratio"]
        found.append(KeyFigure("stall", percent(stall.estimate), _range(stall, 100, " %")))
        found.append(
            KeyFigure(
                "stall once running", percent(steady.estimate), "without the time to first batch"
            )
        )
    used_time = run.summary.get("accelerator_utilization")
    if used_time is not None:
        text = percent(used_time.estimate)
        found.append(KeyFigure("accelerator utilization", text, _range(used_time, 100, " %")))
    first = run.summary.get("time_to_first_batch_seconds")
    if first is not None:
        found.append(KeyFigure("time to first batch", duration(first.estimate), "mean of repeats"))
    found.append(KeyFigure("client cache", cache_label(run.repeats), _asked(run)))
    hosts = [repeat.host for repeat in used if repeat.host is not None]
    if hosts:
        cost = sum(host.cpu_seconds_per_gb for host in hosts) / len(hosts)
        peak = max(host.memory_peak_bytes for host in hosts)
        found.append(KeyFigure("CPU cost", f"{significant(cost)} s/GB", "readers and ranks"))
        found.append(KeyFigure("memory", memory_bytes(peak), "at most, ring included"))
    return found


def _rates(run: Run, used: list[Repeat]) -> list[KeyFigure]:
    found = []
    throughput = run.summary.get("throughput_bytes_per_second")
    if throughput is not None:
        detail = _range(throughput, 1e-9, " GB/s")
        found.append(KeyFigure("throughput", rate(throughput.estimate), detail))
    needs = [required_rate(repeat, step_seconds=step_seconds(run)) for repeat in used]
    if needs and needs[0] is not None:
        found.append(KeyFigure("needed", rate(needs[0]), "by an accelerator that never waits"))
    return found


def _asked(run: Run) -> str:
    asked = dict.fromkeys(r.cache.requested for r in run.repeats if r.cache is not None)
    return f"{', '.join(asked)} asked for" if asked else "nothing recorded"


def _range(interval: Interval, factor: float, unit: str) -> str:
    if interval.low is None or interval.high is None:
        return f"n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{interval.n}, no interval"
    low, high = significant(interval.low * factor), significant(interval.high * factor)
    return f"90 %: {low} to {high}{unit}, n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{interval.n}"


def _disclosure(run: Run) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the disclosed parts of the document: title, and rows of name and value."""
    parts: dict[str, Mapping[str, Any]] = {
        "Workload": run.workload,
        "Storage target": run.storage,
        "Data set": run.dataset,
        "Plan": run.plan,
        "Fingerprint": run.fingerprint,
        "Tool": run.tool.model_dump(),
    }
    return [(title, list(_rows(part))) for title, part in parts.items()]


def _rows(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield name and value of every leaf of nested values, named by its path."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _rows(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, _value(path, value)


def _value(path: str, value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        words = ", ".join(value) or "none"
    elif isinstance(value, str):
        words = value
    else:
        words = json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, int | float) and not isinstance(value, bool):
        words += _in_units(path, value)
    if len(words) > MAX_VALUE_CHARACTERS:
        return words[:MAX_VALUE_CHARACTERS] + " ... (cut; whole in run.json)"
    return words


def _in_units(path: str, value: float) -> str:
    last = path.rpartition(".")[2]
    if last.endswith("bytes_per_second"):
        return f" ({rate(value)})"
    if last == "bytes" or last.endswith("_bytes"):
        binary = memory_bytes(value)
        return f" ({data_bytes(value)}, {binary})" if abs(value) >= 1024 else ""
    return ""
