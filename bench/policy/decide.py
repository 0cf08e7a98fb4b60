"""From requirements and runs to decisions: one for each requirement, then one for all.

Order of what a cell can be: without runs `not measured`; figures that must not be believed
`invalid`; runs that cannot carry a decision `refused`; then the worst of its limits; then
`provisional` or `approved`. Unknown is never approved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bench.analysis.facts import device_kind, name_of
from bench.errors import ResultsError
from bench.policy.criteria import judge, stall_interval
from bench.policy.document import APPROVED, Cell, Criterion, Note, RunReference, Scale, Verdict
from bench.policy.evidence import invalid_because, refused_because, storage_class_of
from bench.policy.limits import conditions, provisional_because
from bench.policy.occasions import Group, group_occasions
from bench.policy.words import cell_sentence
from bench.results.schema import Run
from bench.spec.documents import PLACES, Workload
from bench.spec.requirements import Requirement, Requirements

__all__ = ["EXIT_CODES", "GivenRun", "decide", "overall", "unused"]

EXIT_CODES: dict[Verdict, int] = {
    "not met": 1,
    "invalid": 4,
    "refused": 3,
    "inconclusive": 3,
    "not measured": 3,
    "provisional": 0,
    "approved": 0,
}
"""Exit code of each verdict, in the order in which one of several cells decides for all."""


@dataclass(frozen=True, slots=True)
class GivenRun:
    """A run that an approval may rest on.

    Attributes:
        run: The verified document.
        sha256: Of the file that held it.
        path: Of that file inside its store.
    """

    run: Run
    sha256: str
    path: str


def decide(
    requirements: Requirements,
    given: Sequence[GivenRun],
    *,
    workloads: Mapping[str, Workload],
    now: datetime,
) -> list[Cell]:
    """Return the decision on each requirement, in the order of the document.

    Args:
        requirements: What is demanded.
        given: All runs, in any order; the same one twice counts once.
        workloads: As the approver has them, by name; what is missing is refused.
        now: UTC; approvals are valid from it.

    Raises:
        ResultsError: Two documents bear the same id and differ.
    """
    runs = _each_once(given)
    return [
        _cell(requirement, requirements, _matching(requirement, runs), workloads, now)
        for requirement in requirements.spec.requirements
    ]


def overall(cells: Sequence[Cell]) -> Verdict:
    """Return the verdict that decides for all: not met before invalid before undecided."""
    return next(verdict for verdict in EXIT_CODES if any(c.verdict == verdict for c in cells))


def unused(requirements: Requirements, given: Sequence[GivenRun]) -> list[Note]:
    """Return a note for each run that no requirement asks for."""
    notes = []
    for item in _each_once(given):
        run = item.run
        if not any(_fits(requirement, run) for requirement in requirements.spec.requirements):
            what = f"{name_of(run.workload)} on {name_of(run.storage)} with "
            what += f"{run.plan.get('accelerator')}, {run.plan.get('nodes')} x "
            what += f"{run.plan.get('gpus_per_node')}"
            notes.append(Note(code=run.id, text=f"no requirement asks for {what}"))
    return notes


def _each_once(given: Sequence[GivenRun]) -> list[GivenRun]:
    found: dict[str, GivenRun] = {}
    for item in given:
        first = found.setdefault(item.run.id, item)
        if first.run.checksum != item.run.checksum:
            raise ResultsError(
                item.path, f"has the id of another run, {first.path}", "give one of the two"
            )
    return sorted(found.values(), key=lambda item: item.run.id)


def _fits(requirement: Requirement, run: Run) -> bool:
    wanted = (requirement.workload, requirement.target, requirement.accelerator)
    has = (name_of(run.workload), name_of(run.storage), run.plan.get("accelerator"))
    scales = (
        (requirement.nodes, run.plan.get("nodes")),
        (requirement.gpus_per_node, run.plan.get("gpus_per_node")),
    )
    return wanted == has and all(want is None or want == found for want, found in scales)


def _matching(requirement: Requirement, given: Sequence[GivenRun]) -> list[GivenRun]:
    return [item for item in given if _fits(requirement, item.run)]


def _cell(
    requirement: Requirement,
    requirements: Requirements,
    given: Sequence[GivenRun],
    workloads: Mapping[str, Workload],
    now: datetime,
) -> Cell:
    spec = requirements.spec
    runs = [item.run for item in given]
    groups = group_occasions(runs)
    invalid = invalid_because(runs, groups)
    refused = refused_because(
        runs,
        groups,
        requirement=requirement,
        spec=spec,
        workload=workloads.get(requirement.workload),
        now=now,
    )
    # Figures that are no numbers must not reach the intervals.
    sound = all(note.code != "impossible" for note in invalid)
    criteria = judge(requirement, groups) if sound else []
    provisional = provisional_because(runs, groups, spec=spec, now=now) if runs else []
    verdict, reasons = _verdict(runs, invalid, refused, criteria, provisional)
    if verdict in ("refused", "invalid"):
        criteria = [_undecided(criterion) for criterion in criteria]
    ends = now + timedelta(days=spec.review_after_days)
    facts = _facts(requirement, runs)
    return Cell(
        **facts,
        verdict=verdict,
        sentence=cell_sentence(
            verdict, requirement=requirement, facts=facts, reasons=reasons, criteria=criteria
        ),
        reasons=reasons,
        provisional_because=provisional,
        conditions=conditions(runs, groups) if runs else [],
        criteria=criteria,
        stall=stall_interval(groups) if sound else None,
        **_evidence(given, groups),
        valid_until=ends.isoformat(timespec="seconds") if verdict in APPROVED else None,
    )


def _verdict(
    runs: Sequence[Run],
    invalid: list[Note],
    refused: list[Note],
    criteria: Sequence[Criterion],
    provisional: list[Note],
) -> tuple[Verdict, list[Note]]:
    if not runs:
        text = "none of the runs that were given is of this workload, target and accelerator"
        return "not measured", [Note(code="no_runs", text=text)]
    if invalid:
        return "invalid", [*invalid, *refused]
    missing = [
        Note(code="not_measured", text=f"{criterion.name}: {criterion.detail}")
        for criterion in criteria
        if criterion.verdict == "not measured"
    ]
    if refused or missing:
        return "refused", [*refused, *missing]
    for verdict in ("not met", "inconclusive"):
        found = [c for c in criteria if c.verdict == verdict]
        if found:
            notes = [Note(code=c.name, text=f"{c.name}: {c.detail}") for c in found]
            return ("not met" if verdict == "not met" else "inconclusive"), notes
    return ("provisional" if provisional else "approved"), []


def _undecided(criterion: Criterion) -> Criterion:
    """Return a criterion that shows its figure and no more; a pass would be quoted."""
    if criterion.verdict == "not measured":
        return criterion
    update = {"verdict": "not decided", "detail": "for orientation; it decides nothing"}
    return criterion.model_copy(update=update | {"more_needed": None})


def _facts(requirement: Requirement, runs: Sequence[Run]) -> dict[str, Any]:
    run = runs[0] if runs else None
    kinds = sorted({device_kind(run) for run in runs})
    scales = {(run.plan.get("nodes"), run.plan.get("gpus_per_node")) for run in runs}
    scale = None
    if len(scales) == 1:
        nodes, gpus = next(iter(scales))
        if isinstance(nodes, int) and isinstance(gpus, int):
            scale = Scale(nodes=nodes, gpus_per_node=gpus)
    access = run.workload.get("access") if run else None
    pattern = access.get("pattern") if isinstance(access, Mapping) else None
    classes = {storage_class_of(run) for run in runs}
    return {
        "workload": requirement.workload,
        "target": requirement.target,
        "accelerator": requirement.accelerator,
        "device": " and ".join(kinds) or "unknown",
        "storage_kind": next((p for p in PLACES if run and run.storage.get(p)), "unknown"),
        # Runs that name different classes are unlike and refused; none is named for them.
        "storage_class": next(iter(classes)) if len(classes) == 1 else None,
        "access_pattern": str(pattern) if pattern else None,
        "scale": scale,
    }


def _evidence(given: Sequence[GivenRun], groups: Sequence[Group]) -> dict[str, Any]:
    occasions = [group.document() for group in groups]
    return {
        "occasions": occasions,
        "days": sorted({occasion.day for occasion in occasions}),
        "nodes": sorted({node for occasion in occasions for node in occasion.nodes}),
        "fingerprint": dict(given[0].run.fingerprint) if given else {},
        "runs": [_reference(item) for item in given],
    }


def _reference(item: GivenRun) -> RunReference:
    run = item.run
    return RunReference(
        id=run.id,
        created_at=run.created_at,
        path=item.path,
        sha256=item.sha256,
        checksum=run.checksum,
        fingerprint=str(run.fingerprint.get("hash") or ""),
        tool=f"bench {run.tool.version}, commit {run.tool.commit}",
        image_digest=run.tool.image_digest,
        num_repeats=len(run.repeats),
    )
