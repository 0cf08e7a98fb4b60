"""A compute step of known length: a kernel that spins for a number of GPU clock cycles."""

from __future__ import annotations

from typing import Any

__all__ = ["SpinKernel"]

_FIRST_CYCLES = 10_000_000  # about 5 ms at 2 GHz: a first guess
_CALIBRATION_SECONDS = 0.05  # long against a launch (5 us), short against any phase
_RUNS = 4  # a guess, then warm; an idle GPU raises its clocks during the first ones


class SpinKernel:
    """Launches and calibrates torch's spin kernel.

    It occupies one multiprocessor and no memory bandwidth. Its unit is a cycle of the GPU's
    clock, which moves with load and temperature: the device reports measured over calibrated
    step time, and a repeat in which they part is not to be believed.

    Args:
        torch: The module.
        stream: Stream to calibrate on.
    """

    def __init__(self, torch: Any, stream: Any) -> None:
        # The kernel has no public name; it has been where it is since torch 0.4.
        self._sleep = torch.cuda._sleep  # noqa: SLF001
        self._cycles_per_second = self._calibrate(torch, stream)

    def launch(self, seconds: float) -> None:
        """Spin for `seconds` on the current stream."""
        self._sleep(round(seconds * self._cycles_per_second))

    def _calibrate(self, torch: Any, stream: Any) -> float:
        cycles, rate = _FIRST_CYCLES, 0.0
        with torch.cuda.stream(stream):
            for _ in range(_RUNS):
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record(stream)
                self._sleep(cycles)
                end.record(stream)
                end.synchronize()
                rate = cycles / (float(start.elapsed_time(end)) / 1e3)
                cycles = round(rate * _CALIBRATION_SECONDS)
        return rate
