"""Rows of the two tables, spilled to files so that a long run does not grow the rank."""

from __future__ import annotations

import struct
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bench.device.base import CopyDone, StepDone
from bench.errors import ResultsError
from bench.loader.planner import PlannedStep
from bench.loader.records import PIECE_DTYPE, STEP_DTYPE
from bench.loader.tracking import Piece

__all__ = ["PieceRecorder", "StepRecorder", "read_rows"]

SPILL_BYTES = 1 << 20


def _row_format(dtype: np.dtype[np.void]) -> struct.Struct:
    letters = {4: "i", 8: "q"}
    return struct.Struct("<" + "".join(letters[dtype[name].itemsize] for name in dtype.names or ()))


def read_rows(path: Path, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    """Return the rows of a recorder's file, ordered by the table's first column.

    Raises:
        ResultsError: The file is missing or cut off in the middle of a row.
    """
    try:
        rows = np.fromfile(path, dtype)
        cut = path.stat().st_size % dtype.itemsize
    except OSError as error:
        raise ResultsError(str(path), f"cannot be read ({error.strerror})") from error
    if cut:
        raise ResultsError(str(path), "ends in the middle of a row", "the rank died; run again")
    return rows[np.argsort(rows[(dtype.names or ("",))[0]], kind="stable")]


class _RowFile:
    """Appends packed rows to a file, a megabyte at a time."""

    def __init__(self, path: Path, dtype: np.dtype[np.void]) -> None:
        self._pack = _row_format(dtype).pack
        self._path = path
        self._file = path.open("wb", buffering=0)
        self._rows: list[bytes] = []
        self._limit = SPILL_BYTES // dtype.itemsize

    def append(self, *values: int) -> None:
        self._rows.append(self._pack(*values))
        if len(self._rows) >= self._limit:
            self.flush()

    def flush(self) -> None:
        data = b"".join(self._rows)
        self._rows.clear()
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise ResultsError(
                str(self._path), f"cannot be written ({error.strerror})", "free space, run again"
            ) from error

    def close(self) -> None:
        self.flush()
        self._file.close()


class PieceRecorder:
    """The piece table of one phase; rows in order of completion.

    Args:
        path: File to write.
    """

    def __init__(self, path: Path) -> None:
        self._file = _RowFile(path, PIECE_DTYPE)

    def record(self, piece: Piece, copied: CopyDone | None, *, now_ns: int) -> None:
        """Write the row of a piece; none for one that was never read.

        Args:
            piece: With its stamps.
            copied: Its copy; None for one that was prefetched and not consumed.
            now_ns: When its slot was put back.
        """
        row = piece.row
        if row is None:
            return
        start, end = (copied.start_ns, copied.end_ns) if copied is not None else (0, 0)
        self._file.append(
            piece.number, piece.step, row.reader, row.thread, piece.slot, piece.previous,
            len(piece.planned.extents), piece.planned.payload_bytes, row.transferred_bytes,
            piece.grant, row.start, row.read_end, row.ready, piece.taken, piece.queued,
            start, end, now_ns if copied is not None else 0,
            row.open_ns, row.first_byte_ns, row.cpu_ns, row.decode_cpu_ns,
            row.run_delay_ns, row.wake_delay_ns, row.retries, row.short_reads, piece.held_ns,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()


class _StepRow:
    __slots__ = ("enqueued", "first_piece", "planned", "released", "root")

    def __init__(self, planned: PlannedStep, first_piece: int, enqueued: int) -> None:
        self.planned = planned
        self.first_piece = first_piece
        self.enqueued = enqueued
        self.released = 0
        self.root = -1


class StepRecorder:
    """The step table of one phase.

    Args:
        path: File to write.
        rank: Root of every step that is not gated.
    """

    def __init__(self, path: Path, *, rank: int) -> None:
        self._file = _RowFile(path, STEP_DTYPE)
        self._rank = rank
        self._rows: dict[int, _StepRow] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def enqueued(self, planned: PlannedStep, *, first_piece: int, now_ns: int) -> None:
        """Note that the host enqueued a step, all of whose copies are enqueued."""
        self._rows[planned.step] = _StepRow(planned, first_piece, now_ns)

    def released(self, step: int, instant_ns: int, root_rank: int) -> None:
        """Note when lock-step let a step start, and who was last."""
        row = self._rows[step]
        row.released = instant_ns
        row.root = root_rank

    def done(self, event: StepDone) -> PlannedStep:
        """Write the row of a finished step; return what was planned."""
        row = self._rows.pop(event.step)
        planned = row.planned
        self._file.append(
            planned.step, planned.epoch, planned.num_samples, planned.payload_bytes,
            row.first_piece, len(planned.pieces), row.enqueued, event.ready_ns,
            max(row.released, event.ready_ns), row.root if row.root >= 0 else self._rank,
            event.start_ns, event.end_ns, event.late_ns,
        )  # fmt: skip
        return planned
