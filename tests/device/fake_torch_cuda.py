"""A stand-in for the torch and CUDA calls of `bench.device.cuda` that fails on hazards.

It models what CUDA promises and no more:

- A stream runs its operations in order; streams run beside each other and beside the host.
- Order between streams comes from events alone; order towards the host from synchronising.
- Every operation has an instant (on a GPU clock with another origin and rate than the
  host's), but its *effect* on memory happens as late as the synchronisation that the code
  asked for allows: when the host waits for something behind it. An order that is merely
  likely is therefore never observed here.

Each operation knows the set of operations that certainly precede it (its stream's earlier
ones, those behind events that it waits for, those that the enqueuing thread has itself
synchronised with). An access to memory that conflicts with an earlier one outside that set is
a hazard, whatever the clock says. What one thread learnt by synchronising does not order what
another thread enqueues: that would be order by luck.

Hazards are kept in `hazards`, and raised by the call that makes them.
"""

from __future__ import annotations

import ctypes
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

ALREADY_REGISTERED = 712  # cudaErrorHostMemoryAlreadyRegistered
NOT_REGISTERED = 713  # cudaErrorHostMemoryNotRegistered
LONGEST_WAIT_NS = 600 * 10**9
"""No test enqueues work of this length; a step calibrated on the wrong stream does."""


class HazardError(AssertionError):
    """An order that the code relies on is not guaranteed."""


@dataclass(slots=True)
class Access:
    """Bytes of one memory that an operation reads or writes: [start, stop) by `step`."""

    memory: int
    start: int
    stop: int
    step: int
    writes: bool

    def overlaps(self, other: Access) -> bool:
        if self.memory != other.memory:
            return False
        mine, theirs = self.span, other.span
        low, high = max(mine.start, theirs.start), min(mine.stop, theirs.stop)
        if low >= high:
            return False
        if self.step == 1 and other.step == 1:
            return True
        return not set(mine).isdisjoint(theirs)

    @property
    def span(self) -> range:
        return range(self.start, self.stop, self.step)


@dataclass(slots=True)
class Operation:
    """One thing on one stream."""

    number: int
    name: str
    before: int  # bit set of the operations that certainly come first, itself included
    start_ns: int
    end_ns: int
    accesses: list[Access] = field(default_factory=list)
    effect: Callable[[], None] | None = None
    done: bool = False


