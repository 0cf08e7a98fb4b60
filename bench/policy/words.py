"""The decision in one sentence, and the rules behind it in a few."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.analysis.wording import duration, percent, rate
from bench.policy.document import Criterion, Note, Scale, Verdict
from bench.policy.limits import MIN_DAYS, MIN_OCCASIONS, MIN_REPEATS
from bench.policy.occasions import PAUSE
from bench.spec.requirements import Requirement, RequirementsSpec

__all__ = ["cell_sentence", "demand", "rules", "where"]


def where(facts: Mapping[str, Any]) -> str:
    """Return what is judged: "storage class fast (target fast-rwx)" or the target alone."""
    target = f"target {facts['target']}"
    name = facts.get("storage_class")
    return f"storage class {name} ({target})" if name else target


def _accelerators(facts: Mapping[str, Any]) -> str:
    scale: Scale | None = facts.get("scale")
    name = str(facts["accelerator"])
    text = name if scale is None or scale.gpus == 1 else f"{scale.gpus} x {name}"
    if scale is not None and scale.nodes > 1:
        text += f" on {scale.nodes} nodes"
    return f"{text} (emulated)" if "emulated" in str(facts.get("device")) else text


def demand(requirement: Requirement) -> str:
    """Return what a requirement asks for: "stall at most 2.0 %, at least 3.00 GB/s"."""
    parts = []
    if requirement.max_stall_ratio is not None:
        parts.append(f"stall at most {percent(requirement.max_stall_ratio)}")
    if requirement.min_throughput is not None:
        parts.append(f"at least {rate(requirement.min_throughput)}")
    if requirement.max_time_to_first_batch is not None:
        parts.append(f"first batch within {duration(requirement.max_time_to_first_batch)}")
    if requirement.worst_case is not None:
        parts.append(f"no repeat above {percent(requirement.worst_case)} of stall")
    return ", ".join(parts)


def cell_sentence(
    verdict: Verdict,
    *,
    requirement: Requirement,
    facts: Mapping[str, Any],
    reasons: Sequence[Note],
    criteria: Sequence[Criterion],
) -> str:
    """Return the decision on one requirement as a sentence."""
    what = f"{where(facts)} for {facts['workload']} on {_accelerators(facts)}"
    first = reasons[0].text if reasons else ""
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    if verdict in ("approved", "provisional"):
        return f"{verdict}: {what}, {demand(requirement)}; measured {_measured(criteria)}"
    lead = {
        "not met": "not approved",
        "inconclusive": "not approved, undecided",
        "refused": "not approved, the runs cannot carry a decision",
        "invalid": "not approved, the measurement is invalid",
        "not measured": "not approved, not measured",
    }[verdict]
    return f"{lead}: {what}, {demand(requirement)}: {first}{more}"


def _measured(criteria: Sequence[Criterion]) -> str:
    """Return the estimates that were held against the limits."""
    words: dict[str, Callable[[float], str]] = {
        "max_stall_ratio": lambda value: f"{percent(value)} of stall",
        "min_throughput": rate,
        "max_time_to_first_batch": lambda value: f"first batch after {duration(value)}",
        "worst_case": lambda value: f"{percent(value)} at worst",
    }
    return ", ".join(
        words[criterion.name](criterion.estimate)
        for criterion in criteria
        if criterion.estimate is not None
    )


def rules(spec: RequirementsSpec) -> list[str]:
    """Return the rules of a decision as they stand in the document."""
    pause_hours = PAUSE.total_seconds() / 3600
    text = f"""
A limit holds when the one-sided 95 % bound of the mean lies inside it, is not met when the other
bound lies beyond it, and is undecided in between. worst_case is held against every repeat.
-
All limits of a requirement must hold, so no correction for their number is needed: the chance of
a wrong approval is at most that of one limit.
-
The unit is the repeat. A pause of more than {pause_hours:.0f} h begins a new occasion; with
several, occasions are the unit of the interval, unless repeats give the wider one.
-
Fewer than {MIN_OCCASIONS} occasions on {MIN_DAYS} days, fewer than {MIN_REPEATS} repeats, repeats
under {duration(spec.min_measured_seconds)}, or guards that were not measured make an approval
provisional.
-
Exploratory, incomplete, warm, unknown, short or too few runs are refused, and so are runs that
are not of one cell or not of the workload as declared. A failed guard makes the cell invalid.
What is unknown is not approved.
-
An approval holds for the scale, accelerator and fingerprint that are named, and ends
{spec.review_after_days} days after it was made.
"""
    return [" ".join(rule.split()) for rule in text.split("\n-\n")]
