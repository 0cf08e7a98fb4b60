"""Opens the device that a plan asks for."""

from __future__ import annotations

import importlib.util

from bench.device.base import Device
from bench.device.emulated import EmulatedDevice
from bench.errors import InfrastructureError
from bench.spec.plan import DeviceSettings

__all__ = ["open_device"]


def open_device(settings: DeviceSettings, *, accelerator: str, local_rank: int) -> Device:
    """Open one accelerator for one rank.

    Args:
        settings: From the plan. "auto" takes a GPU where torch is installed and finds one.
        accelerator: Name of the step time; names the emulated device.
        local_rank: Rank within the node; the GPU of that number is taken.

    Raises:
        InfrastructureError: A GPU is asked for and there is none for this rank.
    """
    if settings.kind == "cuda" or (settings.kind == "auto" and _finds_gpu()):
        from bench.device.cuda import CudaDevice

        return CudaDevice(local_rank)
    return EmulatedDevice(
        accelerator,
        copy_mode=settings.copy_mode,
        link_bytes_per_second=settings.link_bytes_per_second,
    )


def _finds_gpu() -> bool:
    """Say whether torch is there and finds a GPU; torch is not imported where it is missing."""
    if importlib.util.find_spec("torch") is None:
        return False
    from bench.device.cuda import import_torch

    try:
        import_torch()
    except InfrastructureError:
        return False
    return True
