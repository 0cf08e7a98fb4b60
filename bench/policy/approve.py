"""The approval document of a decision."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from bench.policy.decide import EXIT_CODES, GivenRun, decide, overall, unused
from bench.policy.document import Approval, Cell, canonical, seal_approval
from bench.policy.words import rules
from bench.results.schema import Tool
from bench.spec.documents import Workload
from bench.spec.requirements import Requirements

__all__ = ["approve"]


def approve(
    requirements: Requirements,
    given: Sequence[GivenRun],
    *,
    workloads: Mapping[str, Workload],
    approved_by: str,
    approval_id: str,
    tool: Tool,
    now: datetime,
    price: Callable[[Sequence[Cell]], dict[str, Any]] | None = None,
) -> Approval:
    """Return the sealed approval document of these runs against these requirements.

    Args:
        requirements: What is demanded.
        given: The runs.
        workloads: As the approver has them, by name.
        approved_by: Who asks, and answers for it.
        approval_id: Lower-case ULID.
        tool: What decides.
        now: UTC.
        price: Works out what the measured stall costs; None for no such part.

    Raises:
        ResultsError: Two runs bear one id and differ.
    """
    cells: list[Cell] = decide(requirements, given, workloads=workloads, now=now)
    verdict = overall(cells)
    content = requirements.model_dump(mode="json", by_alias=True)
    return seal_approval(
        Approval(
            id=approval_id,
            created_at=now.isoformat(timespec="seconds"),
            approved_by=approved_by,
            tool=f"bench {tool.version}, commit {tool.commit}",
            requirements_name=requirements.metadata.name,
            requirements_sha256=hashlib.sha256(canonical(content)).hexdigest(),
            requirements=content,
            verdict=verdict,
            exit_code=EXIT_CODES[verdict],
            review_after_days=requirements.spec.review_after_days,
            cells=cells,
            unused_runs=unused(requirements, given),
            rules=rules(requirements.spec),
            cost=price(cells) if price is not None else None,
        )
    )
