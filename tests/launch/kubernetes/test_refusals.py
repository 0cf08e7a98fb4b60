"""What cannot run in a cluster is refused with the field that is wrong, and nothing is built."""

from __future__ import annotations

from typing import Any

import pytest
from made_plans import (
    DIRECTORY,
    EPHEMERAL,
    LOCAL_CLAIM,
    NEW_CLAIM,
    OBJECT,
    OLD_CLAIM,
    SIMULATED,
    plan,
    settings,
)
from pydantic import ValidationError

from bench.errors import UsageError
from bench.launch.kubernetes.manifests import ExistingClaim, build
from bench.spec.cluster import ClusterSettings


def claim(*modes: str) -> dict[str, Any]:
    return {"pvc": {"storageClassName": "c", "size": "1TiB", "accessModes": list(modes)}}


def limits(**amounts: str) -> dict[str, Any]:
    return {"resources": {"limits": amounts}}


def objects(**credentials: Any) -> dict[str, Any]:
    return {"object": {"url": "s3://b/p", "credentials": credentials}}


REFUSED = {
    "a directory": (plan(DIRECTORY), {}, "storage target target: is a directory"),
    "no image": (plan(SIMULATED), {"image": None}, "plan.cluster.image: is not given"),
    "RWO on two nodes": (
        plan(LOCAL_CLAIM, nodes=2),
        {},
        "storage.pvc.accessModes: ReadWriteOnce cannot be written once and then shared by 2",
    ),
    "ROX beside RWO on two nodes": (
        plan(claim("ReadWriteOnce", "ReadOnlyMany"), nodes=2),
        {},
        "storage.pvc.accessModes: ReadWriteOnce, ReadOnlyMany cannot",
    ),
    "ROX alone": (
        plan(claim("ReadOnlyMany")),
        {},
        "storage.pvc.accessModes: ReadOnlyMany alone leaves nobody to write",
    ),
    "a claim too small": (
        plan({"pvc": {"storageClassName": "c", "size": "1GiB"}}),
        {},
        "storage.pvc.size: 1073741824 bytes do not hold",
    ),
    "an ephemeral volume too small": (
        plan({"ephemeral": {"storageClassName": "c", "size": "1GiB"}}),
        {},
        "storage.ephemeral.size: 1073741824 bytes do not hold",
    ),
    "a secret without a name": (
        plan(objects(source="secret")),
        {},
        "storage.object.credentials.secretName: is not given",
    ),
    "a name without a secret": (
        plan(objects(source="environment", secretName="s")),
        {},
        "storage.object.credentials.secretName: is given",
    ),
    "a certificate file that was not handed on": (
        plan({"object": {"url": "s3://b/p", "ca_bundle": "ca.pem"}}),
        {},
        "storage.object.ca_bundle: ca.pem is a file of this machine",
    ),
    "CUDA without GPUs": (
        plan(SIMULATED, device={"kind": "cuda"}),
        {},
        "plan.device.kind: cuda needs GPUs",
    ),
    "GPUs for nothing": (
        plan(SIMULATED, device={"kind": "emulated"}),
        {"gpu": "dra"},
        "plan.cluster.gpu: dra takes GPUs from others",
    ),
    "GPUs in two places": (
        plan(SIMULATED, pod=limits(**{"nvidia.com/gpu": "1"})),
        {},
        "storage.pod.resources: nvidia.com/gpu is not asked for here",
    ),
    "requests below limits": (
        plan(SIMULATED, pod={"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}}),
        {},
        "storage.pod.resources.requests.cpu: 1 differs from the limit, 2",
    ),
    "a share of a CPU": (
        plan(SIMULATED, pod=limits(cpu="1500m")),
        {},
        "storage.pod.resources.limits.cpu: 1500m is no whole number",
    ),
    "no quantity": (
        plan(SIMULATED, pod=limits(memory="much")),
        {},
        "storage.pod.resources: 'much' is no quantity",
    ),
    "an unknown part of resources": (
        plan(SIMULATED, pod={"resources": {"limit": {"cpu": "1"}}}),
        {},
        "storage.pod.resources: has no key 'limit'",
    ),
    "memory for no ring": (
        plan(SIMULATED, gpus_per_node=4),
        {"memory_bytes": "1GiB"},
        "plan.cluster.memory_bytes: 1073741824 bytes do not hold 4 ring",
    ),
    "memory for no ring, in the document": (
        plan(SIMULATED, pod=limits(memory="256Mi")),
        {},
        "storage.pod.resources.limits.memory: 268435456 bytes do not hold 1 ring",
    ),
    "no toleration": (
        plan(SIMULATED, pod={"tolerations": [{"keys": "x"}]}),
        {},
        "storage.pod.tolerations.0: is no toleration",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused(what: str) -> None:
    made, given, words = REFUSED[what]
    with pytest.raises(UsageError) as caught:
        build(made, cluster=settings(**given))
    assert str(caught.value).startswith(words)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("modes", [("ReadWriteOnce",), ("ReadWriteOncePod",)])
def test_an_existing_claim_that_nodes_cannot_share_is_refused(modes: tuple[str, ...]) -> None:
    found = ExistingClaim(None, modes)
    build(plan(OLD_CLAIM), cluster=settings(), existing=found)
    with pytest.raises(UsageError, match="claim imagenet: has access modes"):
        build(plan(OLD_CLAIM, nodes=2), cluster=settings(), existing=found)


@pytest.mark.parametrize("storage", [NEW_CLAIM, EPHEMERAL, OBJECT, SIMULATED])
def test_the_others_may_have_many_nodes(storage: dict[str, Any]) -> None:
    made = build(plan(storage, nodes=64), cluster=settings())
    assert made.measure(0).spec.completions == 64


def test_pods_of_a_run_cannot_be_pinned_to_fewer_nodes() -> None:
    made = build(plan(NEW_CLAIM, nodes=2), cluster=settings())
    with pytest.raises(UsageError, match="2 pods cannot run apart on 1 named nodes"):
        made.measure(0, nodes=["a", "a"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("namespace", "Not_A_Name"),
        ("namespace", "x" * 64),
        ("gpu", "all"),
        ("cpu", 0),
        ("cpu", 1.5),
        ("run_as_user", 0),
        ("supplemental_groups", [0]),
        ("memory_bytes", "much"),
        ("image", ""),
        ("keep_dataset", "maybe"),
        ("keep", "delete"),
        ("ttl_seconds_after_finished", -1),
    ],
)
def test_wrong_settings_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=name):
        ClusterSettings.model_validate({name: value})
