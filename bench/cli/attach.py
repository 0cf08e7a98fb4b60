"""`bench attach`."""

from bench.cli.cluster import attach as command

__all__ = ["command"]
