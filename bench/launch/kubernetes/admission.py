"""Enforcement of approvals: labelled namespaces may claim approved storage classes only.

A ValidatingAdmissionPolicy and its binding as pure functions: nothing is installed but two
objects, and no webhook can be down. What is allowed stands in the policy itself, so that one
document, reviewed and applied, is the whole truth.

Admission expressions have no clock. The end of an approval is held against the claim's
creationTimestamp, which the API server sets itself, before admission, whatever a client sent
(docs/decisions/0070-approval.md; tried in tests/e2e/cluster/test_admission.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from kubernetes import client

from bench.errors import UsageError
from bench.launch.kubernetes.template import metadata

__all__ = ["ANY", "NAMESPACE_LABEL", "POLICY", "admission_objects"]

NAMESPACE_LABEL = "bench/training-workload"
"""On a namespace: the workload whose approved classes its claims may use, or ANY."""

ANY = "any"
"""Classes that are approved for some workload."""

POLICY = "bench-approved-storage"

APPROVALS = "bench/approvals"
"""Annotation with the ids of the documents that the policy was made from."""

MAX_LIST = 400
"""Characters of the list of approved classes in a message, of which clients show one line."""

Action = Literal["deny", "warn", "audit"]

ACTIONS: dict[Action, list[str]] = {
    "deny": ["Deny"],
    "warn": ["Warn", "Audit"],
    "audit": ["Audit"],
}


def admission_objects(
    allowed: Mapping[str, Mapping[str, str]],
    *,
    location: str,
    approvals: tuple[str, ...] = (),
    action: Action = "deny",
    name: str = POLICY,
    namespace_label: str = NAMESPACE_LABEL,
) -> list[Any]:
    """Return the policy and its binding.

    Args:
        allowed: Workload -> storage class -> end of its approval, UTC, as 2027-02-22T00:00:00Z.
            Empty: nothing is approved, so every claim is refused.
        location: Where the approvals can be read; part of every message.
        approvals: Ids of the documents.
        action: What a violation brings: deny refuses the claim; warn tells its maker and the
            audit log; audit the log alone.
        name: Of both objects.
        namespace_label: Key of the label on the namespaces that are held to it.

    Raises:
        UsageError: A workload is called like ANY, or the location has several lines.
    """
    if ANY in allowed:
        raise UsageError(f"workload {ANY}", "is the word for all workloads", "rename it")
    if not location.isprintable():
        raise UsageError("--location", "has characters that cannot be printed", "give one line")
    return [
        _policy(name, _with_any(allowed), location, approvals, namespace_label),
        _binding(name, action, namespace_label),
    ]


def _with_any(allowed: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Add ANY: each class until the last of its approvals ends; equal texts sort as times."""
    everything: dict[str, str] = {}
    for classes in allowed.values():
        for name, until in classes.items():
            everything[name] = max(until, everything.get(name, ""))
    found = {workload: dict(sorted(classes.items())) for workload, classes in allowed.items()}
    return dict(sorted(found.items())) | ({ANY: dict(sorted(everything.items()))} if found else {})


def _literal(text: str) -> str:
    """Return a text as a CEL literal; CEL reads JSON's escapes of quotes and backslashes."""
    return json.dumps(text, ensure_ascii=False)


def _map(allowed: Mapping[str, Mapping[str, str]]) -> str:
    """Return a CEL map of maps, over several lines for the reader of the policy."""
    if not allowed:
        return "{'': {'': ''}}"  # an empty literal has no type to look into
    rows = []
    for workload, classes in allowed.items():
        pairs = ", ".join(f"{_literal(k)}: {_literal(v)}" for k, v in classes.items())
        rows.append(f"  {_literal(workload)}: {{{pairs}}}")
    return "{\n" + ",\n".join(rows) + "\n}"


def _lists(allowed: Mapping[str, Mapping[str, str]]) -> str:
    """Return a CEL map from a workload to the names of its classes, as one text."""
    rows = {workload: _shortened(sorted(classes)) for workload, classes in allowed.items()}
    pairs = ", ".join(f"{_literal(k)}: {_literal(v)}" for k, v in rows.items())
    return f"{{{pairs}}}" if rows else "{'': ''}"


