"""The cluster under test is one that `bench` can be tested on."""

from __future__ import annotations

import json
from datetime import timedelta

import kubernetes.client
import pytest

from tests.cluster.fake_nodes import ANNOTATION_MESSAGE, ANNOTATION_SECONDS, MARK

JOB = "rendezvous"

PROGRAM = """
import json, os, socket, sys, time
index = os.environ["JOB_COMPLETION_INDEX"]
peer = f"rendezvous-{1 - int(index)}.rendezvous"
deadline = time.monotonic() + 60
address = None
while address is None:
    try:
        address = socket.gethostbyname(peer)
    except OSError as error:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.1)
with open("/data/block", "wb") as file:
    file.write(os.urandom(1 << 20))
descriptor = os.open("/data/block", os.O_RDONLY | os.O_DIRECT)
import mmap
block = mmap.mmap(-1, 1 << 20)
read = os.preadv(descriptor, [block], 0)
with open("/tmp/verdict", "w") as file:
    json.dump({"index": index, "peer": address, "read": read, "uid": os.getuid()}, file)
"""


def job(*, image: str) -> dict:
    """Return an Indexed Job of two under `restricted`, one pod a node, each with a volume."""
    security = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    claim = {
        "storageClassName": "bench-disk",
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "64Mi"}},
    }
    apart = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {"job-name": JOB}},
    }
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", PROGRAM],
        "terminationMessagePath": "/tmp/verdict",
        "securityContext": security,
        "resources": {"limits": {"cpu": "500m", "memory": "128Mi"}},
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "scratch", "mountPath": "/tmp"},
        ],
    }
    pod = {
        "restartPolicy": "Never",
        "subdomain": JOB,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "affinity": {
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}
        },
        "containers": [container],
        "volumes": [
            {"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": claim}}},
            {"name": "scratch", "emptyDir": {}},
        ],
    }
    return {
        "metadata": {"name": JOB},
        "spec": {
            "completionMode": "Indexed",
            "completions": 2,
            "parallelism": 2,
            "backoffLimit": 0,
            "template": {"spec": pod},
        },
    }


def ready_nodes(core) -> dict[str, str]:
    """Return the names of the nodes that are ready, with their versions."""
    return {
        node.metadata.name: node.status.node_info.kubelet_version
        for node in core.list_node().items
        if any(c.type == "Ready" and c.status == "True" for c in node.status.conditions)
    }


def test_two_nodes_are_ready(cluster):
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    found = ready_nodes(core)
    assert len(found) >= 2
    if cluster.own is not None:
        assert found | {"node-1": "v1.34.4", "node-2": "v1.34.4"} == found


def test_an_indexed_job_spreads_meets_by_name_and_reads_its_volumes(cluster, namespace):
    cluster.require_own()  # for its storage class
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    batch = kubernetes.client.BatchV1Api(cluster.api_client)
    service = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"job-name": JOB}}
    core.create_namespaced_service(namespace, {"metadata": {"name": JOB}, "spec": service})
    batch.create_namespaced_job(namespace, job(image=cluster.image))

    def finished():
        status = batch.read_namespaced_job_status(JOB, namespace).status
        return [c.type for c in status.conditions or [] if c.type in ("Complete", "Failed")]

    assert cluster.wait_for(finished, what="the end of the job") == ["Complete"]
    pods = core.list_namespaced_pod(namespace).items
    messages = [
        json.loads(pod.status.container_statuses[0].state.terminated.message) for pod in pods
    ]
    addresses = {m["index"]: p.status.pod_ip for p, m in zip(pods, messages, strict=True)}
    assert {pod.spec.node_name for pod in pods} == {"node-1", "node-2"}
    assert {m["index"]: m["peer"] for m in messages} == {"0": addresses["1"], "1": addresses["0"]}
    assert {m["read"] for m in messages} == {1 << 20}
    assert {m["uid"] for m in messages} == {65532}


LAUNCHER = """
import json, ssl, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
with open(folder + "token") as file:
    token = file.read()
url = "https://kubernetes.default.svc/apis/authentication.k8s.io/v1/selfsubjectreviews"
body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers)
context = ssl.create_default_context(cafile=folder + "ca.crt")
with urllib.request.urlopen(request, context=context, timeout=20) as answer:
    name = json.load(answer)["status"]["userInfo"]["username"]
with open("/tmp/verdict", "w") as file:
    json.dump({"user": name}, file)
"""


def test_a_pod_reaches_the_api_server_as_its_service_account(cluster, namespace):
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    core.create_namespaced_service_account(namespace, {"metadata": {"name": "launcher"}})
    pod = job(image=cluster.image)["spec"]["template"]["spec"]
    pod |= {"serviceAccountName": "launcher", "automountServiceAccountToken": True}
    pod["volumes"] = [{"name": "scratch", "emptyDir": {}}]
    (container,) = pod["containers"]
    container["command"] = ["python3", "-c", LAUNCHER]
    container["volumeMounts"] = [{"name": "scratch", "mountPath": "/tmp"}]
    core.create_namespaced_pod(namespace, {"metadata": {"name": "launcher"}, "spec": pod})

    def ended():
        statuses = core.read_namespaced_pod_status("launcher", namespace).status.container_statuses
        return statuses and statuses[0].state.terminated

    message = json.loads(cluster.wait_for(ended, what="the end of the pod").message)
    assert message == {"user": f"system:serviceaccount:{namespace}:launcher"}


