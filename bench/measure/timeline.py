"""What one rank's pieces were doing at any instant of a stalled interval, and who kept them there.

`Timeline.explain` cuts a window by the state of the laggard, the piece of the awaited step
whose copy ends last, and finds the root of each state (docs/decisions/0030-attribution.md):

- a piece without a slot inherits from the piece that holds the slot which it gets next;
- a piece without a reader thread inherits from what the thread that takes it is doing;
- reading, decoding, hand-over and copying are roots by themselves.

A chain is walked backwards along `previous` (slots) and along each thread's pieces, never by
recursion, and only as far as the window reaches, so the cost is linear in the pieces that
overlap stalled time, however long the chain.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.measure.segments import CAUSE, STATE, UNATTRIBUTED, Segment, Shares, only, read_phases

__all__ = ["SLACK_NS", "Timeline"]

Table = npt.NDArray[Any]

SLACK_NS = 200_000
"""Inversions up to this are rounding: device instants are mapped to the host clock with an
error, and a stamp after an enqueueing call may follow the start of the work. Larger ones
are contradictions. Stamps of one host clock are allowed none."""

HANDOFF = only(CAUSE["handoff"])
HELD = only(CAUSE["rate_limit"])
UNKNOWN = only(UNATTRIBUTED)
NONE = -1
MISSING = -2


class Row(NamedTuple):
    """The columns of a piece that attribution needs."""

    step: int
    slot: int
    previous: int
    num_extents: int
    grant: int
    start: int
    read_end: int
    ready: int
    copy_queued: int
    h2d_end: int
    freed: int
    open_ns: int
    first_byte_ns: int
    cpu_ns: int
    run_delay_ns: int
    wake_delay_ns: int
    held_ns: int


class StepRow(NamedTuple):
    """The columns of a step that attribution needs."""

    first_piece: int
    num_pieces: int
    own_ready: int
    released: int
    compute_start: int


Part = tuple[int, int, Shares]
"""Begin, end, causes."""


class Timeline:
    """The pieces and steps of one rank, indexed for walking back in time.

    Args:
        steps: STEP_DTYPE, row i is step i.
        pieces: PIECE_DTYPE, row i is piece i; pieces that were never granted or read may
            be left zero, they explain nothing.
        slack_ns: Largest inversion between device and host stamps that is taken as rounding.
    """

    def __init__(self, steps: Table, pieces: Table, *, slack_ns: int = SLACK_NS) -> None:
        self._slack_ns = slack_ns
        self._steps = steps[list(StepRow._fields)]
        self._pieces = pieces[list(Row._fields)]
        self._h2d_end = np.ascontiguousarray(pieces["h2d_end"])
        self._thread_previous = _thread_previous(pieces)

    def step(self, step: int) -> StepRow:
        """Return the stamps of one step."""
        return StepRow._make(self._steps[step].item())

    def explain(self, step: int, begin: int, end: int) -> list[Segment]:
        """Cut [begin, end), in which nothing but step `step` is awaited, into segments.

        Segments are disjoint, ascending and cover the window. The caller guarantees that the
        window begins no earlier than the end of the step before.
        """
        row = self.step(step)
        segments: list[Segment] = []
        at = begin
        laggard = self._laggard(row)
        if laggard == NONE:
            at = _add(segments, at, min(end, row.own_ready), STATE["handoff"], HANDOFF)
        elif laggard == MISSING or not self._is_complete(self._row(laggard)):
            at = _add(segments, at, min(end, row.own_ready), UNATTRIBUTED, UNKNOWN)
        else:
            at = self._explain_laggard(segments, laggard, step, at, end)
        self._explain_start(segments, row, laggard, at, end)
        segments.sort()
        return segments

    def _row(self, piece: int) -> Row:
        return Row._make(self._pieces[piece].item())

    def _laggard(self, row: StepRow) -> int:
        if row.num_pieces == 0:
            return NONE
        ends = self._h2d_end[row.first_piece : row.first_piece + row.num_pieces]
        if len(ends) < row.num_pieces or ends.min() <= 0:
            return MISSING
        return row.first_piece + int(ends.argmax())

    def _is_complete(self, row: Row) -> bool:
        """Say whether a piece's stamps tell one consistent story up to its copy's end."""
        in_order = 0 < row.grant <= row.start <= row.read_end <= row.ready <= row.copy_queued
        return in_order and row.h2d_end >= row.copy_queued - self._slack_ns

    def _explain_laggard(
        self, segments: list[Segment], piece: int, step: int, begin: int, end: int
    ) -> int:
        """Explain up to the end of the laggard's copy; return the instant reached."""
        row = self._row(piece)
        at = begin
        if at < row.grant:
            stop = min(end, row.grant)
            segments.extend(
                Segment(low, high, only(STATE["slot_wait"]), causes)
                for low, high, causes in self._slot_wait(row, step, at, stop)
            )
            at = stop
        if at < row.start and at < end:
            stop = min(end, row.start)
            segments.extend(
                Segment(low, high, only(STATE["reader_wait"]), causes)
                for low, high, causes in self._reader_wait(piece, row, at, stop)
            )
            at = stop
        if at < row.read_end and at < end:
            stop = min(end, row.read_end)
            segments.extend(_reading(row, at, stop))
            at = stop
        at = _add(segments, at, min(end, row.ready), STATE["decode"], only(CAUSE["decode"]))
        at = _add(segments, at, min(end, row.copy_queued), STATE["handoff"], HANDOFF)
        return _add(segments, at, min(end, row.h2d_end), STATE["h2d"], only(CAUSE["h2d"]))

    def _explain_start(
        self, segments: list[Segment], row: StepRow, laggard: int, begin: int, end: int
    ) -> None:
        """Explain from the end of the last copy to the end of the window."""
        copied = int(self._h2d_end[laggard]) if laggard >= 0 else 0
        slack = self._slack_ns
        ordered = copied - slack <= row.own_ready <= row.released + slack
        if not (row.own_ready > 0 and ordered and row.released <= row.compute_start + slack):
            _add(segments, begin, end, UNATTRIBUTED, UNKNOWN)
            return
        at = _add(segments, begin, min(end, row.own_ready), STATE["handoff"], HANDOFF)
        at = _add(segments, at, min(end, row.released), STATE["sync"], only(CAUSE["sync"]))
        _add(segments, at, end, STATE["handoff"], HANDOFF)

    def _slot_wait(self, row: Row, step: int, begin: int, end: int) -> Iterator[Part]:
        """Say who kept a piece from a slot in [begin, end), which ends at its grant at most."""
        at = end
        while at > begin:
            # A slot was free, and our own limit kept the piece from it.
            held = max(begin, row.grant - row.held_ns)
            if held < at:
                yield held, at, HELD
                at = held
                continue
            if row.previous < 0:
                yield begin, at, HANDOFF  # a slot that nobody used before: not dispatched yet
                return
            holder_piece = row.previous
            holder = self._row(holder_piece)
            consistent = (
                holder.slot == row.slot
                and self._is_complete(holder)
                and holder.copy_queued <= holder.freed <= row.grant
                and holder.grant < row.grant
            )
            if not consistent:
                yield begin, at, UNKNOWN
                return
            low = max(begin, holder.grant)
            if low < at:
                yield from self._holder(holder_piece, holder, step, low, at)
                at = low
            row = holder

    def _holder(self, piece: int, row: Row, step: int, begin: int, end: int) -> Iterator[Part]:
        """Say what `piece`, which holds a slot that step `step` needs, was kept by."""
        at = begin
        if at < row.start:
            stop = min(end, row.start)
            yield from self._reader_wait(piece, row, at, stop)
            at = stop
        if at < row.ready and at < end:
            stop = min(end, row.ready)
            yield from _working(row, at, stop)
            at = stop
        borders: tuple[tuple[int, str], ...]
        if row.step > step:  # finished, but its turn to be copied or used has not come
            borders = ((row.freed, "ring_full"), (end, "handoff"))
        else:
            borders = ((row.copy_queued, "handoff"), (row.h2d_end, "h2d"), (end, "handoff"))
        for border, cause in borders:
            stop = min(end, border)
            if at < stop:
                yield at, stop, only(CAUSE[cause])
                at = stop

    def _reader_wait(self, piece: int, row: Row, begin: int, end: int) -> Iterator[Part]:
        """Say what kept the thread that took `piece` from it in [begin, end), before its start."""
        at = end
        while at > begin:
            before = int(self._thread_previous[piece])
            earlier = self._row(before) if before >= 0 else None
            free_from = 0
            if earlier is not None:
                free_from = earlier.ready
                if not 0 < earlier.start <= earlier.read_end <= earlier.ready <= row.start:
                    yield begin, at, UNKNOWN
                    return
            low = max(begin, free_from)
            if low < at:
                yield from _idle(row, free_from, low, at)
                at = low
            if earlier is None:
                return
            low = max(begin, earlier.start)
            if low < at:
                yield from _working(earlier, low, at)
                at = low
            piece, row = before, earlier


