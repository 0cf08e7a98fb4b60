"""A CUDA GPU, through torch: the only module of the room that imports it.

One copy stream, one compute stream, two batch buffers allocated once a phase. What orders
them is in two places: `_enqueue_copy` waits for the step that last used the buffer, `_launch`
waits for the batch's last copy. Two threads wait for events and tell the host; the host's
thread never waits inside a phase. The order is checked without a GPU by the stand-in in
`tests/device/fake_torch_cuda.py`, which fails on every hazard that a missing wait would allow.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from bench.device.base import CopyDone, DeviceEvent, DeviceFacts, StepDone, StepReady
from bench.device.completions import Completions
from bench.device.device_clock import DeviceClock
from bench.device.duties import HostDuties
from bench.device.gpu_facts import gpu_details
from bench.device.launch_queue import Batch, HeldCopy, LaunchQueue, Step
from bench.device.mailbox import Mailbox
from bench.device.spin import SpinKernel
from bench.device.timeline import BUFFERS
from bench.errors import InfrastructureError

__all__ = ["CudaDevice", "import_torch"]


def import_torch() -> Any:
    """Import torch and see that it finds a GPU.

    Raises:
        InfrastructureError: torch is missing, broken, or finds none.
    """
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:  # OSError: a library of CUDA does not load
        raise InfrastructureError(
            "cuda device", f"torch cannot be imported ({error})", "pip install 'bench[gpu]'"
        ) from error
    if not torch.cuda.is_available():
        raise InfrastructureError(
            "cuda device",
            "torch finds no GPU",
            "pip install 'bench[gpu]' on a machine with one, or set plan.device.kind=emulated",
        )
    return torch


class CudaDevice:
    """One GPU; the methods' contract is `bench.device.base.Device`.

    A step spins on the GPU for the calibrated number of cycles and then reads the first and
    the last byte of its batch, as a training step reads its input, so that the order of copies
    and steps is an order of real accesses.

    Args:
        index: Number of the GPU as torch counts.
        torch: The module, or a stand-in for it; None imports it.
        clock: Nanoseconds of CLOCK_MONOTONIC.
    """

    def __init__(
        self,
        index: int,
        *,
        torch: Any = None,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.place = f"cuda device {index}"
        self._torch = torch = import_torch() if torch is None else torch
        if not 0 <= index < torch.cuda.device_count():
            raise InfrastructureError(
                self.place,
                f"torch finds {torch.cuda.device_count()} GPUs",
                "lower plan.gpus_per_node, or make more GPUs visible",
            )
        self._index = index
        self._clock = clock
        self._duties = HostDuties(self.place)
        self._set_device()
        self._copy_stream = torch.cuda.Stream(index)
        self._compute_stream = torch.cuda.Stream(index)
        self._anchor_stream = torch.cuda.Stream(index)
        self._mailbox = Mailbox()
        self._threads = [
            Completions(name, prepare=self._set_device, mailbox=self._mailbox)
            for name in ("bench-copies", "bench-steps")
        ]
        self._copies, self._computes = self._threads
        self._ring: Any = None
        self._registered = False
        self._buffers: list[Any] = []
        self._probe: Any = None
        self._spin: SpinKernel | None = None
        self._device_clock: DeviceClock | None = None
        self._step_seconds = 0.0
        self._busy_ns = self._num_steps = 0
        self._reset()

    def register(self, ring: memoryview) -> None:
        """Pin the ring where it lies."""
        with self._guarded():
            self._duties.register(ring.nbytes)
            torch = self._torch
            self._ring = torch.frombuffer(ring, dtype=torch.uint8)
            cudart = torch.cuda.cudart()
            code = cudart.cudaHostRegister(self._ring.data_ptr(), ring.nbytes, 0)
            if int(code) != 0:
                raise InfrastructureError(
                    self.place,
                    f"cannot pin {ring.nbytes} bytes: {cudart.cudaGetErrorString(code)}",
                    "set a smaller plan.ring_bytes, or raise the memory limit",
                )
            self._registered = True

    def start(self, max_batch_bytes: int, step_seconds: float) -> None:
        """Begin a phase: double buffer, calibration and first anchor where not there yet."""
        with self._guarded():
            self._duties.start(max_batch_bytes, step_seconds)
            torch = self._torch
            self._set_device()
            self._reset()
            wanted = max(1, max_batch_bytes)
            if not self._buffers or self._buffers[0].numel() < wanted:
                self._buffers.clear()
                self._buffers += [
                    torch.empty(wanted, dtype=torch.uint8, device=f"cuda:{self._index}")
                    for _ in range(BUFFERS)
                ]
                self._probe = torch.empty(2, dtype=torch.uint8, device=f"cuda:{self._index}")
                torch.cuda.synchronize(self._index)  # allocated on another stream than used on
            if step_seconds > 0 and self._spin is None:
                self._spin = SpinKernel(torch, self._compute_stream)
            self._step_seconds = step_seconds
            if self._device_clock is None:
                self._device_clock = DeviceClock(self._record_anchor, clock=self._clock)

    def copy(self, piece: int, step: int, offset: int, num_bytes: int) -> None:
        """Enqueue one copy; hold it back while the step that frees its buffer is not launched."""
        with self._guarded():
            self._duties.copy(piece, step, offset, num_bytes)
            self._queue.add_copy((piece, step, offset, num_bytes))
            self._flush()

    def step(self, step: int, *, gated: bool = False) -> None:
        """Enqueue one step behind the copies of its batch."""
        with self._guarded():
            num_copies = self._duties.step(step, gated=gated)
            self._queue.add_step(step, self._clock(), num_copies, gated=gated)
            self._flush()

    def release(self, step: int, not_before_ns: int) -> None:
        """Launch a gated step as soon as its turn comes; a GPU cannot wait for an instant."""
        del not_before_ns
        with self._guarded():
            self._duties.release(step)
            self._queue.release(step)
            self._flush()

    def fileno(self) -> int:
        """Return a descriptor that polls readable while events wait, or after a failure."""
        return self._mailbox.fileno()

    def events(self) -> list[DeviceEvent]:
        """Return what happened since the last call."""
        with self._guarded():
            return self._mailbox.take()

    def finish(self) -> list[DeviceEvent]:
        """Wait for both streams and both threads, and anchor the clock a last time."""
        with self._guarded():
            self._duties.finish()
            for thread in self._threads:
                thread.drain()
            self._raise_failure()
            self._torch.cuda.synchronize(self._index)
            if self._device_clock is not None:
                self._device_clock.anchor()
            self._duties.finished()
            return self._mailbox.take()

    def facts(self) -> DeviceFacts:
        """Return the GPU's description and how the calibrated step held."""
        details = gpu_details(self._torch, self._index)
        if self._num_steps and self._step_seconds:
            measured = self._busy_ns / self._num_steps / 1e9
            details["calibrated_step_seconds"] = f"{self._step_seconds:.9f}"
            details["measured_step_seconds"] = f"{measured:.9f}"
            details["compute_dilation_ratio"] = f"{measured / self._step_seconds:.6f}"
        error = None if self._device_clock is None else self._device_clock.error_seconds
        name = str(self._torch.cuda.get_device_name(self._index))
        return DeviceFacts("cuda", name, "bytes", None, error, details)

    def close(self) -> None:
        """Wait for what is on the device, stop the threads, unpin, free."""
        self._duties.close()
        with suppress(RuntimeError):  # a lost device has nothing in flight
            self._torch.cuda.synchronize(self._index)
        for thread in self._threads:
            thread.close()
        if self._registered:
            self._registered = False
            with suppress(RuntimeError):
                self._torch.cuda.cudart().cudaHostUnregister(self._ring.data_ptr())
        self._ring = self._probe = None
        self._buffers.clear()
        self._mailbox.close()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Raise what a thread or torch itself failed with as our error."""
        self._raise_failure()
        try:
            yield
        except RuntimeError as error:  # torch raises no narrower class for errors of CUDA
            raise InfrastructureError(self.place, f"CUDA failed: {error}") from error

    def _raise_failure(self) -> None:
        for thread in self._threads:
            if thread.failure is not None:
                raise InfrastructureError(
                    self.place, f"waiting for the GPU failed: {thread.failure}"
                ) from thread.failure

    def _flush(self) -> None:
        """Put on the streams all that may go now, in order."""
        while True:
            for copy, batch in self._queue.copies():
                self._enqueue_copy(copy, batch)
            if (step := self._queue.announced()) is not None:
                self._computes.put(partial(self._await_ready, step))
            if (step := self._queue.launched()) is None:
                return
            self._launch(step)

    def _enqueue_copy(self, copy: HeldCopy, batch: Batch) -> None:
        piece, number, offset, num_bytes = copy
        stream = self._copy_stream
        if batch.num_copies == 0 and number >= BUFFERS:
            stream.wait_event(self._ends[number - BUFFERS])
        start, end = self._new_event(), self._new_event()
        at = batch.num_bytes
        with self._torch.cuda.stream(stream):
            start.record(stream)
            self._buffers[number % BUFFERS][at : at + num_bytes].copy_(
                self._ring[offset : offset + num_bytes], non_blocking=True
            )
            end.record(stream)
        batch.num_copies += 1
        batch.num_bytes += num_bytes
        batch.last = end
        self._copies.put(partial(self._await_copy, piece, start, end))

    def _launch(self, step: Step) -> None:
        batch, number = step.batch, step.number
        stream = self._compute_stream
        start, end = self._new_event(), self._new_event()
        with self._torch.cuda.stream(stream):
            if batch.last is not None:
                stream.wait_event(batch.last)
            start.record(stream)  # after the wait: waiting is a gap, not part of the step
            if self._spin is not None and self._step_seconds > 0:
                self._spin.launch(self._step_seconds)
            if batch.num_bytes > 1:
                ends = self._buffers[number % BUFFERS][: batch.num_bytes : batch.num_bytes - 1]
                self._probe.copy_(ends, non_blocking=True)
            end.record(stream)
        self._ends[number] = end
        self._ends.pop(number - BUFFERS, None)
        self._computes.put(partial(self._await_step, step, start, end))

    def _await_copy(self, piece: int, start: Any, end: Any) -> None:
        end.synchronize()
        self._mailbox.put(CopyDone(piece, self._host_ns(start), self._host_ns(end)))

    def _await_ready(self, step: Step) -> None:
        self._mailbox.put(StepReady(step.number, self._ready_ns(step)))

    def _await_step(self, step: Step, start: Any, end: Any) -> None:
        ready_ns = self._ready_ns(step)
        end.synchronize()
        start_ns, end_ns = self._host_ns(start), self._host_ns(end)
        self._last_end_ns = end_ns
        self._busy_ns += end_ns - start_ns
        self._num_steps += 1
        self._mailbox.put(StepDone(step.number, ready_ns, start_ns, end_ns))

    def _ready_ns(self, step: Step) -> int:
        """Return max(end of the last copy, enqueue, end of the step before), once it is known."""
        ready = max(step.enqueued_ns, self._last_end_ns)
        if (last := step.batch.last) is not None:
            last.synchronize()
            ready = max(ready, self._host_ns(last))
        return ready

    def _host_ns(self, event: Any) -> int:
        if self._device_clock is None:
            raise InfrastructureError(self.place, "no phase was started")
        return self._device_clock.host_ns(event)

    def _new_event(self) -> Any:
        # blocking: synchronize sleeps instead of taking a core from the readers
        return self._torch.cuda.Event(enable_timing=True, blocking=True)

    def _record_anchor(self) -> Any:
        event = self._torch.cuda.Event(enable_timing=True)
        event.record(self._anchor_stream)
        return event

    def _set_device(self) -> None:
        self._torch.cuda.set_device(self._index)

    def _reset(self) -> None:
        """Count batches and steps from 0."""
        self._queue = LaunchQueue()
        self._ends: dict[int, Any] = {}
        self._last_end_ns = 0
        self._busy_ns = self._num_steps = 0