def _shortened(names: list[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= MAX_LIST else text[:MAX_LIST].rpartition(", ")[0] + ", ..."


def _variables(
    allowed: Mapping[str, Mapping[str, str]], namespace_label: str
) -> list[client.V1Variable]:
    expressions = {
        # Absent and empty mean the same here: no class that could be approved.
        "class": "has(object.spec.storageClassName) ? object.spec.storageClassName : ''",
        "workload": f"namespaceObject.metadata.labels[{_literal(namespace_label)}]",
        "approvals": _map(allowed),
        "lists": _lists(allowed),
        "until": (
            "variables.workload in variables.approvals && "
            "variables.class in variables.approvals[variables.workload] ? "
            "variables.approvals[variables.workload][variables.class] : ''"
        ),
        "list": (
            "variables.workload in variables.lists ? variables.lists[variables.workload] : 'none'"
        ),
    }
    return [client.V1Variable(name=name, expression=text) for name, text in expressions.items()]


def _validations(location: str) -> list[client.V1Validation]:
    where = _literal(f"; approvals: {location}")
    named = (
        "(variables.class == '' ? 'the claim names no storage class' : "
        "'storage class ' + variables.class)"
    )
    return [
        client.V1Validation(
            expression="variables.until != ''",
            message_expression=(
                f"{named} + ' is not approved for training workload ' + variables.workload "
                f"+ '; approved: ' + variables.list + {where}"
            ),
            message=f"this storage class is not approved for training; approvals: {location}",
            reason="Forbidden",
        ),
        client.V1Validation(
            expression=(
                "variables.until == '' || "
                "timestamp(object.metadata.creationTimestamp) < timestamp(variables.until)"
            ),
            message_expression=(
                "'the approval of storage class ' + variables.class + ' for training workload ' "
                "+ variables.workload + ' ended at ' + variables.until "
                f"+ '; measure and approve it again' + {where}"
            ),
            message=f"the approval of this storage class has ended; approvals: {location}",
            reason="Forbidden",
        ),
    ]


def _policy(
    name: str,
    allowed: Mapping[str, Mapping[str, str]],
    location: str,
    approvals: tuple[str, ...],
    namespace_label: str,
) -> client.V1ValidatingAdmissionPolicy:
    rule = client.V1NamedRuleWithOperations(
        api_groups=[""],
        api_versions=["v1"],
        operations=["CREATE"],
        resources=["persistentvolumeclaims"],
    )
    return client.V1ValidatingAdmissionPolicy(
        api_version="admissionregistration.k8s.io/v1",
        kind="ValidatingAdmissionPolicy",
        metadata=metadata(
            name,
            namespace=None,
            component="approval",
            annotations={
                APPROVALS: " ".join(approvals),
                "bench/approvals-location": location,
            },
        ),
        spec=client.V1ValidatingAdmissionPolicySpec(
            failure_policy="Fail",
            match_constraints=client.V1MatchResources(resource_rules=[rule]),
            variables=_variables(allowed, namespace_label),
            validations=_validations(location),
        ),
    )


def _binding(
    name: str, action: Action, namespace_label: str
) -> client.V1ValidatingAdmissionPolicyBinding:
    labelled = client.V1LabelSelectorRequirement(key=namespace_label, operator="Exists")
    return client.V1ValidatingAdmissionPolicyBinding(
        api_version="admissionregistration.k8s.io/v1",
        kind="ValidatingAdmissionPolicyBinding",
        metadata=metadata(name, namespace=None, component="approval"),
        spec=client.V1ValidatingAdmissionPolicyBindingSpec(
            policy_name=name,
            validation_actions=list(ACTIONS[action]),
            match_resources=client.V1MatchResources(
                namespace_selector=client.V1LabelSelector(match_expressions=[labelled])
            ),
        ),
    )
