"""The storage classes are what they are said to be."""

from __future__ import annotations

import hashlib
import json

import boto3
import kubernetes.client
import pytest

from tests.cluster.settings import SLOW_READ_BYTES_PER_SECOND

SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}

READ_DIRECTLY = """
import json, mmap, os, time
block = mmap.mmap(-1, 4 << 20)
with open("/data/file", "wb") as file:
    for _ in range(10):
        file.write(os.urandom(4 << 20))
    file.flush()
    os.fsync(file.fileno())
descriptor = os.open("/data/file", os.O_RDONLY | os.O_DIRECT)
started = time.monotonic()
total = sum(os.preadv(descriptor, [block], offset) for offset in range(0, 40 << 20, 4 << 20))
seconds = time.monotonic() - started
device = os.stat("/data").st_dev
text = {"bytes": total, "seconds": seconds, "device": f"{os.major(device)}:{os.minor(device)}"}
with open("/tmp/verdict", "w") as file:
    json.dump(text, file)
"""

WRITE_SHARED = """
import os
with open("/data/shared", "wb") as file:
    file.write(bytes(range(256)) * 4096)
    os.fsync(file.fileno())
"""

SHARED_SHA256 = hashlib.sha256(bytes(range(256)) * 4096).hexdigest()

READ_SHARED = """
import hashlib, json
with open("/data/shared", "rb") as file:
    digest = hashlib.sha256(file.read()).hexdigest()
types = {line.split()[4]: line.split(" - ")[1].split()[0] for line in open("/proc/self/mountinfo")}
with open("/tmp/verdict", "w") as file:
    json.dump({"sha256": digest, "type": types["/data"]}, file)
"""


@pytest.fixture
def run(cluster, namespace):
    """Run a program in a pod, with a claim or a secret; return what it wrote as its verdict."""
    core = kubernetes.client.CoreV1Api(cluster.api_client)

    def run(program: str, *, node: str, claim: str = "", secret: str = "") -> dict:
        data = {"name": "data", "emptyDir": {}}
        if claim:
            data = {"name": "data", "persistentVolumeClaim": {"claimName": claim}}
        pod = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "nodeSelector": {"kubernetes.io/hostname": node},
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "main",
                    "image": cluster.image,
                    "command": ["python3", "-c", program],
                    "terminationMessagePath": "/tmp/verdict",
                    "securityContext": SECURITY,
                    "envFrom": [{"secretRef": {"name": secret}}] if secret else [],
                    "volumeMounts": [
                        {"name": "data", "mountPath": "/data"},
                        {"name": "scratch", "mountPath": "/tmp"},
                    ],
                }
            ],
            "volumes": [
                data,
                {"name": "scratch", "emptyDir": {}},
            ],
        }
        name = core.create_namespaced_pod(
            namespace, {"metadata": {"generateName": "run-"}, "spec": pod}
        ).metadata.name

        def finished():
            status = core.read_namespaced_pod_status(name, namespace).status
            return status.phase in ("Succeeded", "Failed") and status

        status = cluster.wait_for(finished, what=f"the end of pod {name}")
        assert status.phase == "Succeeded", core.read_namespaced_pod_log(name, namespace)
        return json.loads(status.container_statuses[0].state.terminated.message or "{}")

    return run


@pytest.fixture
def claim(cluster, namespace):
    """Make a claim of a class; return its name."""
    core = kubernetes.client.CoreV1Api(cluster.api_client)

    def claim(storage_class: str, *, mode: str = "ReadWriteOnce") -> str:
        spec = {
            "storageClassName": storage_class,
            "accessModes": [mode],
            "resources": {"requests": {"storage": "64Mi"}},
        }
        body = {"metadata": {"name": storage_class}, "spec": spec}
        return core.create_namespaced_persistent_volume_claim(namespace, body).metadata.name

    return claim


@pytest.mark.parametrize("storage_class", ["bench-disk", "bench-ram"])
def test_a_class_reads_directly(cluster, claim, run, storage_class):
    cluster.require_own()
    verdict = run(READ_DIRECTLY, claim=claim(storage_class), node="node-2")
    assert verdict["bytes"] == 40 << 20


def test_the_slow_class_is_held_to_its_rate_by_the_kernel(cluster, claim, run):
    cluster.require_own()
    verdict = run(READ_DIRECTLY, claim=claim("bench-slow"), node="node-1")
    assert verdict["bytes"] == 40 << 20
    # Never faster, however fast the disk: a busy machine can only make it slower. The kernel
    # lets the first slice of a tenth of a second pass at once.
    allowed = (verdict["seconds"] + 0.1) * SLOW_READ_BYTES_PER_SECOND
    assert verdict["bytes"] <= allowed * 1.02


def test_both_nodes_share_moosefs(cluster, claim, run):
    own = cluster.require_own()
    own.up(extras=["moosefs"])
    shared = claim("bench-moosefs", mode="ReadWriteMany")
    run(WRITE_SHARED, claim=shared, node="node-1")
    verdict = run(READ_SHARED, claim=shared, node="node-2")
    assert verdict["sha256"] == SHARED_SHA256
    assert verdict["type"].startswith("fuse")


def test_a_local_class_refuses_to_be_shared(cluster, namespace):
    cluster.require_own()
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    spec = {
        "storageClassName": "bench-disk",
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "1Mi"}},
    }
    metadata = {"name": "shared", "annotations": {"volume.kubernetes.io/selected-node": "node-1"}}
    core.create_namespaced_persistent_volume_claim(namespace, {"metadata": metadata, "spec": spec})

    def messages():
        events = core.list_namespaced_event(namespace).items
        return [e.message for e in events if e.reason == "ProvisioningFailed"]

    (message, *_) = cluster.wait_for(messages, what="an event")
    assert "lies on one node and cannot be ReadWriteMany" in message


READ_OBJECT = """
import boto3, json, os
client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
body = client.get_object(Bucket=os.environ["BUCKET"], Key="folder/object")["Body"].read()
with open("/tmp/verdict", "w") as file:
    json.dump({"bytes": len(body), "last": body[-1]}, file)
"""


def test_pods_reach_the_object_store_with_keys_of_a_secret(cluster, namespace, run):
    own = cluster.require_own()
    own.up(extras=["s3"])
    keys = own.object_store.credentials
    client = boto3.client(
        "s3",
        endpoint_url=keys.endpoint_url,
        region_name=keys.region,
        aws_access_key_id=keys.access_key_id,
        aws_secret_access_key=keys.secret_access_key,
    )
    client.create_bucket(Bucket=namespace)
    client.put_object(Bucket=namespace, Key="folder/object", Body=bytes(range(200)) * 1000)
    secret = {
        "AWS_ENDPOINT_URL": keys.endpoint_url,
        "AWS_ACCESS_KEY_ID": keys.access_key_id,
        "AWS_SECRET_ACCESS_KEY": keys.secret_access_key,
        "BUCKET": namespace,
    }
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    core.create_namespaced_secret(namespace, {"metadata": {"name": "s3"}, "stringData": secret})
    assert run(READ_OBJECT, secret="s3", node="node-2") == {"bytes": 200_000, "last": 199}
    wrong = {"AWS_SECRET_ACCESS_KEY": "wrong"}
    core.patch_namespaced_secret("s3", namespace, {"stringData": wrong})
    with pytest.raises(AssertionError, match="SignatureDoesNotMatch"):
        run(READ_OBJECT, secret="s3", node="node-2")
