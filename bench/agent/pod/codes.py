"""What the launcher and its pods agree on beside the plan."""

from __future__ import annotations

__all__ = ["BAD_INPUT_CODE", "LOG_BUDGET_BYTES", "MAX_VERDICT_BYTES"]

BAD_INPUT_CODE = 42
"""Exit code of an agent that another try would not help: the plan or the data set is wrong."""

LOG_BUDGET_BYTES = 8 * 2**20
"""Tables that one pod may send through its log: a kubelet rotates a log at 10 MiB by default,
and the API then returns the newest file only."""

MAX_VERDICT_BYTES = 4096
"""Of a container's termination message; Kubernetes cuts what is longer."""
