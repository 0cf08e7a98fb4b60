"""Maps instants of a GPU's clock to the host's.

A GPU stamps events with its own clock, readable only as differences of two events, in
float32 milliseconds. Two things follow. The two clocks drift apart by tens of parts per
million, milliseconds over a run, so one offset is not enough; and a difference over minutes
is coarse (at 300 s a float32 millisecond steps by 31 us), so events must be measured against
a near one. Hence *anchors*: events on a stream of their own, recorded and waited for, with
the host's clock read before and after. One every quarter second keeps a difference to 30 ns
and the extrapolation to the next anchor to about a microsecond.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["ANCHOR_INTERVAL_NS", "DeviceClock"]

ANCHOR_INTERVAL_NS = 250_000_000
_MIN_BASE_NS = 1_000_000_000  # below this, an anchor's own error exceeds the drift
_TRIES = 5
_NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class _Anchor:
    event: Any
    device_ns: float
    host_ns: float
    half_width_ns: float


class DeviceClock:
    """One GPU's clock, as seen from the host's.

    Args:
        record: Makes an event with timing, records it on an otherwise idle stream and returns
            it. The event's wait must spin, not block, since the wake-up would be measured too.
        clock: Nanoseconds of CLOCK_MONOTONIC.
    """

    def __init__(self, record: Callable[[], Any], *, clock: Callable[[], int]) -> None:
        self._record = record
        self._clock = clock
        self._lock = threading.Lock()
        self._error_ns: float | None = None
        self._first = self._last = self._observe(None)

    @property
    def error_seconds(self) -> float:
        """Largest residual of an anchor against its prediction, or an anchor's own width."""
        return max(self._error_ns or 0.0, self._first.half_width_ns) / 1e9

    def host_ns(self, event: Any) -> int:
        """Return the host-clock instant of a completed event; may set a new anchor after it."""
        with self._lock:
            instant = self._predict(self._device_ns(event))
            if self._clock() - self._last.host_ns >= ANCHOR_INTERVAL_NS:
                self._anchor()
        return round(instant)

    def anchor(self) -> None:
        """Set an anchor now: at the end of a phase, so that the error covers all of it."""
        with self._lock:
            self._anchor()

    def _anchor(self) -> None:
        seen = self._observe(self._last)
        residual = abs(self._predict(seen.device_ns) - seen.host_ns)
        self._error_ns = max(self._error_ns or 0.0, residual, seen.half_width_ns)
        self._last = seen

    def _observe(self, near: _Anchor | None) -> _Anchor:
        """Take the anchor that was pinned down best among a few."""
        best: tuple[int, int, Any] | None = None
        for _ in range(_TRIES):
            before = self._clock()
            event = self._record()
            event.synchronize()
            after = self._clock()
            if best is None or after - before < best[0]:
                best = (after - before, before, event)
        width, before, event = best or (0, 0, None)  # _TRIES is positive
        device_ns = 0.0 if near is None else self._device_ns(event)
        return _Anchor(event, device_ns, before + width / 2, width / 2)

    def _device_ns(self, event: Any) -> float:
        """Return an event's instant on the GPU's clock; before the last anchor it is negative."""
        return self._last.device_ns + float(self._last.event.elapsed_time(event)) * _NS_PER_MS

    def _predict(self, device_ns: float) -> float:
        last, first = self._last, self._first
        rate = 1.0
        if last.device_ns - first.device_ns >= _MIN_BASE_NS:
            rate = (last.host_ns - first.host_ns) / (last.device_ns - first.device_ns)
        return last.host_ns + (device_ns - last.device_ns) * rate
