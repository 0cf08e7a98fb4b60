"""What the loader's loop remembers: pieces and steps under way, copies, ring occupancy."""

from __future__ import annotations

from collections import deque

from bench.loader.planner import PlannedPiece, PlannedStep
from bench.loader.wire import Completion

__all__ = ["CopyTracker", "Occupancy", "OpenStep", "Piece"]


class Piece:
    """A piece between its grant and its slot's return."""

    __slots__ = (
        *("grant", "held_ns", "number", "planned", "previous", "queued", "row", "slot", "step"),
        "taken",
    )

    def __init__(
        self, number: int, step: int, slot: int, previous: int, planned: PlannedPiece, grant: int
    ) -> None:
        self.number = number
        self.step = step
        self.slot = slot
        self.previous = previous
        self.planned = planned
        self.grant = grant
        self.held_ns = 0
        self.taken = 0
        self.queued = 0
        self.row: Completion | None = None


class OpenStep:
    """A step whose pieces are being granted, read or copied."""

    __slots__ = ("arrived", "first_piece", "left", "planned")

    def __init__(self, planned: PlannedStep, first_piece: int) -> None:
        self.planned = planned
        self.first_piece = first_piece
        self.left = len(planned.pieces)
        self.arrived: list[Piece] = []


class CopyTracker:
    """Which steps have all their copies done; copies end in the order of their steps."""

    def __init__(self) -> None:
        self.copied_step = -1
        """The last step that is on the device as a whole."""
        self._open: dict[int, int] = {}
        self._enqueued: deque[list[int]] = deque()  # [step, copies under way]

    def done(self, step: int) -> None:
        """Count one copy of a step, enqueued or not."""
        for entry in self._enqueued:
            if entry[0] == step:
                entry[1] -= 1
                self._advance()
                return
        self._open[step] = self._open.get(step, 0) + 1

    def enqueued(self, step: int, num_copies: int) -> None:
        """Note that all copies of a step are enqueued."""
        self._enqueued.append([step, num_copies - self._open.pop(step, 0)])
        self._advance()

    def _advance(self) -> None:
        while self._enqueued and self._enqueued[0][1] == 0:
            self.copied_step = self._enqueued.popleft()[0]


class Occupancy:
    """Time with k tenths (rounded) of the slots holding data, k = 0..10."""

    def __init__(self, num_slots: int) -> None:
        self.holding = 0
        self._num_slots = num_slots
        self._since_ns = 0
        self._tenths_ns = [0] * 11

    @property
    def ratio(self) -> float:
        """Share of the slots that hold data now."""
        return self.holding / self._num_slots

    def start(self, now_ns: int) -> None:
        """Begin to count."""
        self._since_ns = now_ns

    def change(self, now_ns: int, by: int) -> None:
        """Note that `by` more slots hold data from now on."""
        self._tenths_ns[round(10 * self.ratio)] += max(0, now_ns - self._since_ns)
        self._since_ns = now_ns
        self.holding += by

    def tenths_ns(self) -> list[int]:
        """Return the times so far."""
        return list(self._tenths_ns)