def _thread_previous(pieces: Table) -> npt.NDArray[np.int64]:
    """Return for each piece the one that its thread handled before, or -1; shape (pieces,)."""
    previous = np.full(len(pieces), NONE, dtype=np.int64)
    started = np.flatnonzero(pieces["start"] > 0)
    rows = pieces[started]
    order = np.lexsort((rows["start"], rows["thread"], rows["reader"]))
    ordered = started[order]
    reader, thread = pieces["reader"][ordered], pieces["thread"][ordered]
    same = (reader[1:] == reader[:-1]) & (thread[1:] == thread[:-1])
    previous[ordered[1:][same]] = ordered[:-1][same]
    return previous


def _add(segments: list[Segment], begin: int, end: int, state: int, causes: Shares) -> int:
    """Append [begin, end) unless it is empty; return the instant reached."""
    if begin >= end:
        return begin
    segments.append(Segment(begin, end, only(state), causes))
    return end


def _reading(row: Row, begin: int, end: int) -> Iterator[Segment]:
    """Cut the part [begin, end) of a piece's read; state and cause are the same thing there."""
    phases = read_phases(
        row.start,
        row.read_end,
        num_extents=row.num_extents,
        open_ns=row.open_ns,
        first_byte_ns=row.first_byte_ns,
        cpu_ns=row.cpu_ns,
        run_delay_ns=row.run_delay_ns,
    )
    for phase in phases:
        low, high = max(begin, phase.begin), min(end, phase.end)
        if low < high:
            yield Segment(low, high, phase.states(), phase.causes())


def _working(row: Row, begin: int, end: int) -> Iterator[Part]:
    """Cut the part [begin, end) of a piece's read and decode."""
    if begin < row.read_end:
        for segment in _reading(row, begin, end):
            yield segment.begin, segment.end, segment.causes
    low = max(begin, row.read_end)
    if low < end:
        yield low, end, only(CAUSE["decode"])


def _idle(row: Row, free_from: int, begin: int, end: int) -> Iterator[Part]:
    """Explain why a free thread had not started on a request, in [begin, end).

    The thread could have started once it was free and the request was there. Of that wait,
    the part that the scheduler accounts for is run delay; the rest is the harness's, as is
    all time before this request existed (the thread was free, and something else waited).
    """
    could = max(free_from, row.grant)
    if begin < min(could, end):
        yield begin, min(could, end), only(CAUSE["reader_idle"])
    low = max(begin, could)
    if low < end:
        wait = row.start - could
        delay = min(max(0, row.wake_delay_ns), wait)
        weights = ((CAUSE["run_delay"], delay), (CAUSE["reader_idle"], wait - delay))
        yield low, end, tuple(share for share in weights if share[1] > 0)
