"""The host's duties towards a device, checked where they are cheap to check.

Both devices refuse what could only corrupt data, deadlock or give wrong instants. A slot that
is refilled too early is not seen here: the emulated device shows it as corrupted bytes.
"""

from __future__ import annotations

from bench.device.timeline import BUFFERS
from bench.errors import InfrastructureError

__all__ = ["HostDuties"]


class HostDuties:
    """Keeps count of what a host has asked of one device.

    Args:
        place: The device's name in error messages.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._ring_bytes = -1
        self._in_phase = False
        self._closed = False
        self._max_batch_bytes = 0
        self._batch_bytes = 0
        self._batch = 0
        self._num_copies: dict[int, int] = {}
        self.next_step = 0
        self.gated: set[int] = set()

    def register(self, ring_bytes: int) -> None:
        """Check that the ring is registered once."""
        self._expect(not self._closed, "it is closed", "open another device")
        self._expect(self._ring_bytes < 0, "a ring is registered already", "register once")
        self._expect(ring_bytes > 0, "the ring is empty", "give it at least one slot")
        self._ring_bytes = ring_bytes

    def start(self, max_batch_bytes: int, step_seconds: float) -> None:
        """Check that no phase is open, and begin counting from 0."""
        self._expect(not self._closed, "it is closed", "open another device")
        self._expect(not self._in_phase, "a phase is open already", "finish it first")
        self._expect(max_batch_bytes >= 0, "a batch cannot have negative bytes", "")
        self._expect(step_seconds >= 0, "a step cannot take negative time", "")
        self._in_phase = True
        self._max_batch_bytes = max_batch_bytes
        self._batch = self._batch_bytes = self.next_step = 0
        self._num_copies.clear()
        self.gated.clear()

    def copy(self, piece: int, step: int, offset: int, num_bytes: int) -> None:
        """Check one copy's turn and place."""
        if not self._in_phase:
            self.expect_phase()
        if step != self._batch:
            if step < self._batch:
                self._fail(f"piece {piece} of batch {step} comes after batch {self._batch}")
            self._batch = step
            self._batch_bytes = 0
        if step < self.next_step:
            self._fail(f"piece {piece} of batch {step} comes after its step")
        self._batch_bytes += num_bytes
        self._num_copies[step] = self._num_copies.get(step, 0) + 1
        if offset < 0 or num_bytes < 0 or offset + num_bytes > self._ring_bytes:
            self._fail(f"piece {piece} lies outside the ring (bytes {offset} + {num_bytes})")
        if self._batch_bytes > self._max_batch_bytes:
            self._fail(f"batch {step} is larger than {self._max_batch_bytes} bytes")

    def step(self, step: int, *, gated: bool) -> int:
        """Check one step's turn and return the number of copies of its batch."""
        self.expect_phase()
        if step != self.next_step:
            self._fail(f"step {step} is enqueued where step {self.next_step} is due")
        self.next_step += 1
        if gated:
            self.gated.add(step)
        return self._num_copies.pop(step, 0)

    def release(self, step: int) -> None:
        """Check that the step waits for its release."""
        self.expect_phase()
        if step not in self.gated:
            self._fail(f"step {step} is released but not gated")
        self.gated.discard(step)

    def finish(self) -> None:
        """Check that everything enqueued can end."""
        self.expect_phase()
        if self.gated:
            self._fail(f"step {min(self.gated)} is gated and was never released")
        if self._num_copies and self._batch - BUFFERS >= self.next_step:
            self._fail(f"batch {self._batch} waits for step {self.next_step}, never enqueued")

    def finished(self) -> None:
        """Note the end of the phase."""
        self._in_phase = False

    def close(self) -> None:
        """Refuse everything from now on."""
        self._in_phase = False
        self._closed = True

    def expect_phase(self) -> None:
        """Check that a phase is open."""
        self._expect(not self._closed, "it is closed", "open another device")
        self._expect(self._in_phase, "no phase is open", "call start first")

    def _expect(self, condition: object, problem: str, remedy: str) -> None:
        if not condition:
            raise InfrastructureError(self._place, problem, remedy)

    def _fail(self, problem: str) -> None:
        raise InfrastructureError(self._place, problem, "this is a fault of the caller")
