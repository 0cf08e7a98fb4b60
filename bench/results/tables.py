"""Per-step and per-piece samples as Parquet files that pandas opens in one line.

Instants and durations are float64 seconds, instants from the start of the measured phase
(earlier ones are negative, what never happened is null). A nanosecond count under 2**53
(104 days) survives the way there and back, so nothing is lost.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.errors import ResultsError
from bench.results.schema import CAUSES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["encode_table", "read_table"]

INSTANTS = frozenset(
    (
        *("grant", "start", "read_end", "ready", "taken", "copy_queued"),
        *("h2d_start", "h2d_end", "freed"),
        *("enqueued", "own_ready", "released", "compute_start", "compute_end"),
    )
)
"""Columns of the recorded tables that are instants on the host's clock, in nanoseconds."""

CAUSE_NAMES = (*CAUSES, "unattributed", "none")
"""By index of the step table's `cause`: -1 is "none", len(CAUSES) "unattributed"."""

Column = npt.NDArray[Any]


def encode_table(columns: Mapping[str, Column] | Column, *, start_ns: int) -> bytes:
    """Return a Parquet file of a recorded table.

    Args:
        columns: Step columns by name, or rows of a structured type; nanoseconds inside.
        start_ns: The instant that instants are stored relative to.

    Columns of instants `x` become `x_seconds`, amounts `x_ns` become `x_seconds`, and `cause`
    becomes its name; all others stay as they are.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if isinstance(columns, np.ndarray):
        rows = columns
        columns = {name: rows[name] for name in rows.dtype.names or ()}
    stored: dict[str, Any] = {}
    for name, values in columns.items():
        if name in INSTANTS:
            seconds = (values - start_ns) / 1e9
            stored[f"{name}_seconds"] = pa.array(seconds, mask=values == 0)
        elif name.endswith("_ns"):
            stored[f"{name.removesuffix('_ns')}_seconds"] = pa.array(values / 1e9)
        elif name == "cause":
            names = pa.array(CAUSE_NAMES)
            stored[name] = pa.DictionaryArray.from_arrays(
                pa.array(values % len(CAUSE_NAMES)), names
            )
        else:
            stored[name] = pa.array(np.ascontiguousarray(values))
    sink = io.BytesIO()
    pq.write_table(pa.table(stored), sink, compression="zstd")
    return sink.getvalue()


def read_table(data: bytes, *, place: str) -> pd.DataFrame:
    """Return a stored table.

    Raises:
        ResultsError: The file is damaged.
    """
    import pandas as pd
    import pyarrow as pa

    try:
        return pd.read_parquet(io.BytesIO(data))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ResultsError(place, "is not a readable Parquet file") from error
