"""Attribution: every nanosecond of stall gets one state and one cause.

Per step and in total; sums are exact by construction. What stamps cannot explain (missing or
contradictory ones) stands in a column of its own and is never spread over the others.
`bench.measure.timeline` holds the rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.measure.segments import UNATTRIBUTED, Segment, divide
from bench.measure.stall import SECOND_NS, StallTable
from bench.measure.timeline import Timeline
from bench.results.schema import CAUSES, STATES

__all__ = ["Attribution", "attribute", "dominant_causes", "seconds_by_name", "step_columns"]

Ns = npt.NDArray[np.int64]
Table = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Attribution:
    """Stall of each step by state and by cause, nanoseconds.

    For every step i: states_ns[i].sum() == causes_ns[i].sum() == stall_ns[i].
    """

    states_ns: Ns
    """Shape (steps, len(STATES) + 1); the last column is unattributed."""
    causes_ns: Ns
    """Shape (steps, len(CAUSES) + 1); the last column is unattributed."""
    unattributed_ns: int = field(init=False)
    """Stall without a cause; at least the stall without a state."""

    def __post_init__(self) -> None:
        """Derive the total of what is not attributed."""
        object.__setattr__(self, "unattributed_ns", int(self.causes_ns[:, UNATTRIBUTED].sum()))


def attribute(timeline: Timeline, table: StallTable) -> Attribution:
    """Attribute the stall of one rank.

    Args:
        timeline: The rank's pieces and steps.
        table: The rank's stall, of the same steps.
    """
    num_steps = len(table.stall_ns)
    states = np.zeros((num_steps, len(STATES) + 1), dtype=np.int64)
    causes = np.zeros((num_steps, len(CAUSES) + 1), dtype=np.int64)
    begins, stalls = table.begin_ns.tolist(), table.stall_ns.tolist()
    for step in np.flatnonzero(table.stall_ns > 0).tolist():
        begin = begins[step]
        state_row, cause_row = [0] * states.shape[1], [0] * causes.shape[1]
        for segment in timeline.explain(step, begin, begin + stalls[step]):
            _book(segment, state_row, cause_row)
        states[step], causes[step] = state_row, cause_row
    return Attribution(states, causes)


def _book(segment: Segment, state_row: list[int], cause_row: list[int]) -> None:
    length = segment.end - segment.begin
    for index, amount in divide(length, segment.states):
        state_row[index] += amount
    for index, amount in divide(length, segment.causes):
        cause_row[index] += amount


def dominant_causes(causes_ns: Ns) -> npt.NDArray[np.int8]:
    """Return the index in CAUSES of each step's largest cause, shape (steps,).

    -1 for a step without stall; len(CAUSES) where most of it is unattributed. Of equal
    causes the first in CAUSES counts.
    """
    largest: npt.NDArray[np.int8] = causes_ns.argmax(axis=1).astype(np.int8)
    largest[causes_ns.sum(axis=1) == 0] = -1
    return largest


def seconds_by_name(amounts_ns: Ns, names: tuple[str, ...]) -> dict[str, float]:
    """Sum a table of per-step amounts over steps: name -> seconds, the last column left out.

    Args:
        amounts_ns: Shape (steps, len(names) + 1).
        names: STATES or CAUSES.
    """
    totals = amounts_ns.sum(axis=0).tolist()
    return {name: totals[index] / SECOND_NS for index, name in enumerate(names)}


def step_columns(
    steps: Table, table: StallTable, attribution: Attribution
) -> Mapping[str, npt.NDArray[Any]]:
    """Return the columns of the stored step table, each of shape (steps,).

    All of STEP_DTYPE, then `gap_ns`, `floor_ns`, `stall_ns`, `state_<name>_ns`,
    `cause_<name>_ns`, `unattributed_ns`, and `cause`: the index in CAUSES of the largest one
    (see `dominant_causes`). Every total of a run document can be recomputed from these.
    """
    columns: dict[str, npt.NDArray[Any]] = {
        name: np.ascontiguousarray(steps[name]) for name in steps.dtype.names or ()
    }
    columns |= {"gap_ns": table.gap_ns, "floor_ns": table.floor_ns, "stall_ns": table.stall_ns}
    for index, name in enumerate(STATES):
        columns[f"state_{name}_ns"] = np.ascontiguousarray(attribution.states_ns[:, index])
    for index, name in enumerate(CAUSES):
        columns[f"cause_{name}_ns"] = np.ascontiguousarray(attribution.causes_ns[:, index])
    columns["unattributed_ns"] = np.ascontiguousarray(attribution.causes_ns[:, UNATTRIBUTED])
    columns["cause"] = dominant_causes(attribution.causes_ns)
    return columns
