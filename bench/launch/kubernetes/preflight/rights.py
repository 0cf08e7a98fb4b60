"""Which rights a run needs, and which of them the user lacks.

The rights are those of `bench render rbac`; this only leaves out what the plan does not use.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubernetes import client

from bench.launch.kubernetes import names as n
from bench.launch.kubernetes.blueprint import Blueprint
from bench.launch.kubernetes.connect import API_FAULTS, JsonObject, api_error, request_json
from bench.launch.kubernetes.preflight.model import Right, Unknown
from bench.launch.kubernetes.rbac import rbac
from bench.launch.kubernetes.template import LAUNCHER

__all__ = ["lease_namespace", "missing_rights", "needed_rights"]

REVIEWS = "/apis/authorization.k8s.io/v1"

HELPFUL = {("", "resourcequotas"), ("", "limitranges"), ("", "serviceaccounts"), ("", "namespaces")}
"""Reads that make preflight say more; without them it says unknown."""


def lease_namespace(bp: Blueprint, *, namespace: str) -> str | None:
    """Return where the run's Lease lies; None where it takes none."""
    key = n.exclusion_key(bp.plan.storage, namespace=namespace, storage_class=bp.storage_class)
    if not bp.cluster.exclusive or key is None:
        return None
    return bp.cluster.lease_namespace or namespace


def needed_rights(bp: Blueprint, *, namespace: str) -> list[Right]:
    """Return the rights without which a run cannot be made, watched or cleaned up.

    Args:
        bp: The run.
        namespace: Where it is to be.
    """
    rules = [
        rule
        for made in rbac(namespace, dra=bp.cluster.gpu == "dra")
        if made.kind == "Role" and made.metadata.name == LAUNCHER
        for rule in made.rules
    ]
    leases = lease_namespace(bp, namespace=namespace)
    found = []
    for rule in rules:
        for group in rule.api_groups or []:
            for resource in rule.resources or []:
                where = leases if resource == "leases" else namespace
                if where is None or (group, resource) in HELPFUL:
                    continue
                found += [
                    Right(where, group, resource, verb)
                    for verb in rule.verbs
                    if _is_used(bp, resource, verb)
                ]
    return sorted(found, key=lambda right: (right.namespace or "", right.group, right.resource))


def _is_used(bp: Blueprint, resource: str, verb: str) -> bool:
    if resource == "persistentvolumeclaims":
        has_claims = bp.plan.storage.pvc is not None or bp.plan.storage.ephemeral is not None
        return bp.creates_claim or (has_claims and verb in ("get", "list", "watch"))
    # Creating a pod is for the dry run alone; that says so where it is refused.
    return (resource, verb) != ("pods", "create")


def missing_rights(api: client.ApiClient, needed: Iterable[Right]) -> tuple[Right, ...] | Unknown:
    """Return those of the rights that the user lacks.

    One review lists all rules of a namespace; what is not among them is asked for by itself,
    since authorizers other than RBAC need not list theirs.

    Args:
        api: Of a connection.
        needed: Rights to look for.
    """
    needed = list(needed)
    missing = []
    try:
        rules = {
            namespace: _rules(api, namespace)
            for namespace in {right.namespace or "default" for right in needed}
        }
        for right in needed:
            listed = rules[right.namespace or "default"]
            if not any(_grants(rule, right) for rule in listed) and not _may(api, right):
                missing.append(right)
    except API_FAULTS as error:
        return Unknown(str(api_error(error, place="rights")))
    return tuple(missing)


def _rules(api: client.ApiClient, namespace: str) -> list[JsonObject]:
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    answer = request_json(api, "POST", f"{REVIEWS}/selfsubjectrulesreviews", body=body)
    return list(answer.get("status", {}).get("resourceRules") or [])


def _grants(rule: JsonObject, right: Right) -> bool:
    def has(key: str, value: str) -> bool:
        return not {"*", value}.isdisjoint(rule.get(key) or [])

    whole = not rule.get("resourceNames")
    return (
        whole
        and has("apiGroups", right.group)
        and has("resources", right.resource)
        and has("verbs", right.verb)
    )


def _may(api: client.ApiClient, right: Right) -> bool:
    resource, _, part = right.resource.partition("/")
    attributes = {
        "namespace": right.namespace or "",
        "group": right.group,
        "resource": resource,
        "subresource": part,
        "verb": right.verb,
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = request_json(api, "POST", f"{REVIEWS}/selfsubjectaccessreviews", body=body)
    return bool(answer.get("status", {}).get("allowed"))
