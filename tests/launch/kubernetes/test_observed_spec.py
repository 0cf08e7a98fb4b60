"""What admission changed is told from what the API server writes into every pod."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from made_plans import EPHEMERAL, NEW_CLAIM, plan, settings

from bench.launch.kubernetes.manifests import build
from bench.launch.kubernetes.observed_spec import changes
from bench.launch.kubernetes.yaml import plain


def pod() -> dict[str, Any]:
    made = build(plan(EPHEMERAL), cluster=settings(), namespace="n")
    spec: dict[str, Any] = plain(made.measure(0))["spec"]["template"]["spec"]
    return spec


def after(**given: Any) -> dict[str, Any]:
    return copy.deepcopy(pod()) | given


def test_what_the_server_fills_in_is_no_change() -> None:
    applied = after(
        dnsPolicy="ClusterFirst",
        schedulerName="default-scheduler",
        nodeName="n",
        hostname="x-0",
        priority=1000,
        preemptionPolicy="PreemptLowerPriority",
        serviceAccount="bench-worker",
        tolerations=[
            {"key": f"node.kubernetes.io/{what}", "operator": "Exists", "effect": "NoExecute",
             "tolerationSeconds": 300}
            for what in ("not-ready", "unreachable")
        ],
    )  # fmt: skip
    (container,) = applied["containers"]
    container["terminationMessagePath"] = "/dev/termination-log"
    container["imagePullPolicy"] = "IfNotPresent"
    container["env"].append({"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {}}})
    assert changes(pod(), applied) == []


@pytest.mark.parametrize(
    ("amount", "same"), [("3", True), ("3000m", True), ("2", False), ("3500m", False)]
)
def test_amounts_are_compared_by_value(amount: str, *, same: bool) -> None:
    applied = after()
    applied["containers"][0]["resources"]["limits"]["cpu"] = amount
    found = [str(change) for change in changes(pod(), applied)]
    assert found == ([] if same else [f"containers[bench].resources.limits.cpu: 3 became {amount}"])


def test_other_changes_are_said_one_by_one() -> None:
    applied = after(nodeSelector={"pool": "spot"}, hostNetwork=True)
    (container,) = applied["containers"]
    container["env"] = [one for one in container["env"] if one["name"] != "HOME"]
    container["env"].append({"name": "HTTPS_PROXY", "value": "p"})
    container["image"] = "mirror/bench"
    applied["containers"].insert(0, {"name": "proxy"})
    applied["tolerations"] = [{"key": "spot", "operator": "Exists"}]
    before = pod()
    found = [str(change) for change in changes(before, applied)]
    assert found == [
        "containers[bench].env[HOME] removed: {'name': 'HOME', 'value': '/tmp'}",
        "containers[bench].env[HTTPS_PROXY] added: {'name': 'HTTPS_PROXY', 'value': 'p'}",
        f"containers[bench].image: {before['containers'][0]['image']} became mirror/bench",
        "containers[proxy] added: {'name': 'proxy'}",
        "nodeSelector.pool added: spot",
        "hostNetwork added: True",
        "tolerations[spot] added: {'key': 'spot', 'operator': 'Exists'}",
    ]


def test_a_spec_does_not_differ_from_itself() -> None:
    for storage in (NEW_CLAIM, EPHEMERAL):
        made = build(plan(storage, nodes=2), cluster=settings(gpu="device-plugin"), namespace="n")
        for job in (made.anchor, made.measure(0)):
            spec = plain(job)["spec"]["template"]["spec"]
            assert changes(spec, copy.deepcopy(spec)) == []
