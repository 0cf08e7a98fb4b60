"""From what ranks left behind to one repeat's document and tables.

Pure computation over the tables of all ranks; nothing here ran while it was measured, so it
may be slow and large. Runs in the launcher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.loader.recorder import read_rows
from bench.loader.records import PIECE_DTYPE, STEP_DTYPE
from bench.measure.accounts import Accounts, RankInput, account
from bench.measure.attribution import Attribution, step_columns
from bench.measure.latency import histogram_latency, read_durations_ns
from bench.measure.stall import floor_from_replay
from bench.results import schema
from bench.spec.plan import Plan

__all__ = ["RankData", "RepeatTables", "collect_ranks", "load_rank"]

Table = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class RankData:
    """One rank's result and tables, loaded.

    Attributes:
        result: What `bench.agent.rank` wrote.
        steps: STEP_DTYPE, dense.
        pieces: PIECE_DTYPE, dense: row i is piece i; zeros for pieces never read.
        replay: STEP_DTYPE of R0.
    """

    rank: int
    result: Mapping[str, Any]
    steps: Table
    pieces: Table
    replay: Table

    @property
    def start_ns(self) -> int:
        """Start of the measured phase."""
        return int(self.result["start_ns"])

    @property
    def wall_ns(self) -> int:
        """Measured phase by the host's clock."""
        return int(self.result["end_ns"]) - self.start_ns


@dataclass(frozen=True, slots=True)
class RepeatTables:
    """What is stored beside the document.

    Attributes:
        steps: By rank: columns of the step table.
        pieces: By rank: PIECE_DTYPE rows that were read.
        start_ns: By rank: what instants are relative to.
    """

    steps: dict[int, Mapping[str, npt.NDArray[Any]]]
    pieces: dict[int, Table]
    start_ns: dict[int, int]


def dense(rows: Table) -> Table:
    """Return rows by number; numbers that are missing become rows of zeros."""
    if len(rows) == 0:
        return rows
    numbers = rows["piece"]
    table = np.zeros(int(numbers[-1]) + 1, rows.dtype)
    table["previous"] = -1
    table[numbers] = rows
    return table


def load_rank(scratch: Path, rank: int, result: Mapping[str, Any]) -> RankData:
    """Load one rank's tables.

    Raises:
        ResultsError: A table is missing or damaged.
    """
    return RankData(
        rank,
        result,
        read_rows(scratch / f"steps-{rank}", STEP_DTYPE),
        dense(read_rows(scratch / f"pieces-{rank}", PIECE_DTYPE)),
        read_rows(scratch / f"replay-{rank}", STEP_DTYPE),
    )


def _latency(pieces: Table) -> schema.Latency | None:
    return histogram_latency(read_durations_ns(pieces))


def _errors(counts: Mapping[str, Any]) -> schema.Errors:
    return schema.Errors(**{name: counts[name] for name in schema.Errors.model_fields})


def _sum_errors(errors: list[schema.Errors]) -> schema.Errors:
    return schema.Errors(
        **{name: sum(getattr(e, name) for e in errors) for name in schema.Errors.model_fields}
    )


def _rank_document(data: RankData, accounts: Accounts | None, position: int) -> schema.RankResult:
    counts = data.result["counts"]
    stall = accounts.ranks[position] if accounts is not None else None
    return schema.RankResult(
        rank=data.rank,
        node=data.result["node"],
        wall_seconds=data.wall_ns / 1e9,
        steps=counts["steps"],
        samples=counts["samples"],
        bytes_read=counts["bytes_read"],
        bytes_consumed=counts["bytes_consumed"],
        bytes_transferred=counts["bytes_transferred"],
        stall=accounts.rank_documents[position] if accounts is not None else None,
        accelerator_utilization=None if stall is None else stall.accelerator_utilization,
        read_latency=_latency(data.pieces),
        cpu_seconds=data.result["cpu_seconds"],
        pss_peak_bytes={k: v for k, v in data.result["pss_bytes"].items() if v is not None},
        errors=_errors(counts),
        identity_error_ratio=None if stall is None else stall.identity_error_ratio,
    )


def _occupancy(ranks: list[RankData]) -> list[float] | None:
    total = np.sum([data.result["counts"]["occupancy_ns"] for data in ranks], axis=0)
    return (total / total.sum()).tolist() if total.sum() else None


