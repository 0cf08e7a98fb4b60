"""The stand-in catches every order that the CUDA device could fail to establish.

Each test plants one fault, in the device or in the host that drives it, and sees it reported;
`test_a_correct_host_on_the_correct_device_is_clean` sees that nothing else is.
"""

from __future__ import annotations

import gc
import mmap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from device_conformance import SLOT_BYTES, Host
from fake_torch_cuda import ALREADY_REGISTERED, FakeGpu, FakeTorch, HazardError
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.device.base import CopyDone
from bench.device.cuda import CudaDevice
from bench.errors import InfrastructureError

Fault = Callable[[CudaDevice, FakeTorch], None]


@contextmanager
def opened(fault: Fault | None = None, *, num_slots: int = 8) -> Iterator[tuple[Host, FakeGpu]]:
    """Open a device on the stand-in with a fault in it; swallow what the fault breaks."""
    torch = FakeTorch()
    memory = mmap.mmap(-1, num_slots * SLOT_BYTES)
    ring = memoryview(memory)
    device = CudaDevice(0, torch=torch)
    if fault is not None:
        fault(device, torch)
    try:
        device.register(ring)
        yield Host(device, ring), torch.gpu
    finally:
        with suppress(HazardError):
            device.close()
        ring.release()


def drive(host: Host, *, batches: int = 4, pieces: int = 3) -> None:
    """Run batches whose steps are long against their copies, then end the phase."""
    host.device.start(pieces * SLOT_BYTES, 0.002)
    for step in range(batches):
        host.batch(step, pieces)
    host.finish()


def hazards_of(fault: Fault) -> list[str]:
    """Return the hazards that a correct host meets on a device with this fault."""
    with opened(fault) as (host, gpu):
        with suppress(HazardError, InfrastructureError):
            drive(host)
        return list(gpu.hazards)


def drops_wait(stream: str) -> Fault:
    def fault(device: CudaDevice, torch: FakeTorch) -> None:
        getattr(device, stream).wait_event = lambda event: None

    return fault


def test_a_step_that_does_not_wait_for_its_copies_is_caught() -> None:
    [hazard, *_] = hazards_of(drops_wait("_compute_stream"))
    assert hazard.startswith("a step's read of its batch is not ordered behind the copy from")
    assert hazard.endswith("ring byte 28672")


def test_a_copy_into_a_buffer_that_a_step_may_still_read_is_caught() -> None:
    [hazard, *_] = hazards_of(drops_wait("_copy_stream"))
    assert hazard.startswith("the copy from ring byte")
    assert hazard.endswith("is not ordered behind a step's read of its batch")


def test_waiting_for_an_event_that_was_never_recorded_is_caught() -> None:
    def fault(device: CudaDevice, torch: FakeTorch) -> None:
        stream = device._copy_stream
        real = stream.wait_event
        stream.wait_event = lambda event: real(torch.cuda.Event())

    [hazard, *_] = hazards_of(fault)
    assert "never recorded" in hazard


def test_copies_outside_the_copy_stream_are_caught() -> None:
    def fault(device: CudaDevice, torch: FakeTorch) -> None:
        @contextmanager
        def ignored(stream: object) -> Iterator[None]:
            yield

        torch.cuda.stream = ignored

    # Copies, spins and reads all land on the default stream, and its events elsewhere.
    assert any("nobody waited for" in h or "refilled" in h for h in hazards_of(fault))


def test_a_copy_that_its_event_does_not_cover_is_caught() -> None:
    class Early(CudaDevice):
        """Records both events before the copy."""

        def _new_event(self) -> Any:
            event = super()._new_event()
            event.record(self._copy_stream)
            event.record = lambda stream: None
            return event

    torch = FakeTorch()
    device = Early(0, torch=torch)
    memory = memoryview(bytearray(8 * SLOT_BYTES))
    device.register(memory)
    host = Host(device, memory)
    with suppress(HazardError, InfrastructureError):
        drive(host)
    assert torch.gpu.hazards
    device.close()


def test_a_slot_handed_back_before_its_copy_ended_is_caught() -> None:
    def fault(device: CudaDevice, torch: FakeTorch) -> None:
        def await_copy(piece: int, start: object, end: object) -> None:
            device._mailbox.put(CopyDone(piece, 0, 0))  # without waiting

        device._await_copy = await_copy  # type: ignore[method-assign]

    with opened(fault, num_slots=2) as (host, gpu):
        host.device.start(3 * SLOT_BYTES, 0.002)
        with gpu.stopped():  # however slow the GPU
            for step in range(2):
                host.batch(step, 3)
        host.finish()
        assert any("the slot was refilled before" in h for h in gpu.hazards)


def test_instants_read_before_waiting_are_caught() -> None:
    def fault(device: CudaDevice, torch: FakeTorch) -> None:
        event = device._new_event
        device._new_event = lambda: without_wait(event())  # type: ignore[method-assign]

    def without_wait(event: Any) -> Any:
        event.synchronize = lambda: None
        return event

    assert "elapsed_time of an event that nobody waited for" in hazards_of(fault)


def test_events_without_timing_are_caught() -> None:
    def fault(device: CudaDevice, torch: FakeTorch) -> None:
        real = torch.cuda.Event
        torch.cuda.Event = lambda enable_timing=False, blocking=False: real(blocking=blocking)

    assert "elapsed_time of an event without timing" in hazards_of(fault)


