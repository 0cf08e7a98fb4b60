"""From verdicts to the exit status of a gate: which of them stop a pipeline.

1 regressed, 2 refused, 4 invalid, 3 inconclusive, 0 else, the first of these that applies.
`ci` lets inconclusive pass with a warning: a gate that stops every noisy change is switched off.
`approval` does not: what could not be told is not approved.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

__all__ = ["GATES", "Gate", "exit_code", "is_warning"]

Gate = Literal["ci", "approval"]
GATES: tuple[str, ...] = get_args(Gate)

CODES = {"regressed": 1, "refused": 2, "invalid": 4, "inconclusive": 3}
"""In the order of precedence."""


def exit_code(verdicts: Collection[str], *, gate: Gate | None) -> int:
    """Return the exit status for the verdicts of all cells.

    Args:
        verdicts: regressed, refused, invalid, inconclusive, improved, equivalent.
        gate: None: nothing is gated, and only a refusal, which is bad input, is an error.
    """
    passing = set() if gate == "approval" else {"inconclusive"}
    if gate is None:
        passing = {"regressed", "invalid", "inconclusive"}
    return next(
        (code for word, code in CODES.items() if word in verdicts and word not in passing), 0
    )


def is_warning(verdicts: Collection[str], *, gate: Gate | None) -> bool:
    """Say whether a gate passes what it could not tell."""
    return gate == "ci" and "inconclusive" in verdicts
