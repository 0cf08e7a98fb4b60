"""Which pod sees which volume, and who may write."""

from __future__ import annotations

from typing import Any

import pytest
from made_plans import (
    EPHEMERAL,
    LOCAL_CLAIM,
    NEW_CLAIM,
    OBJECT,
    OLD_CLAIM,
    RUN_ID,
    SIMULATED,
    plan,
    settings,
)

from bench.launch.kubernetes.manifests import ExistingClaim, Manifests, build
from bench.launch.kubernetes.yaml import plain


def seen(made: Manifests, pod: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the data volume and its mount in a pod, both empty where it has none; its spec."""
    job = made.anchor if pod == "prepare" else made.measure(0)
    spec = plain(job)["spec"]["template"]["spec"]
    volume = [one for one in spec["volumes"] if one["name"] == "data"]
    mount = [one for one in spec["containers"][0]["volumeMounts"] if one["name"] == "data"]
    return (volume or [{}])[0], (mount or [{}])[0], spec


def environment(spec: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one.get("value") for one in spec["containers"][0]["env"]}


def test_the_preparing_pod_writes_and_measuring_pods_read_the_same_claim() -> None:
    made = build(plan(NEW_CLAIM), cluster=settings())
    name = f"bench-{RUN_ID}-data"
    assert made.claim is not None
    assert made.claim.metadata.name == name
    volume, mount, spec = seen(made, "prepare")
    assert volume["persistentVolumeClaim"] == {"claimName": name}
    assert mount == {"name": "data", "mountPath": "/data"}
    assert environment(spec)["BENCH_DATA_ROOT"] == "/data"
    volume, mount, spec = seen(made, "measure")
    assert volume["persistentVolumeClaim"] == {"claimName": name, "readOnly": True}
    assert mount == {"name": "data", "mountPath": "/data", "readOnly": True}
    assert spec["securityContext"]["fsGroup"] == 65532


def test_an_existing_claim_keeps_its_owner_and_its_directory() -> None:
    made = build(plan(OLD_CLAIM), cluster=settings(supplemental_groups=[4000]))
    for pod in ("prepare", "measure"):
        volume, mount, spec = seen(made, pod)
        assert volume["persistentVolumeClaim"]["claimName"] == "imagenet"
        assert mount["subPath"] == "teams/vision"
        assert mount.get("readOnly", False) == (pod == "measure")
        assert "fsGroup" not in spec["securityContext"]
        assert spec["securityContext"]["supplementalGroups"] == [4000]


def test_a_claim_that_nobody_may_write_is_only_read() -> None:
    read_only = ExistingClaim("gpfs", ("ReadOnlyMany",))
    made = build(plan(OLD_CLAIM), cluster=settings(), existing=read_only)
    assert seen(made, "prepare")[1]["readOnly"] is True
    either = ExistingClaim("gpfs", ("ReadOnlyMany", "ReadWriteMany"))
    made = build(plan(OLD_CLAIM), cluster=settings(), existing=either)
    assert "readOnly" not in seen(made, "prepare")[1]


def test_an_ephemeral_volume_is_written_and_read_by_the_same_pod() -> None:
    made = build(plan(EPHEMERAL), cluster=settings())
    assert made.claim is None
    volume, mount, spec = seen(made, "prepare")
    assert (volume, mount) == ({}, {})
    assert "BENCH_DATA_ROOT" not in environment(spec)
    volume, mount, spec = seen(made, "measure")
    template = volume["ephemeral"]["volumeClaimTemplate"]
    assert template["spec"]["storageClassName"] == "local-nvme"
    assert template["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert template["spec"]["resources"] == {"requests": {"storage": "200Gi"}}
    assert template["metadata"]["labels"]["bench/run-id"] == RUN_ID
    assert mount == {"name": "data", "mountPath": "/data"}
    assert spec["securityContext"]["fsGroup"] == 65532


@pytest.mark.parametrize("storage", [OBJECT, SIMULATED])
@pytest.mark.parametrize("pod", ["prepare", "measure"])
def test_objects_and_simulated_storage_need_no_volume(storage: dict[str, Any], pod: str) -> None:
    volume, mount, spec = seen(build(plan(storage), cluster=settings()), pod)
    assert (volume, mount) == ({}, {})
    assert "BENCH_DATA_ROOT" not in environment(spec)


def test_a_claim_that_is_kept_is_found_by_later_runs_and_by_no_run_label() -> None:
    other_id = "01m842dnah10sf12jzz42x5v1r"
    keep = settings(keep_dataset="keep")
    first = build(plan(NEW_CLAIM), cluster=keep, owner_uid="u").claim
    later = build(plan(NEW_CLAIM, run_id=other_id, repeats=5), cluster=keep, owner_uid="v").claim
    assert first is not None
    assert later is not None
    assert later.metadata.name == first.metadata.name
    assert first.metadata.owner_references is None
    assert not {"bench/run-id", "bench/attempt"} & first.metadata.labels.keys()
    assert first.metadata.labels["bench/dataset"] == "047c6e4aba4b"
    names = {
        build(made, cluster=keep).claim.metadata.name  # type: ignore[union-attr]
        for made in (plan(NEW_CLAIM), plan(LOCAL_CLAIM), plan(NEW_CLAIM, workload="smoke"))
    }
    assert len(names) == 3


def test_a_claim_tied_to_a_node_is_made_where_the_gpus_are() -> None:
    for gpu, ask in (
        (
            "device-plugin",
            lambda s: s["containers"][0]["resources"]["limits"].get("nvidia.com/gpu"),
        ),
        ("dra", lambda s: s.get("resourceClaims")),
    ):
        tied = build(plan(LOCAL_CLAIM), cluster=settings(gpu=gpu))
        shared = build(plan(NEW_CLAIM), cluster=settings(gpu=gpu))
        assert ask(seen(tied, "prepare")[2]) == ask(seen(tied, "measure")[2]) is not None
        assert ask(seen(shared, "prepare")[2]) is None
        assert ask(seen(shared, "measure")[2]) is not None


def test_the_endpoints_certificates_travel_in_the_config_map() -> None:
    storage = {"object": {"url": "s3://b/p", "ca_bundle": "site.pem"}}
    made = build(plan(storage), cluster=settings(), ca_bundle="-----BEGIN CERTIFICATE-----\n")
    assert made.plan_config.data is not None
    assert made.plan_config.data["ca.pem"].startswith("-----BEGIN")
    assert environment(seen(made, "measure")[2])["AWS_CA_BUNDLE"] == "/etc/bench/ca.pem"
