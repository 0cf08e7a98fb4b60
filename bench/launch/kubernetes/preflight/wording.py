"""How preflight writes amounts."""

from __future__ import annotations

from decimal import Decimal

from bench.launch.kubernetes.shape import quantity

__all__ = ["shown"]

IN_BYTES = ("memory", "storage", "hugepages-")


def shown(name: str, value: Decimal) -> str:
    """Return an amount of a resource as Kubernetes writes it.

    Args:
        name: Of the resource, or of a quota's key that ends with it.
        value: Base units: bytes, CPUs, numbers.
    """
    if any(word in name for word in IN_BYTES) and value == int(value):
        return quantity(int(value))
    if value != int(value):
        return f"{int(value * 1000)}m"
    return str(int(value))
