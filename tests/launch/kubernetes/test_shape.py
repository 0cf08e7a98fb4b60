"""What pods ask for: worked out, taken from the document, or set."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_plans import NEW_CLAIM, SIMULATED, plan, settings

from bench.launch.kubernetes.manifests import build
from bench.launch.kubernetes.shape import parsed, quantity, tolerations
from bench.launch.kubernetes.yaml import plain


def limits(made_plan, **given: Any) -> dict[str, str]:
    job = plain(build(made_plan, cluster=settings(**given)).measure(0))
    amounts: dict[str, str] = job["spec"]["template"]["spec"]["containers"][0]["resources"][
        "limits"
    ]
    return amounts


@given(st.integers(1, 2**62))
def test_quantities_say_the_same_number(num_bytes: int) -> None:
    assert parsed("here", quantity(num_bytes)) == num_bytes


def test_rings_readers_and_ranks_make_the_pods_size() -> None:
    one = limits(plan(SIMULATED))
    assert one == {"cpu": "3", "memory": "1Gi"}
    assert limits(plan(SIMULATED, gpus_per_node=8))["cpu"] == "24"
    assert limits(plan(SIMULATED, reader_processes=5))["cpu"] == "6"
    large = limits(plan(SIMULATED, ring_bytes="8GiB", gpus_per_node=4))
    assert parsed("", large["memory"]) > 32 * 2**30
    with_gpu = limits(plan(SIMULATED), gpu="device-plugin")
    assert parsed("", with_gpu["memory"]) >= parsed("", one["memory"]) + 3 * 2**30


def test_the_document_comes_before_what_is_worked_out_and_settings_before_it() -> None:
    pod = {"resources": {"requests": {"cpu": "7"}, "limits": {"memory": "9Gi", "rdma/hca": "1"}}}
    made = plan(SIMULATED, pod=pod)
    assert limits(made) == {"cpu": "7", "memory": "9Gi", "rdma/hca": "1"}
    assert limits(made, cpu=2, memory_bytes="3GiB") == {
        "cpu": "2",
        "memory": "3Gi",
        "rdma/hca": "1",
    }


def test_gpus_are_asked_for_by_the_resource_or_by_a_claim() -> None:
    made = plan(NEW_CLAIM, gpus_per_node=4)
    assert limits(made, gpu="device-plugin")["nvidia.com/gpu"] == "4"
    named = limits(made, gpu="device-plugin", gpu_resource_name="nvidia.com/mig-1g.10gb")
    assert named["nvidia.com/mig-1g.10gb"] == "4"
    assert "nvidia.com/gpu" not in limits(made)
    claimed = build(made, cluster=settings(gpu="dra"))
    assert not [name for name in limits(made, gpu="dra") if "/" in name]
    template = plain(claimed.claim_template)
    assert template["apiVersion"] == "resource.k8s.io/v1"
    (request,) = template["spec"]["spec"]["devices"]["requests"]
    pod = plain(claimed.measure(0))["spec"]["template"]["spec"]
    (claim,) = pod["resourceClaims"]
    assert claim["resourceClaimTemplateName"] == template["metadata"]["name"]
    assert pod["containers"][0]["resources"]["claims"] == [{"name": claim["name"]}]
    assert request["exactly"]["count"] == 4


@pytest.mark.parametrize(
    ("given", "declared", "keys"),
    [
        ({"gpu": "none"}, (), []),
        ({"gpu": "dra"}, (), ["nvidia.com/gpu"]),
        ({"gpu": "device-plugin"}, ({"key": "nvidia.com/gpu"},), ["nvidia.com/gpu"]),
        (
            {"gpu": "device-plugin", "gpu_resource_name": "amd.com/gpu"},
            ({"key": "own", "operator": "Exists"},),
            ["own", "amd.com/gpu", "nvidia.com/gpu"],
        ),
    ],
)
def test_gpu_nodes_are_tolerated_with_gpus_alone(given, declared, keys: list[str]) -> None:
    assert [one.key for one in tolerations(settings(**given), declared)] == keys