def test_copying_from_memory_that_is_not_pinned_is_caught() -> None:
    def fault(device: CudaDevice, torch: FakeTorch) -> None:
        torch.cudaHostRegister = lambda pointer, size, flags: 0  # type: ignore[method-assign]

    assert hazards_of(fault)[0] == "a non-blocking copy from memory that is not pinned"


def test_unpinning_under_a_copy_is_caught() -> None:
    def fault(device: CudaDevice, torch: FakeTorch) -> None:
        torch.cuda.synchronize = lambda index: None

    with opened(fault) as (host, gpu):
        host.device.start(3 * SLOT_BYTES, 0.002)
        gpu.fail_waits_with = RuntimeError("not waiting")  # nor do the threads
        host.batch(0, 3)
        with pytest.raises(HazardError, match="unpinned under the copy"):
            host.device.close()


def test_freeing_device_memory_under_a_copy_is_caught() -> None:
    def fault(device: CudaDevice, torch: FakeTorch) -> None:
        real = device._enqueue_copy

        def copy_into_new_memory(*args: Any) -> None:
            device._buffers[:] = [torch.empty(3 * SLOT_BYTES, dtype="uint8", device="cuda:0")] * 2
            real(*args)

        device._enqueue_copy = copy_into_new_memory  # type: ignore[method-assign]

    with opened(fault) as (host, gpu):
        host.device.start(3 * SLOT_BYTES, 0.0)
        with gpu.stopped():
            for _ in range(3):
                host.copy(0)
            gc.collect()
            assert any("device memory is freed under the copy" in h for h in gpu.hazards)


def test_one_buffer_for_all_batches_is_caught() -> None:
    def fault(device: CudaDevice, torch: FakeTorch) -> None:
        real = device._enqueue_copy

        def one_buffer(*args: Any) -> None:
            device._buffers[:] = [device._buffers[0]] * 2
            real(*args)

        device._enqueue_copy = one_buffer  # type: ignore[method-assign]

    [hazard, *_] = hazards_of(fault)
    assert hazard.endswith("is not ordered behind a step's read of its batch")


def test_a_host_that_refills_a_slot_too_early_is_caught() -> None:
    with opened() as (host, gpu):
        host.device.start(2 * SLOT_BYTES, 0.0)
        with gpu.stopped():
            piece = host.copy(0)
            slot = host.slots[piece]
            host.ring[slot * SLOT_BYTES : slot * SLOT_BYTES + 4] = b"next"
        host.step(0)
        host.finish()
        assert gpu.hazards == [
            f"the slot was refilled before the copy from ring byte {slot * SLOT_BYTES} ended"
        ]


def test_pinning_twice_is_refused_and_said() -> None:
    torch = FakeTorch()
    ring = memoryview(bytearray(SLOT_BYTES))
    first, second = CudaDevice(0, torch=torch), CudaDevice(0, torch=torch)
    first.register(ring)
    with pytest.raises(InfrastructureError, match=f"error {ALREADY_REGISTERED}"):
        second.register(ring)
    second.close()
    assert len(torch.pinned) == 1, "the other's pinning was undone"
    first.close()
    assert torch.pinned == {}


def test_the_hosts_thread_never_waits_inside_a_phase() -> None:
    with opened() as (host, gpu):
        host.device.start(3 * SLOT_BYTES, 0.001)
        gpu.waits.clear()
        for step in range(6):
            host.batch(step, 3, gated=step % 2 == 1)
            if step % 2 == 1:
                host.device.release(step, 0)
        assert threading.current_thread().name not in {thread for thread, _ in gpu.waits}
        host.finish()


def test_a_failing_wait_is_raised_by_the_next_call_and_finish_does_not_hang() -> None:
    with opened() as (host, gpu):
        host.device.start(3 * SLOT_BYTES, 0.0)
        gpu.fail_waits_with = RuntimeError("an illegal memory access was encountered")
        host.batch(0, 3)
        with pytest.raises(InfrastructureError, match="illegal memory access"):
            host.device.finish()
        with pytest.raises(InfrastructureError, match="illegal memory access"):
            host.device.events()


@settings(max_examples=30, deadline=None)
@given(
    phases=st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=8),
        min_size=1,
        max_size=2,
    ),
    num_slots=st.integers(1, 6),
    late_release=st.booleans(),
)
def test_a_correct_host_on_the_correct_device_is_clean(
    phases: list[list[tuple[int, bool]]], num_slots: int, late_release: bool
) -> None:
    with opened(num_slots=num_slots) as (host, gpu):
        for batches in phases:
            host.events.clear()
            host.batches.clear()
            host.device.start(5 * SLOT_BYTES, 0.0001)
            owed: list[int] = []
            for step, (pieces, gated) in enumerate(batches):
                for _ in range(pieces):
                    while not host.free and owed:  # a slot may wait for a step that we hold
                        host.device.release(owed.pop(0), 0)
                    host.copy(step)
                host.step(step, gated=gated)
                if gated:
                    owed.append(step)
                if not late_release and owed:
                    host.device.release(owed.pop(0), 0)
            for step in owed:
                host.device.release(step, 0)
            host.finish()
            assert [s.step for s in host.steps] == list(range(len(batches)))
            for step in list(host.batches)[-2:]:
                if step >= len(batches) - 2:
                    sent = b"".join(host.sent[p] for p in host.batches[step])
                    assert bytes(host.device._buffers[step % 2].data[: len(sent)]) == sent
        assert gpu.hazards == []
    assert gpu.hazards == []
