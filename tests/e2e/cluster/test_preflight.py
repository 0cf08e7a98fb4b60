"""Every refusal of a real API server is named before anything is created."""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any

import kubernetes.client
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "launch" / "kubernetes"))

from made_plans import IMAGE, OBJECT, OLD_CLAIM, SIMULATED, plan, settings

from bench.launch.kubernetes.connect import Connection, connect
from bench.launch.kubernetes.manifests import build
from bench.launch.kubernetes.preflight import Verdict, decide, existing_claim, gather
from bench.launch.kubernetes.rbac import rbac
from bench.launch.kubernetes.template import LAUNCHER, WORKER
from bench.launch.kubernetes.yaml import plain

SMALL = {"cpu": 1, "memory_bytes": "1GiB"}
RAM = {"ephemeral": {"storageClassName": "bench-ram", "size": "200GiB"}}

PATHS = {
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "ResourceQuota": "/api/v1/namespaces/{}/resourcequotas",
    "LimitRange": "/api/v1/namespaces/{}/limitranges",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
}


@pytest.fixture
def administrator(cluster) -> Connection:
    return connect(context=None, kubeconfig=str(cluster.kubeconfig))


@pytest.fixture
def create(administrator, namespace):
    """Create an object of the namespace from its plain form."""
    from bench.launch.kubernetes.connect import request_json

    def create(kind: str, name: str, **rest: Any) -> None:
        body = {"kind": kind, "metadata": {"name": name}, **rest}
        request_json(administrator.api_client, "POST", PATHS[kind].format(namespace), body=body)

    return create


@pytest.fixture
def home(create, namespace) -> str:
    """A namespace with the account of the pods."""
    create("ServiceAccount", WORKER)
    return namespace


def preflight(
    connection: Connection, namespace: str, storage: dict[str, Any], *, cluster: Any = None,
    **given: Any,
) -> Verdict:  # fmt: skip
    made = plan(storage, reader_processes=1, **given)
    claim = made.storage.pvc.claim_name if made.storage.pvc is not None else None
    manifests = build(
        made,
        cluster=settings(**(SMALL | (cluster or {}))),
        namespace=namespace,
        existing=existing_claim(connection, claim_name=claim, namespace=namespace),
    )
    return decide(gather(connection, manifests, namespace=namespace), manifests)


def refusals(*arguments: Any, **given: Any) -> list[str]:
    return [str(refusal) for refusal in preflight(*arguments, **given).refusals]


def nothing_is_left(cluster, namespace: str) -> bool:
    batch = kubernetes.client.BatchV1Api(cluster.api_client)
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    found = batch.list_namespaced_job(namespace).items + core.list_namespaced_pod(namespace).items
    return not found and not core.list_namespaced_service(namespace).items


def test_a_run_that_can_be_is_not_refused(cluster, administrator, home):
    cluster.require_own()
    found = preflight(administrator, home, RAM, nodes=2)
    assert found.refusals == ()
    assert [note.place for note in found.notes] == ["CSIDriver cluster.bench.invalid/local"]
    assert nothing_is_left(cluster, home)


def test_all_refusals_come_at_once(cluster, administrator, namespace):
    storage = {"ephemeral": {"storageClassName": "no-such", "size": "200GiB"}}
    found = refusals(
        administrator,
        namespace,
        storage,
        nodes=1000,
        cluster={"image": "Registry/Bench:1", "priority_class_name": "none", "queue_name": "q"},
    )
    starts = [
        "ServiceAccount bench-worker: does not exist",
        "PriorityClass none: does not exist",
        "LocalQueue q: does not exist",
        "StorageClass no-such: does not exist",
        "nodes: 1000 needed, a pod on each, and ",
        "plan.cluster.image Registry/Bench:1: has no name of an image but 'Registry/Bench' (cap",
    ]
    assert [line[: len(start)] for line, start in zip(found, starts, strict=True)] == starts
    assert nothing_is_left(cluster, namespace)


def test_a_namespace_that_is_not_there(administrator):
    (found, *_) = refusals(administrator, f"none-{uuid.uuid4().hex[:8]}", SIMULATED)
    assert found.startswith("Namespace none-")
    assert "does not exist; apply what `bench render namespace` prints" in found


def test_pod_security_that_the_namespace_enforces(cluster, administrator, home, monkeypatch):
    from bench.launch.kubernetes import pods

    def lax(*_: Any, **__: Any) -> kubernetes.client.V1PodSecurityContext:
        return kubernetes.client.V1PodSecurityContext(run_as_user=0)

    monkeypatch.setattr(pods, "pod_security", lax)
    found = refusals(administrator, home, SIMULATED)
    assert len(found) == 2  # of preparing and of measuring pods; the Jobs are accepted
    assert all(line.startswith("Pod bench-") for line in found)
    assert all("violates PodSecurity" in line for line in found)