class FakeGpu:
    """The simulated device: streams' operations, their order, their instants, their effects.

    Args:
        copy_bytes_per_second: Speed of host-to-device copies.
        drift: By how much the GPU's clock runs faster than the host's, as a ratio.
    """

    def __init__(self, *, copy_bytes_per_second: float = 10e9, drift: float = 5e-5) -> None:
        self.hazards: list[str] = []
        self.pinned: dict[int, int] = {}
        self.waits: list[tuple[str, str]] = []
        self.register_code = 0
        self.fail_waits_with: Exception | None = None
        self.read_from_batches: list[bytes] = []
        self._copy_rate = copy_bytes_per_second
        self._drift = drift
        self._origin_ns = time.perf_counter_ns() - 123_456_789
        self._lock = threading.RLock()
        self._running = threading.Event()
        self._running.set()
        self._operations: list[Operation] = []
        self._streams: dict[int, Operation] = {}
        self._waiting: dict[int, list[Operation]] = {}
        self._known = threading.local()
        self._num_memories = 0

    # ------------------------------------------------------------------ what tests steer

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let nothing end on the device meanwhile, as if it were infinitely slow."""
        self._running.clear()
        try:
            yield
        finally:
            self._running.set()

    def run_all(self) -> None:
        """Let every operation take effect."""
        with self._lock:
            for operation in self._operations:
                self._take_effect(operation)

    # ------------------------------------------------------------------ what the module uses

    def hazard(self, text: str) -> None:
        self.hazards.append(text)
        raise HazardError(text)

    def new_memory(self) -> int:
        with self._lock:
            self._num_memories += 1
            return self._num_memories

    def enqueue(
        self,
        stream: int,
        name: str,
        *,
        duration_ns: int = 0,
        accesses: list[Access] | None = None,
        effect: Callable[[], None] | None = None,
    ) -> Operation:
        with self._lock:
            behind = [self._streams[stream]] if stream in self._streams else []
            behind += self._waiting.pop(stream, [])
            number = len(self._operations)
            before = 1 << number | getattr(self._known, "done", 0)
            start = time.perf_counter_ns()
            for other in behind:
                before |= other.before
                start = max(start, other.end_ns)
            new = Operation(
                number, name, before, start, start + duration_ns, accesses or [], effect
            )
            self._check_order(new)
            self._operations.append(new)
            self._streams[stream] = new
            return new

    def stream_waits(self, stream: int, operation: Operation) -> None:
        with self._lock:
            self._waiting.setdefault(stream, []).append(operation)

    def synchronize(self, operation: Operation, name: str) -> None:
        """Block until the operation has ended; everything before it has taken effect then."""
        self.waits.append((threading.current_thread().name, name))
        if self.fail_waits_with is not None:
            raise self.fail_waits_with
        self._running.wait()
        while (left := operation.end_ns - time.perf_counter_ns()) > 0:
            if left > LONGEST_WAIT_NS:
                self.hazard(f"{name}: nobody waited for {operation.name}, which never ends")
                raise HazardError(self.hazards[-1])
            time.sleep(left / 1e9)
        with self._lock:
            for number in range(operation.number + 1):
                if operation.before >> number & 1:
                    self._take_effect(self._operations[number])
            self._known.done = getattr(self._known, "done", 0) | operation.before

    def last_of(self, stream: int) -> Operation | None:
        return self._streams.get(stream)

    def device_ms(self, operation: Operation) -> float:
        return (operation.end_ns - self._origin_ns) * (1 + self._drift) / 1e6

    def in_flight(self, memory: int, start: int, stop: int) -> list[str]:
        """Return the operations on these bytes that have not taken effect."""
        probe = Access(memory, start, stop, 1, writes=True)
        with self._lock:
            return [
                operation.name
                for operation in self._operations
                if not operation.done and any(a.overlaps(probe) for a in operation.accesses)
            ]

    @property
    def streams(self) -> list[int]:
        return list(self._streams)

    def copy_ns(self, num_bytes: int) -> int:
        return round(num_bytes / self._copy_rate * 1e9)

    def _check_order(self, new: Operation) -> None:
        if not new.accesses:
            return
        for old in self._operations:
            if not old.accesses or new.before >> old.number & 1:
                continue
            for mine in new.accesses:
                for theirs in old.accesses:
                    if (mine.writes or theirs.writes) and mine.overlaps(theirs):
                        self.hazard(f"{new.name} is not ordered behind {old.name}")

    def _take_effect(self, operation: Operation) -> None:
        if not operation.done:
            operation.done = True
            effect, operation.effect = operation.effect, None
            if effect is not None:
                effect()


class Tensor:
    """Bytes on the host or on the device, or a slice of them."""

    def __init__(self, gpu: FakeGpu, data: Any, *, memory: int, on_device: bool) -> None:
        self._gpu = gpu
        self.data = data
        self.memory = memory
        self.on_device = on_device
        self.base: Tensor | None = None
        self.span = range(len(data))

    def __getitem__(self, key: slice) -> Tensor:
        part = Tensor(self._gpu, self.data[key], memory=self.memory, on_device=self.on_device)
        part.base = self.base or self
        part.span = self.span[key]
        return part

    def numel(self) -> int:
        return len(self.data)

    def data_ptr(self) -> int:
        return int(self.data.ctypes.data)

    def access(self, *, writes: bool) -> Access:
        return Access(self.memory, self.span.start, self.span.stop, self.span.step, writes)

    def copy_(self, source: Tensor, non_blocking: bool = False) -> Tensor:
        gpu = self._gpu
        assert self.numel() == source.numel(), "sizes differ"
        assert self.on_device, "only copies to the device are modelled"
        stream = current_stream(gpu)
        assert non_blocking, "a blocking copy stops the host"
        target, origin = self.data, source.data
        if source.on_device:
            gpu.enqueue(
                stream.number,
                "a step's read of its batch",
                accesses=[self.access(writes=True), source.access(writes=False)],
                effect=lambda: gpu.read_from_batches.append(bytes(origin)),
            )
            return self
        if not is_pinned(gpu, source):
            gpu.hazard("a non-blocking copy from memory that is not pinned")
        expected = bytes(origin)
        where = f"the copy from ring byte {source.span.start}"

        def move() -> None:
            if bytes(origin) != expected:
                gpu.hazards.append(f"the slot was refilled before {where} ended")
            target[:] = origin

        gpu.enqueue(
            stream.number,
            where,
            duration_ns=gpu.copy_ns(self.numel()),
            accesses=[self.access(writes=True), source.access(writes=False)],
            effect=move,
        )
        return self


class Stream:
    """A stream; number 0 is the default one."""

    def __init__(self, gpu: FakeGpu, number: int) -> None:
        self._gpu = gpu
        self.number = number

    def wait_event(self, event: Event) -> None:
        if event.operation is None:
            self._gpu.hazard("a stream waits for an event that was never recorded: no wait at all")
            return
        self._gpu.stream_waits(self.number, event.operation)


class Event:
    """An event."""

    def __init__(self, gpu: FakeGpu, *, enable_timing: bool, blocking: bool) -> None:
        self._gpu = gpu
        self._timing = enable_timing
        self.blocking = blocking
        self.operation: Operation | None = None

    def record(self, stream: Stream) -> None:
        self.operation = self._gpu.enqueue(stream.number, "an event")

    def synchronize(self) -> None:
        if self.operation is not None:
            self._gpu.synchronize(self.operation, "event")

    def elapsed_time(self, end: Event) -> float:
        gpu = self._gpu
        for event in (self, end):
            if event.operation is None:
                gpu.hazard("elapsed_time of an event that was never recorded")
            if not event._timing:
                gpu.hazard("elapsed_time of an event without timing")
            if event.operation is not None and not event.operation.done:
                gpu.hazard("elapsed_time of an event that nobody waited for")
        assert self.operation is not None
        assert end.operation is not None
        difference = gpu.device_ms(end.operation) - gpu.device_ms(self.operation)
        return float(np.float32(difference))


_current = threading.local()


def current_stream(gpu: FakeGpu) -> Stream:
    return getattr(_current, "stream", None) or Stream(gpu, 0)


def is_pinned(gpu: FakeGpu, tensor: Tensor) -> bool:
    first = tensor.data_ptr()
    return any(
        start <= first and first + tensor.numel() <= start + size
        for start, size in gpu.pinned.items()
    )


class FakeTorch:
    """What `bench.device.cuda` uses of the module `torch`, on one simulated GPU."""

    __version__ = "0.0+stand-in"

    def __init__(self, gpu: FakeGpu | None = None, *, available: bool = True) -> None:
        self.gpu = gpu or FakeGpu()
        self.uint8 = "uint8"
        self.version = SimpleNamespace(cuda="0.0")
        self.host_memory: dict[int, int] = {}
        self._streams = 0
        self.cuda = SimpleNamespace(
            is_available=lambda: available,
            device_count=lambda: 1 if available else 0,
            set_device=lambda index: None,
            Stream=self._stream,
            Event=lambda enable_timing=False, blocking=False: Event(
                self.gpu, enable_timing=enable_timing, blocking=blocking
            ),
            stream=self._using,
            synchronize=self._synchronize,
            cudart=lambda: self,
            get_device_name=lambda index: "Stand-in",
            get_device_properties=lambda index: SimpleNamespace(),
            _sleep=self._sleep,
        )

    def frombuffer(self, buffer: memoryview, *, dtype: str) -> Tensor:
        assert dtype == self.uint8
        data = np.frombuffer(buffer, dtype=np.uint8)
        memory = self.host_memory.setdefault(int(data.ctypes.data), self.gpu.new_memory())
        return Tensor(self.gpu, data, memory=memory, on_device=False)

    def empty(self, size: int, *, dtype: str, device: str) -> Tensor:
        assert dtype == self.uint8
        assert device == "cuda:0"
        tensor = Tensor(
            self.gpu, np.zeros(size, np.uint8), memory=self.gpu.new_memory(), on_device=True
        )
        weakref.finalize(tensor, self._freed, self.gpu, tensor.memory, size)
        return tensor

    def cudaHostRegister(self, pointer: int, size: int, flags: int) -> int:  # noqa: N802
        assert flags == 0
        if self.gpu.register_code:
            return self.gpu.register_code
        if any(start < pointer + size and pointer < start + n for start, n in self.pinned.items()):
            return ALREADY_REGISTERED
        ctypes.string_at(pointer, 1)  # it must be mapped
        self.pinned[pointer] = size
        return 0

    def cudaHostUnregister(self, pointer: int) -> int:  # noqa: N802
        if pointer not in self.pinned:
            return NOT_REGISTERED
        memory = self.host_memory[pointer]
        if busy := self.gpu.in_flight(memory, 0, self.pinned[pointer]):
            self.gpu.hazard(f"memory is unpinned under {busy[0]}")
        del self.pinned[pointer]
        return 0

    def cudaGetErrorString(self, code: int) -> str:  # noqa: N802
        return f"error {code}"

    @property
    def pinned(self) -> dict[int, int]:
        return self.gpu.pinned

    def _stream(self, index: int) -> Stream:
        assert index == 0
        self._streams += 1
        return Stream(self.gpu, self._streams)

    @contextmanager
    def _using(self, stream: Stream) -> Iterator[None]:
        outer = getattr(_current, "stream", None)
        _current.stream = stream
        try:
            yield
        finally:
            _current.stream = outer

    def _synchronize(self, index: int) -> None:
        assert index == 0
        for stream in self.gpu.streams:
            if (last := self.gpu.last_of(stream)) is not None:
                self.gpu.synchronize(last, "device")

    def _sleep(self, cycles: int) -> None:
        """Spin; a cycle of this GPU is 0.7 ns, so that a wrong calibration shows."""
        stream = current_stream(self.gpu)
        self.gpu.enqueue(stream.number, "a spin kernel", duration_ns=round(cycles * 0.7))

    @staticmethod
    def _freed(gpu: FakeGpu, memory: int, size: int) -> None:
        if busy := gpu.in_flight(memory, 0, size):
            gpu.hazards.append(f"device memory is freed under {busy[0]}")
