"""Facts and manifests in, refusals and notes out: the decision, as a pure function."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from http import HTTPStatus

from bench.launch.kubernetes.manifests import Manifests
from bench.launch.kubernetes.observed_spec import changes
from bench.launch.kubernetes.preflight.amounts import judge_limit_ranges, judge_quotas
from bench.launch.kubernetes.preflight.demand import demand_of
from bench.launch.kubernetes.preflight.image import image_problem, is_pinned
from bench.launch.kubernetes.preflight.model import (
    Attempt,
    Facts,
    Note,
    Refusal,
    Right,
    Unknown,
    Verdict,
)
from bench.launch.kubernetes.preflight.nodes import judge_nodes
from bench.launch.kubernetes.preflight.target import judge_target

__all__ = ["decide"]

ADMISSION = (
    # (what the server says, place of the refusal that already says it better)
    (re.compile(r"exceeded quota|failed quota"), "ResourceQuota"),
    (re.compile(r"usage per (Container|Pod|PersistentVolumeClaim)"), "LimitRange"),
    (re.compile(r"error looking up service account"), "ServiceAccount"),
    (re.compile(r"no PriorityClass with name"), "PriorityClass"),
    (re.compile(r'namespaces "[^"]*" not found|is being terminated'), "Namespace"),
)

MESHES = ("istio-injection", "istio.io/rev", "linkerd.io/inject", "kuma.io/sidecar-injection")

Judged = tuple[list[Refusal], list[Note]]


def decide(facts: Facts, manifests: Manifests) -> Verdict:
    """Return every reason why the run cannot be, and what is worth knowing.

    Args:
        facts: What the API server said.
        manifests: Of the run.
    """
    bp = manifests.blueprint
    cluster = bp.cluster
    claim = facts.objects.get(("PersistentVolumeClaim", bp.claim_name or ""))
    demand = demand_of(manifests, claim_exists=isinstance(claim, dict))
    judged = [_namespace(facts)]
    if not judged[0][0]:  # nothing can be said of what lies in no namespace
        judged += [
            _rights(facts),
            _named(facts),
            judge_quotas(facts, demand),
            judge_limit_ranges(facts, demand, scratch_bytes=cluster.scratch_bytes),
        ]
    judged += [
        judge_target(facts, bp, demand),
        judge_nodes(facts, demand, queued=cluster.queue_name is not None),
        _image(bp.image),
        _secrets(manifests),
        _unknown(facts),
    ]
    refusals = [refusal for found, _ in judged for refusal in found]
    notes = [note for _, found in judged for note in found]
    more, further = _attempts(facts, refusals)
    return Verdict(_once(refusals + more), tuple(dict.fromkeys(notes + further)))


def _once(refusals: Iterable[Refusal]) -> tuple[Refusal, ...]:
    return tuple(dict.fromkeys(refusals))


def _namespace(facts: Facts) -> Judged:
    place = f"Namespace {facts.namespace}"
    found = facts.objects.get(("Namespace", facts.namespace))
    if found is None:
        remedy = "apply what `bench render namespace` prints, or set plan.cluster.namespace"
        return [Refusal(place, "does not exist", remedy)], []
    if isinstance(found, Unknown):
        return [], []
    if found.get("status", {}).get("phase") == "Terminating":
        return [Refusal(place, "is being deleted", "wait until it is gone, or use another")], []
    metadata = found.get("metadata", {})
    marks = (metadata.get("labels") or {}) | (metadata.get("annotations") or {})
    meshes = [mark for mark in MESHES if marks.get(mark) not in (None, "disabled")]
    if meshes:
        text = f"injects a service mesh ({', '.join(meshes)}); the pods ask it to stay away"
        return [], [Note(place, text)]
    return [], []


def _rights(facts: Facts) -> Judged:
    if isinstance(facts.missing, Unknown):
        return [], [Note("rights", f"unknown: {facts.missing.reason}")]
    verbs: dict[tuple[str | None, str, str], list[str]] = defaultdict(list)
    for right in facts.missing:
        verbs[right.namespace, right.group, right.resource].append(right.verb)
    return [
        Refusal(
            f"user {facts.user}",
            f"may not {', '.join(found)} {_resource(Right(where, group, resource, ''))}"
            + (f" in namespace {where}" if where is not None else ""),
            f"have what `bench render rbac -n {facts.namespace}` prints applied",
        )
        for (where, group, resource), found in verbs.items()
    ], []


def _resource(right: Right) -> str:
    return f"{right.resource}.{right.group}" if right.group else right.resource


def _named(facts: Facts) -> Judged:
    """Judge what the plan names and the cluster must have."""
    remedies = {
        "ServiceAccount": "apply what `bench render rbac` prints, or set "
        "plan.cluster.service_account_name",
        "PriorityClass": "see `kubectl get priorityclass`, and correct "
        "plan.cluster.priority_class_name",
        "LocalQueue": "see `kubectl get localqueue`, and correct plan.cluster.queue_name",
        "DeviceClass": "see `kubectl get deviceclass`, and correct plan.cluster.device_class_name",
    }
    refusals, notes = [], []
    for (kind, name), found in facts.objects.items():
        if kind in remedies and found is None:
            refusals.append(Refusal(f"{kind} {name}", "does not exist", remedies[kind]))
        if kind == "LocalQueue" and isinstance(found, dict):
            conditions = found.get("status", {}).get("conditions") or []
            notes += [
                Note(f"{kind} {name}", f"is not active: {one.get('message')}")
                for one in conditions
                if one.get("type") == "Active" and one.get("status") != "True"
            ]
    return refusals, notes


def _image(image: str) -> Judged:
    place = f"plan.cluster.image {image}"
    problem = image_problem(image)
    if problem is not None:
        return [Refusal(place, problem, "write REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:...")], []
    if not is_pinned(image):
        text = "is not pinned by digest: a tag can be moved between runs, and a certified run "
        return [], [Note(place, text + "needs a digest")]
    return [], []


def _secrets(manifests: Manifests) -> Judged:
    """Name the Secrets that pods need: they are never read, so they cannot be looked for."""
    bp = manifests.blueprint
    target = bp.plan.storage.object
    names = list(bp.cluster.image_pull_secrets)
    if target is not None and target.credentials.secret_name is not None:
        names.append(target.credentials.secret_name)
    text = "unknown whether it exists: Secrets are not read; without it pods do not start"
    return [], [Note(f"Secret {name}", text) for name in names]


def _unknown(facts: Facts) -> Judged:
    return [], [
        Note(f"{kind} {name}", f"unknown: {found.reason}")
        for (kind, name), found in facts.objects.items()
        if isinstance(found, Unknown)
    ]


def _attempts(facts: Facts, refusals: list[Refusal]) -> Judged:
    """Judge the dry runs; what has been said with a remedy already is not said again."""
    places = {refusal.place.split()[0] for refusal in refusals}
    found, notes = [], []
    for attempt in facts.attempts:
        place = f"{attempt.kind} {attempt.name}"
        if attempt.applied is not None:
            notes += _changes(attempt)
        elif attempt.code == HTTPStatus.CONFLICT:
            continue  # a claim that is kept is there already
        elif _is_rbac(attempt):
            notes.append(Note(place, f"unknown whether it would be accepted: {attempt.message}"))
        elif attempt.code == 0 or attempt.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            notes.append(Note(place, f"could not be tried: {attempt.message}"))
        elif not any(words.search(attempt.message) and said in places for words, said in ADMISSION):
            found.append(Refusal(place, attempt.message, _remedy(attempt)))
    return found, notes


def _is_rbac(attempt: Attempt) -> bool:
    """Whether the user lacks the right, rather than the object being refused."""
    return attempt.code == HTTPStatus.FORBIDDEN and " cannot " in attempt.message


def _remedy(attempt: Attempt) -> str:
    if "violates PodSecurity" in attempt.message:
        return "run where the Pod Security label is `restricted` or weaker"
    if "admission webhook" in attempt.message or "ValidatingAdmissionPolicy" in attempt.message:
        return "change what the policy names, or have it except these pods"
    return "change what the server names"


def _changes(attempt: Attempt) -> list[Note]:
    if attempt.kind != "Pod" or attempt.applied is None:
        return []
    return [
        Note("admission", f"would change the pods: {change}")
        for change in changes(attempt.intended.get("spec", {}), attempt.applied.get("spec", {}))
    ]