def _throughput(ranks: list[RankData], *, paced: bool) -> schema.Throughput | None:
    walls = [data.wall_ns / 1e9 for data in ranks]
    first, last = min(walls), max(walls)
    if last <= 0:
        return None
    # Unthrottled, what landed in time counts; paced, what the accelerator consumed.
    amounts = [data.result["counts"] for data in ranks]
    landed = sum(_bytes_until(data, last) for data in ranks)
    consumed = sum(counts["bytes_consumed"] for counts in amounts)
    return schema.Throughput(
        bytes_per_second=(consumed if paced else landed) / last,
        samples_per_second=sum(counts["samples"] for counts in amounts) / last,
        first_done_seconds=first,
        last_done_seconds=last,
        bytes_at_first_done=sum(_bytes_until(data, first) for data in ranks),
    )


def _bytes_until(data: RankData, seconds: float) -> int:
    """Return the payload bytes in slots `seconds` after the start."""
    ends = data.pieces["read_end"]
    arrived = (ends > 0) & (ends <= data.start_ns + seconds * 1e9)
    return int(data.pieces["payload_bytes"][arrived].sum())


def collect_ranks(
    plan: Plan, ranks: list[RankData], *, index: int
) -> tuple[dict[str, Any], RepeatTables, Accounts | None]:
    """Compute the parts of a repeat's document that the tables determine.

    Args:
        plan: What was run.
        ranks: All ranks, or those that could be kept.
        index: Of the repeat.

    Returns:
        Fields of `schema.Repeat` (status, guards, cache, host and phases are the caller's),
        the tables to store, and the accounts in paced mode.
    """
    whole = all(len(data.steps) for data in ranks)
    accounts = (
        account([_input(d) for d in ranks], step_seconds=plan.step_seconds) if whole else None
    )
    documents = [_rank_document(data, accounts, i) for i, data in enumerate(ranks)]
    counts = [data.result["counts"] for data in ranks]
    kernel = [data.result["kernel_read_bytes"] for data in ranks]
    started = min(data.result["started_at"] for data in ranks)
    fields: dict[str, Any] = {
        "index": index,
        "started_at": datetime.fromtimestamp(started, UTC).isoformat(timespec="milliseconds"),
        "duration_seconds": max(data.wall_ns for data in ranks) / 1e9,
        "bytes_read": sum(c["bytes_read"] for c in counts),
        "bytes_requested": sum(c["bytes_requested"] for c in counts),
        "bytes_consumed": sum(c["bytes_consumed"] for c in counts),
        "bytes_prefetched": sum(c["bytes_read"] - c["bytes_consumed"] for c in counts),
        "bytes_transferred": sum(c["bytes_transferred"] for c in counts),
        "kernel_read_bytes": sum(kernel) if None not in kernel else None,
        "samples": sum(c["samples"] for c in counts),
        "steps": max(c["steps"] for c in counts),
        "throughput": _throughput(ranks, paced=plan.step_seconds is not None),
        "stall": accounts.document if accounts is not None else None,
        "accelerator_utilization": (
            accounts.total.accelerator_utilization if accounts is not None else None
        ),
        "read_latency": _latency(np.concatenate([data.pieces for data in ranks])),
        "errors": _sum_errors([document.errors for document in documents]),
        "ranks": documents,
        "ring_occupancy": _occupancy(ranks),
    }
    return fields, _tables(ranks, accounts), accounts


def _input(data: RankData) -> RankInput:
    return RankInput(
        steps=data.steps,
        pieces=data.pieces,
        steps_r0=data.replay,
        start_ns=data.start_ns,
        floor_ns=floor_from_replay(data.replay),
        wall_ns=data.wall_ns,
    )


def _tables(ranks: list[RankData], accounts: Accounts | None) -> RepeatTables:
    steps: dict[int, Mapping[str, npt.NDArray[Any]]] = {}
    for position, data in enumerate(ranks):
        if accounts is None:
            names = data.steps.dtype.names or ()
            steps[data.rank] = {name: np.ascontiguousarray(data.steps[name]) for name in names}
            continue
        states = accounts.attributions[position].states_ns
        resolved = Attribution(states, accounts.causes_ns[position])
        steps[data.rank] = step_columns(data.steps, accounts.ranks[position].table, resolved)
    return RepeatTables(
        steps=steps,
        pieces={data.rank: data.pieces[data.pieces["read_end"] > 0] for data in ranks},
        start_ns={data.rank: data.start_ns for data in ranks},
    )