QUOTAS = {
    "of CPUs": ({"requests.cpu": "1"}, "requests.cpu: the run needs 2, and there are 1 of 1"),
    "of memory": ({"limits.memory": "1536Mi"}, "limits.memory: the run needs 2Gi, and"),
    "of pods": ({"pods": "1"}, "pods: the run needs 2, and there are 1 of 1 left"),
    "of Jobs": ({"count/jobs.batch": "3"}, "count/jobs.batch: the run needs 4, and there are 3"),
    "of storage": ({"requests.storage": "300Gi"}, "requests.storage: the run needs 400Gi, and"),
    "of a class": (
        {"bench-ram.storageclass.storage.k8s.io/requests.storage": "1Gi"},
        "bench-ram.storageclass.storage.k8s.io/requests.storage: the run needs 400Gi, and",
    ),
    "of claims": ({"persistentvolumeclaims": "1"}, "persistentvolumeclaims: the run needs 2, and"),
}


@pytest.mark.parametrize("what", QUOTAS)
def test_a_quota(cluster, administrator, home, create, what):
    hard, words = QUOTAS[what]
    create("ResourceQuota", "tight", spec={"hard": hard})
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    cluster.wait_for(
        lambda: core.read_namespaced_resource_quota("tight", home).status.hard,
        what="the quota counted",
    )
    (found,) = refusals(administrator, home, RAM, nodes=2, repeats=3)
    assert found.startswith(f"ResourceQuota tight: {words}")


def test_a_quota_of_other_pods_does_not_matter(cluster, administrator, home, create):
    create("ResourceQuota", "others", spec={"hard": {"pods": "0"}, "scopes": ["BestEffort"]})
    assert refusals(administrator, home, SIMULATED) == []


LIMITS = {
    "largest": ({"type": "Container", "max": {"memory": "512Mi"}}, "allows a container at most"),
    "smallest": ({"type": "Container", "min": {"cpu": "2"}}, "demands of a container at least 2"),
    "of pods": ({"type": "Pod", "max": {"memory": "512Mi"}}, "allows a pod at most 512Mi memory"),
    "of claims": (
        {"type": "PersistentVolumeClaim", "max": {"storage": "100Gi"}},
        "allows a claim at most 100Gi storage, and the run's have 200Gi",
    ),
    "default": (
        {"type": "Container", "default": {"ephemeral-storage": "1Gi"}},
        "gives the pods 1Gi of ephemeral-storage, and their tables may take 2Gi",
    ),
}


@pytest.mark.parametrize("what", LIMITS)
def test_a_limit_range(administrator, home, create, what):
    limit, words = LIMITS[what]
    create("LimitRange", "narrow", spec={"limits": [limit]})
    found = preflight(administrator, home, RAM)
    (refusal,) = found.refusals
    assert str(refusal).startswith(f"LimitRange narrow: {words}")
    changed = [str(note) for note in found.notes if note.place == "admission"]
    assert bool(changed) == (what == "default")
    if changed:
        assert "would change the pods: containers[bench].resources.limits" in changed[0]


def test_a_claim_that_is_not_there_or_cannot_be_shared(administrator, home, create):
    (found,) = refusals(administrator, home, OLD_CLAIM)
    assert found.startswith("PersistentVolumeClaim imagenet: does not exist; create it in")
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "",
        "volumeName": "none",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    create("PersistentVolumeClaim", "imagenet", spec=spec)
    found = preflight(administrator, home, OLD_CLAIM)
    assert found.refusals == ()
    assert "PersistentVolumeClaim imagenet: is Pending" in "\n".join(map(str, found.notes))


def test_gpus_that_no_node_has_and_that_one_has(cluster, administrator, home):
    own = cluster.require_own()
    given: dict[str, Any] = {"cluster": {"gpu": "device-plugin"}, "gpus_per_node": 2}
    (found,) = refusals(administrator, home, SIMULATED, **given)
    assert "0 of 2 can take one: 2 have 0 of 2 nvidia.com/gpu" in found
    own.advertise_gpus("node-1", count=2)
    try:
        assert refusals(administrator, home, SIMULATED, **given) == []
        (found,) = refusals(administrator, home, SIMULATED, nodes=2, **given)
        assert "1 of 2 can take one: 1 have 0 of 2 nvidia.com/gpu" in found
    finally:
        own.advertise_gpus("node-1", count=0)


def test_labels_that_no_node_has(cluster, administrator, home):
    cluster.require_own()
    pod = {"nodeSelector": {"rack": "7"}}
    (found,) = refusals(administrator, home, SIMULATED, pod=pod)
    assert "2 lack the label rack=7" in found


def test_a_device_class_that_is_not_there(administrator, home):
    found = refusals(administrator, home, SIMULATED, cluster={"gpu": "dra"})
    assert found[0].startswith("DeviceClass gpu.nvidia.com: does not exist")


