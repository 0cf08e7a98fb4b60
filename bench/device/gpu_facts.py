"""What the run document says about a GPU: driver, CUDA, PCIe link, NUMA node."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["UNKNOWN", "gpu_details"]

UNKNOWN = "unknown"


def gpu_details(torch: Any, index: int) -> dict[str, str]:
    """Return driver, cuda, torch, uuid, pcie_link and numa_node; "unknown" where not readable.

    Args:
        torch: The module.
        index: Number of the GPU as torch counts, which NVML need not share.
    """
    properties = torch.cuda.get_device_properties(index)
    uuid = getattr(properties, "uuid", None)
    details = {
        "torch": str(getattr(torch, "__version__", UNKNOWN)),
        "cuda": str(getattr(torch.version, "cuda", None) or UNKNOWN),
        "uuid": UNKNOWN if uuid is None else f"GPU-{uuid}",
        "driver": UNKNOWN,
        "pcie_link": UNKNOWN,
        "numa_node": UNKNOWN,
    }
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return details
    try:
        nvml.nvmlInit()
        details["driver"] = _text(nvml.nvmlSystemGetDriverVersion())
        if uuid is not None:
            handle = nvml.nvmlDeviceGetHandleByUUID(details["uuid"].encode())
            details["numa_node"] = _numa_node(_text(nvml.nvmlDeviceGetPciInfo(handle).busId))
            generation = nvml.nvmlDeviceGetCurrPcieLinkGeneration(handle)
            width = nvml.nvmlDeviceGetCurrPcieLinkWidth(handle)
            details["pcie_link"] = f"generation {generation}, width {width}"
    except nvml.NVMLError:
        pass  # facts only: what could not be read stays "unknown"
    return details


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _numa_node(bus_id: str) -> str:
    """Return the node of a PCI address such as 00000000:3B:00.0."""
    domain, _, rest = bus_id.lower().partition(":")
    try:
        with open(f"/sys/bus/pci/devices/{domain[-4:]}:{rest}/numa_node") as file:
            node = file.read().strip()
    except OSError:
        return UNKNOWN
    return UNKNOWN if node == "-1" else node
