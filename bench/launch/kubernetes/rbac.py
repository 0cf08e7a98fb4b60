"""The rights of the launcher, no more; and the account of measuring pods, which has none.

No exec, no read of Secrets, nothing that could grant rights. What the ClusterRole reads makes
a result say more; where it is refused the result says `unknown`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubernetes import client

from bench.launch.kubernetes.template import LAUNCHER, WORKER, metadata

__all__ = ["rbac"]

RBAC = "rbac.authorization.k8s.io"
READER = f"{LAUNCHER}-read"
LEASES = f"{LAUNCHER}-lease"


def _rule(group: str, resources: Sequence[str], verbs: str) -> client.V1PolicyRule:
    return client.V1PolicyRule(
        api_groups=[group], resources=list(resources), verbs=verbs.split(",")
    )


def _lease_rule() -> client.V1PolicyRule:
    return _rule("coordination.k8s.io", ["leases"], "create,get,list,update,delete")


def _run_rules(*, dra: bool) -> list[client.V1PolicyRule]:
    """Return what a run needs in its namespace."""
    rules = [
        # patch: a launcher that lives on prolongs the life of the finished preparing Job.
        _rule("batch", ["jobs"], "create,get,list,watch,patch,delete"),
        # create: a bare pod in a server-side dry run, which Pod Security judges; Jobs it
        # only warns about.
        _rule("", ["pods"], "create,get,list,watch"),
        _rule("", ["pods/log"], "get"),
        # patch: the run-state that `bench attach` reads.
        _rule("", ["configmaps"], "create,get,list,patch,delete"),
        _rule("", ["services"], "create,get,list,delete"),
        _rule("", ["persistentvolumeclaims"], "create,get,list,watch,delete"),
        _rule("", ["events"], "list,watch"),
        _rule("", ["resourcequotas", "limitranges"], "get,list"),
        _rule("", ["serviceaccounts", "namespaces"], "get"),
        _lease_rule(),
    ]
    if dra:
        rules.append(_rule("resource.k8s.io", ["resourceclaimtemplates"], "create,get,list,delete"))
        rules.append(_rule("resource.k8s.io", ["resourceclaims"], "get,list"))
    return rules


def _fact_rules(*, dra: bool, co_tenants: bool) -> list[client.V1PolicyRule]:
    """Return what is read of the cluster for the facts in a result."""
    storage = ["storageclasses", "csidrivers", "csinodes", "volumeattachments"]
    rules = [
        _rule("storage.k8s.io", storage, "get,list"),
        _rule("", ["persistentvolumes", "nodes"], "get,list"),
        _rule("scheduling.k8s.io", ["priorityclasses"], "get,list"),
    ]
    if dra:
        rules.append(_rule("resource.k8s.io", ["deviceclasses", "resourceslices"], "get,list"))
    if co_tenants:
        rules.append(_rule("", ["pods"], "list"))
    return rules


def _account(
    name: str, namespace: str, component: str, annotations: Mapping[str, str] | None = None
) -> client.V1ServiceAccount:
    return client.V1ServiceAccount(
        api_version="v1",
        kind="ServiceAccount",
        metadata=metadata(name, namespace=namespace, component=component, annotations=annotations),
        automount_service_account_token=False,
    )


def _role(name: str, namespace: str, rules: list[client.V1PolicyRule]) -> client.V1Role:
    return client.V1Role(
        api_version=f"{RBAC}/v1",
        kind="Role",
        metadata=metadata(name, namespace=namespace, component="launcher"),
        rules=rules,
    )


def _binding(
    name: str, namespace: str, subjects: list[client.RbacV1Subject]
) -> client.V1RoleBinding:
    return client.V1RoleBinding(
        api_version=f"{RBAC}/v1",
        kind="RoleBinding",
        metadata=metadata(name, namespace=namespace, component="launcher"),
        role_ref=client.V1RoleRef(api_group=RBAC, kind="Role", name=name),
        subjects=subjects,
    )


def rbac(
    namespace: str,
    *,
    dra: bool = False,
    co_tenants: bool = False,
    lease_namespace: str | None = None,
    users: Sequence[str] = (),
    groups: Sequence[str] = (),
    worker_annotations: Mapping[str, str] | None = None,
) -> list[Any]:
    """Return accounts, roles and bindings for runs in a namespace.

    Args:
        namespace: Of the runs.
        dra: Runs claim GPUs by ResourceClaimTemplates.
        co_tenants: Results count the other pods of a node, for which all pods of the cluster
            must be readable.
        lease_namespace: Where Leases on storage classes lie, if not in the same namespace.
        users: People who may run, beside the launcher's own account.
        groups: Groups who may.
        worker_annotations: Of the measuring pods' account: a cloud's workload identity.
    """
    subjects = [client.RbacV1Subject(kind="ServiceAccount", name=LAUNCHER, namespace=namespace)]
    subjects += [client.RbacV1Subject(kind="User", name=user, api_group=RBAC) for user in users]
    subjects += [client.RbacV1Subject(kind="Group", name=name, api_group=RBAC) for name in groups]
    found: list[Any] = [
        _account(WORKER, namespace, "worker", worker_annotations),
        _account(LAUNCHER, namespace, "launcher"),
        _role(LAUNCHER, namespace, _run_rules(dra=dra)),
        _binding(LAUNCHER, namespace, subjects),
    ]
    if lease_namespace is not None and lease_namespace != namespace:
        # Bindings of several namespaces lie side by side there.
        name = f"{LEASES}-{namespace}"
        found.append(_role(name, lease_namespace, [_lease_rule()]))
        found.append(_binding(name, lease_namespace, subjects))
    # Named after the namespace: what one team has applied must not widen another's rights.
    reader = f"{READER}-{namespace}"
    found.append(
        client.V1ClusterRole(
            api_version=f"{RBAC}/v1",
            kind="ClusterRole",
            metadata=metadata(reader, namespace=None, component="launcher"),
            rules=_fact_rules(dra=dra, co_tenants=co_tenants),
        )
    )
    found.append(
        client.V1ClusterRoleBinding(
            api_version=f"{RBAC}/v1",
            kind="ClusterRoleBinding",
            metadata=metadata(reader, namespace=None, component="launcher"),
            role_ref=client.V1RoleRef(api_group=RBAC, kind="ClusterRole", name=reader),
            subjects=subjects,
        )
    )
    return found
