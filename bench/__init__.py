"""Measure how much of an accelerator's time is spent waiting for data, and why."""

__all__ = ["__version__"]

__version__ = "0.1.0"