def test_a_policy_of_the_cluster_in_its_own_words(cluster, administrator, home):
    name = f"no-{uuid.uuid4().hex[:8]}"
    api = kubernetes.client.AdmissionregistrationV1Api(cluster.api_client)
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"]}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": home}}
    policy = {
        "matchConstraints": {"resourceRules": [rule | {"resources": ["pods"]}]},
        "validations": [{"expression": "false", "message": "pods rest today"}],
    }
    binding = {
        "policyName": name,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": selector},
    }
    try:
        api.create_validating_admission_policy({"metadata": {"name": name}, "spec": policy})
        api.create_validating_admission_policy_binding(
            {"metadata": {"name": name}, "spec": binding}
        )
        found = cluster.wait_for(
            lambda: refusals(administrator, home, SIMULATED), what="the policy in force"
        )
    finally:
        api.delete_validating_admission_policy_binding(name)
        api.delete_validating_admission_policy(name)
    assert all("pods rest today" in line for line in found)


@pytest.fixture
def as_account(cluster, administrator, tmp_path, home):
    """Connect as an account of the namespace."""
    core = kubernetes.client.CoreV1Api(cluster.api_client)

    def as_account(name: str) -> Connection:
        core.create_namespaced_service_account(home, {"metadata": {"name": name}})
        token = core.create_namespaced_service_account_token(
            name, home, kubernetes.client.AuthenticationV1TokenRequest(spec={"audiences": []})
        )
        config = json.loads(Path(cluster.kubeconfig).read_text())
        config["users"] = [{"name": "bench", "user": {"token": token.status.token}}]
        path = tmp_path / name
        path.write_text(json.dumps(config))
        return connect(context=None, kubeconfig=str(path))

    return as_account


def test_rights_that_are_missing_are_refused_and_reads_that_are_become_notes(home, as_account):
    nobody = as_account("nobody")
    found = preflight(nobody, home, RAM)
    lines = [str(refusal) for refusal in found.refusals]
    user = f"user system:serviceaccount:{home}:nobody: may not "
    assert all(line.startswith(user) for line in lines)
    words = f"{user}create, get, list, watch, patch, delete jobs.batch in namespace {home}; have"
    assert any(line.startswith(words) for line in lines)
    claims = [line for line in lines if "persistentvolumeclaims" in line]
    assert [line.split(" in ")[0] for line in claims] == [
        f"{user}get, list, watch persistentvolumeclaims"  # the pods make their own
    ]
    assert not any("secrets" in line for line in lines)
    notes = "\n".join(map(str, found.notes))
    for place in ("ResourceQuota", "LimitRange", "nodes", "StorageClass bench-ram", "Pod bench-"):
        assert f"{place}" in notes
    assert "is forbidden" in notes


def test_the_launchers_own_role_is_enough(administrator, create, as_account, home):
    launcher = as_account(LAUNCHER)
    for made in map(plain, rbac(home)):
        if made["kind"] in ("Role", "RoleBinding"):
            kind, name = made.pop("kind"), made["metadata"]["name"]
            create(kind, name, **{key: made[key] for key in made if key != "metadata"})
    found = preflight(launcher, home, OBJECT)
    assert found.refusals == ()
    unknown = {note.place for note in found.notes}
    assert unknown == {"nodes", "Secret s3-reader"}


def test_an_image_by_tag_is_a_note(administrator, home):
    assert IMAGE.count("@") == 1
    found = preflight(administrator, home, SIMULATED, cluster={"image": "bench:latest"})
    assert found.refusals == ()
    assert "is not pinned by digest" in str(found.notes[0])


IN_CLUSTER = """
import json
from bench.launch.kubernetes.connect import connect
found = connect(context=None, kubeconfig=None)
words = {"namespace": found.namespace, "user": found.user, "in_cluster": found.in_cluster}
with open("/tmp/verdict", "w") as file:
    json.dump(words, file)
"""


def test_a_launcher_in_the_cluster_connects_as_its_account(cluster, home):
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    core.create_namespaced_service_account(home, {"metadata": {"name": LAUNCHER}})
    container = {
        "name": "main",
        "image": cluster.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", IN_CLUSTER],
        "terminationMessagePath": "/tmp/verdict",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],
    }
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": LAUNCHER,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "scratch", "emptyDir": {}}],
    }
    core.create_namespaced_pod(home, {"metadata": {"name": "launcher"}, "spec": pod})

    def ended():
        statuses = core.read_namespaced_pod_status("launcher", home).status.container_statuses
        return statuses and statuses[0].state.terminated

    end = cluster.wait_for(ended, what="the end of the pod")
    assert end.exit_code == 0
    assert json.loads(end.message) == {
        "namespace": home,
        "user": f"system:serviceaccount:{home}:{LAUNCHER}",
        "in_cluster": True,
    }
