"""The replay phases of a repeat: what the accelerator's gaps are when storage plays no part."""

from __future__ import annotations

from collections.abc import Iterator

from bench.device.base import CopyDone, Device
from bench.loader.planner import PlannedStep
from bench.loader.ring import Ring

__all__ = ["REPLAY_STEPS", "REPLAY_STEP_SECONDS", "copy_rate", "replay_steps"]

REPLAY_STEPS = 40
"""Steps of the device-resident replay R0: enough for a median that one odd gap cannot move."""

REPLAY_STEP_SECONDS = 0.004
"""Longest step of R0. Launch overhead does not depend on the step's length, so R0 need not
take as long as training steps would."""

COPY_BYTES = 256 * 2**20
"""Most bytes that the link's replay R1 copies."""


def replay_steps() -> Iterator[PlannedStep]:
    """Yield R0's steps: no pieces, since their batches are on the device already."""
    for step in range(REPLAY_STEPS):
        yield PlannedStep(step, 0, 0, 0, [])


def copy_rate(device: Device, ring: Ring) -> float | None:
    """Copy what lies in the ring to the device (R1) and return bytes per second.

    This is `ceilings.h2d`; None where copies take no time.
    """
    slots = min(ring.num_slots, max(1, COPY_BYTES // ring.slot_bytes))
    device.start(slots * ring.slot_bytes, 0.0)
    for slot in range(slots):
        device.copy(slot, 0, slot * ring.slot_bytes, ring.slot_bytes)
    device.step(0)
    copies = [event for event in device.finish() if isinstance(event, CopyDone)]
    if len(copies) < 2:
        return None
    first, last = copies[0], copies[-1]
    seconds = (last.end_ns - first.end_ns) / 1e9
    return (len(copies) - 1) * ring.slot_bytes / seconds if seconds > 0 else None
