"""What stall costs: GPU hours x stall x rate, per namespace and storage class.

GPU hours and rate are the user's; stall is what was measured. A class that was not measured
has no cost here, which is not a cost of nothing.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.analysis.wording import percent, significant
from bench.errors import UsageError
from bench.policy.document import Cell

__all__ = ["Usage", "cost", "parse_usage"]

HOURS_A_WEEK = 168
COLUMNS = ("namespace", "storage_class", "workload", "gpu_hours_per_week")
UNUSABLE = ("refused", "invalid", "not measured")
"""Verdicts whose figures say nothing about the class."""


@dataclass(frozen=True, slots=True)
class Usage:
    """GPU hours of a namespace on a storage class.

    Attributes:
        namespace: Who.
        storage_class: Where its data lies; the target's name where there is no class.
        workload: What it trains.
        gpu_hours_per_week: As accounted by the user.
    """

    namespace: str
    storage_class: str
    workload: str
    gpu_hours_per_week: float


def parse_usage(text: str, *, place: str) -> list[Usage]:
    """Return the rows of a CSV file with the columns of `Usage`.

    Raises:
        UsageError: A column is missing, or a figure is none.
    """
    reader = csv.DictReader(io.StringIO(text))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise UsageError(
            place, f"has no column {', '.join(missing)}", f"its header is {','.join(COLUMNS)}"
        )
    found = []
    for number, row in enumerate(reader, 2):
        given = (row["gpu_hours_per_week"] or "").strip()
        try:
            hours = float(given)
        except ValueError:
            hours = math.nan
        if not (math.isfinite(hours) and hours >= 0):
            raise UsageError(f"{place}:{number}", f"{given!r} are no GPU hours", "give a number")
        namespace, storage_class, workload = ((row[name] or "").strip() for name in COLUMNS[:3])
        found.append(Usage(namespace, storage_class, workload, hours))
    return found


def cost(
    cells: Sequence[Cell],
    *,
    gpus: int,
    rate: float | None,
    currency: str,
    usage: Sequence[Usage] = (),
) -> dict[str, Any]:
    """Return the cost part of an approval document.

    Args:
        cells: Decisions with the measured stall.
        gpus: Accelerators of the sentence for each cell.
        rate: Price of a GPU hour; None for hours alone.
        currency: Of the rate.
        usage: GPU hours by namespace, class and workload.

    Returns:
        gpus, rate_per_gpu_hour, currency, rows and sentences; hours are per week.
    """
    around_the_clock = [
        Usage("", cell.storage_class or cell.target, cell.workload, float(gpus * HOURS_A_WEEK))
        for cell in cells
    ]
    rows = [_row(item, cells, rate) for item in (*around_the_clock, *usage)]
    sentences = [_sentence(row, gpus, rate, currency) for row in rows]
    return {
        "gpus": gpus,
        "rate_per_gpu_hour": rate,
        "currency": currency,
        "rows": rows,
        "sentences": list(dict.fromkeys(sentences)),
    }


def _row(item: Usage, cells: Sequence[Cell], rate: float | None) -> dict[str, Any]:
    row: dict[str, Any] = asdict(item) | {
        "stall_ratio": None,
        "wasted_hours": None,
        "wasted_hours_low": None,
        "wasted_hours_high": None,
        "cost": None,
        "why_not": "",
    }
    fits = [
        cell
        for cell in cells
        if item.storage_class in (cell.storage_class, cell.target)
        and cell.workload == item.workload
    ]
    usable = [cell for cell in fits if cell.verdict not in UNUSABLE and cell.stall is not None]
    if not usable:
        return row | {"why_not": fits[0].verdict if fits else "not measured"}
    # Of several accelerators and scales the worst: which one a namespace uses is not known.
    worst = max((cell.stall for cell in usable if cell.stall), key=lambda stall: stall.estimate)
    hours = item.gpu_hours_per_week
    wasted = hours * worst.estimate
    return row | {
        "stall_ratio": worst.estimate,
        "wasted_hours": wasted,
        "wasted_hours_low": None if worst.low is None else hours * worst.low,
        "wasted_hours_high": None if worst.high is None else hours * worst.high,
        "cost": None if rate is None else wasted * rate,
    }


def _sentence(row: dict[str, Any], gpus: int, rate: float | None, currency: str) -> str:
    place, workload = row["storage_class"], row["workload"]
    who = f"namespace {row['namespace']}" if row["namespace"] else f"at {gpus} GPUs"
    if row["wasted_hours"] is None:
        return f"{who}: what {place} wastes on {workload} is unknown ({row['why_not']})"
    hours = _hours(row["wasted_hours"])
    span = ""
    if row["wasted_hours_low"] is not None:
        low, high = _hours(row["wasted_hours_low"]), _hours(row["wasted_hours_high"])
        span = f" (90 %: {low} to {high})"
    money = ""
    if rate is not None:
        money = f", {significant(row['cost'])} {currency} at {rate:g} {currency} an hour"
    of = f"{percent(row['stall_ratio'])} of {_hours(row['gpu_hours_per_week'])}"
    if row["namespace"]:
        return (
            f"{who} wastes {hours} GPU-hours a week{span} on {place} with {workload}, {of}{money}"
        )
    return (
        f"{who} that train {workload} around the clock, {place} wastes {hours} GPU-hours a week"
        f"{span}, {of}{money}"
    )


def _hours(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else significant(value)
