"""What a run really ran on is read from a real cluster; what is refused reads `unknown`."""

from __future__ import annotations

import sys
from pathlib import Path

import kubernetes.client
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "launch" / "kubernetes"))

from made_plans import EPHEMERAL, plan, settings

from bench.launch.kubernetes.connect import connect, request_json
from bench.launch.kubernetes.manifests import build
from bench.launch.kubernetes.observed import _driver, observe
from bench.launch.kubernetes.yaml import plain

DRIVER = "disks.bench.invalid"


@pytest.fixture
def ran(cluster, namespace):
    """A measuring Job of a real plan, whose pod does nothing, on a volume; return what is seen."""
    cluster.require_own()
    connection = connect(context=None, kubeconfig=str(cluster.kubeconfig))
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    core.create_namespaced_service_account(namespace, {"metadata": {"name": "bench-worker"}})
    storage = {"ephemeral": {"storageClassName": "bench-ram", "size": "100MiB"}}
    made = plan(EPHEMERAL, reader_processes=1)
    shrunk = made.model_dump(mode="json", by_alias=True) | {"storage": made.storage.model_dump(
        mode="json", by_alias=True) | storage}  # fmt: skip
    shrunk["dataset"]["total_bytes"] = 1000
    made = type(made).model_validate(shrunk)
    chosen = settings(cpu=1, memory_bytes="1GiB", image=cluster.image)
    manifests = build(made, cluster=chosen, namespace=namespace)
    job = plain(manifests.measure(0))
    job["spec"]["template"]["spec"]["containers"][0]["command"] = ["true"]
    request_json(
        connection.api_client,
        "POST",
        f"/api/v1/namespaces/{namespace}/configmaps",
        body=plain(manifests.plan_config),
    )

    def run(user=connection):
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        request_json(connection.api_client, "POST", path, body=job)
        batch = kubernetes.client.BatchV1Api(cluster.api_client)
        name = job["metadata"]["name"]
        cluster.wait_for(
            lambda: batch.read_namespaced_job_status(name, namespace).status.conditions,
            what="the end of the Job",
        )
        intended = {name: job["spec"]["template"]["spec"]}
        return observe(user, manifests.blueprint, namespace=namespace, intended=intended)

    return run


def test_pods_nodes_and_volumes(cluster, ran):
    found = ran()
    (pod,) = found["pods"]
    assert pod["changes"] == []
    assert pod["qos_class"] == "Guaranteed"
    assert pod["restarts"] == 0
    assert pod["image_digest"].startswith("sha256:")
    assert pod["component"] == "measure"
    assert pod["other_containers"] == []
    (node,) = found["nodes"].values()
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    truth = core.read_node(pod["node"]).status.node_info
    assert node["facts"]["kernel"] == truth.kernel_version
    assert node["facts"]["kubelet"] == truth.kubelet_version
    assert node["facts"]["gpu_product"] == "unknown"
    assert isinstance(node["co_tenants"], int)
    storage = found["storage"]
    assert storage["storage_class"]["parameters"] == {"medium": "ram"}
    (volume,) = storage["volumes"]
    assert volume["claim"] == f"{pod['name']}-data"
    assert (volume["source"], volume["csi_driver"]) == ("local", "none")
    assert volume["capacity"] == "100Mi"
    assert found["evictions"] == []


def test_what_a_limit_range_changed_is_said(cluster, namespace, ran):
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    limit = {"type": "Container", "default": {"ephemeral-storage": "3Gi"}}
    core.create_namespaced_limit_range(
        namespace, {"metadata": {"name": "x"}, "spec": {"limits": [limit]}}
    )
    (pod,) = ran()["pods"]
    assert pod["changes"] == [
        "containers[bench].resources.limits.ephemeral-storage added: 3Gi",
        "containers[bench].resources.requests.ephemeral-storage added: 3Gi",
    ]


def test_the_version_of_a_driver_is_that_of_its_node_plugin(cluster):
    cluster.require_own()
    storage = kubernetes.client.StorageV1Api(cluster.api_client)
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    registrar = {
        "name": "registrar",
        "image": "localhost/registrar:v2",
        "args": [f"--kubelet-registration-path=/var/lib/kubelet/plugins/{DRIVER}/csi.sock"],
    }
    plugin = {"name": "driver", "image": "localhost/disks:v1.2.3"}
    spec = {"nodeName": "node-1", "containers": [plugin, registrar]}
    storage.create_csi_driver({"metadata": {"name": DRIVER}, "spec": {"attachRequired": False}})
    core.create_namespaced_pod("default", {"metadata": {"name": "csi-disks"}, "spec": spec})
    try:
        connection = connect(context=None, kubeconfig=str(cluster.kubeconfig))
        found = _driver(connection.api_client, DRIVER, node="node-1")
    finally:
        core.delete_namespaced_pod("csi-disks", "default", grace_period_seconds=0)
        storage.delete_csi_driver(DRIVER)
    assert found["images"] == {
        "driver": "localhost/disks:v1.2.3",
        "registrar": "localhost/registrar:v2",
    }
    assert found["attach_required"] is False