def test_a_claim_that_cannot_be_served_says_why(cluster, namespace):
    cluster.require_own()
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    claim = {
        "metadata": {"name": "too-large", "annotations": {SELECTED: "node-1"}},
        "spec": {
            "storageClassName": "bench-ram",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Ti"}},
        },
    }
    core.create_namespaced_persistent_volume_claim(namespace, claim)

    def reasons():
        events = core.list_namespaced_event(namespace).items
        return [e.message for e in events if e.reason == "ProvisioningFailed"]

    (message, *_) = cluster.wait_for(reasons, what="an event")
    assert "1Ti asked for" in message
    assert "ram of node-1" in message


SELECTED = "volume.kubernetes.io/selected-node"


def test_a_deleted_claim_takes_its_volume_and_data_along(cluster, namespace):
    own = cluster.require_own()
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    claim = {
        "metadata": {"name": "short-lived", "annotations": {SELECTED: "node-2"}},
        "spec": {
            "storageClassName": "bench-disk",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }
    core.create_namespaced_persistent_volume_claim(namespace, claim)

    def bound():
        found = core.read_namespaced_persistent_volume_claim("short-lived", namespace)
        return found.status.phase == "Bound" and found.spec.volume_name

    volume = cluster.wait_for(bound, what="the claim bound")
    directory = own.layout.volumes / "node-2" / "disk" / volume
    (directory / "file").write_text("data")
    core.delete_namespaced_persistent_volume_claim("short-lived", namespace)

    def gone():
        left = {v.metadata.name for v in core.list_persistent_volume().items}
        return volume not in left and not directory.exists()

    assert cluster.wait_for(gone, what="volume and data gone")


def test_objects_survive_a_crash_of_the_api_server(cluster, namespace):
    own = cluster.require_own()
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    own.kill_api_server()
    try:
        assert not own.api.is_ready
    finally:
        own.start_api_server()
    assert core.read_namespace(namespace).metadata.name == namespace


def test_pods_can_ask_for_gpus_that_a_node_advertises(cluster):
    own = cluster.require_own()
    core = kubernetes.client.CoreV1Api(cluster.api_client)

    def allocatable():
        return core.read_node("node-1").status.allocatable.get("nvidia.com/gpu")

    own.advertise_gpus("node-1", count=2)
    try:
        assert allocatable() == "2"
    finally:
        own.advertise_gpus("node-1", count=0)
    assert allocatable() is None


@pytest.mark.parametrize("words", [["bench", "--help"], ["python3", "-c", "import bench.cli.main"]])
def test_the_image_finds_bench_either_way(cluster, namespace, words):
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    pod = job(image=cluster.image)["spec"]["template"]["spec"]
    pod["volumes"] = [{"name": "scratch", "emptyDir": {}}]
    (container,) = pod["containers"]
    container["command"] = words
    container["volumeMounts"] = [{"name": "scratch", "mountPath": "/tmp"}]
    core.create_namespaced_pod(namespace, {"metadata": {"name": "help"}, "spec": pod})

    def phase():
        found = core.read_namespaced_pod_status("help", namespace).status.phase
        return found in ("Succeeded", "Failed") and found

    assert cluster.wait_for(phase, what="the end of the pod") == "Succeeded"


def test_a_job_of_many_runs_on_fake_nodes(cluster, namespace):
    own = cluster.require_own()
    own.up(extras=["kwok"])
    own.fake_nodes.write_log(["first line", "second line"])
    own.fake_nodes.add(own.api, count=20)
    batch = kubernetes.client.BatchV1Api(cluster.api_client)
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    body = job(image="localhost/none:1")
    body["spec"] |= {"completions": 40, "parallelism": 40}
    template = body["spec"]["template"]
    template["metadata"] = {"annotations": {ANNOTATION_MESSAGE: "done", ANNOTATION_SECONDS: "4s"}}
    pod = template["spec"]
    pod["volumes"] = [{"name": "scratch", "emptyDir": {}}]
    pod["containers"][0]["volumeMounts"] = [{"name": "scratch", "mountPath": "/tmp"}]
    pod["tolerations"] = [{"key": MARK, "operator": "Exists"}]
    pod["nodeSelector"] = {MARK: "fake"}
    del pod["affinity"]
    batch.create_namespaced_job(namespace, body)

    def finished():
        status = batch.read_namespaced_job_status(JOB, namespace).status
        return [c.type for c in status.conditions or [] if c.type in ("Complete", "Failed")]

    try:
        assert cluster.wait_for(finished, what="the end of the job") == ["Complete"]
        pods = core.list_namespaced_pod(namespace).items
        ends = [p.status.container_statuses[0].state.terminated for p in pods]
        assert [end.message for end in ends] == ["done"] * 40
        spans = [e.finished_at - p.status.start_time for e, p in zip(ends, pods, strict=True)]
        assert min(spans) >= timedelta(seconds=3)  # both ends are cut to full seconds
        log = core.read_namespaced_pod_log(pods[0].metadata.name, namespace)
        assert log == "first line\nsecond line\n"
    finally:
        own.fake_nodes.remove(own.api)
