"""`bench render` prints YAML, the same each time, and refuses what would fail later."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from restricted import violations

from bench.cli.render import command
from bench.errors import BenchError

SCHEDULE = ("schedule", "smoke", "-s", "simulated", "--image", "registry.example/bench:1")


def printed(*arguments: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("# ")
    return list(yaml.safe_load_all(result.stdout))


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(command, arguments)
    assert result.stdout == ""
    if isinstance(result.exception, BenchError):
        return str(result.exception)
    assert result.exit_code == 2
    return result.output


def test_a_namespace_enforces_restricted_and_bounds_what_is_used() -> None:
    made = printed("namespace", "-n", "team", "--gpus", "16", "--class-storage", "fast=5Ti")
    assert [one["kind"] for one in made[:3]] == ["Namespace", "ResourceQuota", "LimitRange"]
    namespace, quota, *rest = made
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert quota["spec"]["hard"]["requests.nvidia.com/gpu"] == "16"
    assert quota["spec"]["hard"]["fast.storageclass.storage.k8s.io/requests.storage"] == "5Ti"
    assert all(one["metadata"]["namespace"] == "team" for one in (quota, *rest))


def test_object_endpoints_are_closed_until_they_are_named() -> None:
    assert "bench-objects" not in [one["metadata"]["name"] for one in printed("namespace")]
    (policy,) = [
        one
        for one in printed("namespace", "--object-cidr", "10.9.0.0/16", "--object-port", "9000")
        if one["metadata"]["name"] == "bench-objects"
    ]
    (rule,) = policy["spec"]["egress"]
    assert rule["ports"] == [{"port": 9000, "protocol": "TCP"}]
    assert rule["to"] == [{"ipBlock": {"cidr": "10.9.0.0/16"}}]


def test_rights_are_bound_to_whom_is_named() -> None:
    made = printed("rbac", "-n", "team", "--user", "eva", "--group", "storage")
    bindings = [one for one in made if one["kind"].endswith("Binding")]
    for one in bindings:
        names = {(subject["kind"], subject["name"]) for subject in one["subjects"]}
        assert names == {
            ("ServiceAccount", "bench-launcher"),
            ("User", "eva"),
            ("Group", "storage"),
        }
    accounts = {one["metadata"]["name"] for one in made if one["kind"] == "ServiceAccount"}
    assert accounts == {"bench-worker", "bench-launcher"}
    assert "bench-worker" not in str(bindings)


def test_a_worker_account_can_carry_a_clouds_identity() -> None:
    made = printed("rbac", "--worker-annotation", "eks.amazonaws.com/role-arn=arn:aws:iam::1:r/x")
    worker = made[0]
    assert worker["metadata"]["name"] == "bench-worker"
    annotations = worker["metadata"]["annotations"]
    assert annotations["eks.amazonaws.com/role-arn"] == "arn:aws:iam::1:r/x"


def test_a_schedule_carries_the_documents_and_the_options(tmp_path: Path) -> None:
    config, cron = printed(
        *SCHEDULE,
        *("--cron", "0 3 * * 1", "--results-claim", "results", "-n", "team"),
        *("--", "--repeats", "5", "--set", "workload.batch_size=2"),
    )
    assert "name: smoke" in config["data"]["workload.yaml"]
    assert "name: simulated" in config["data"]["storage.yaml"]
    assert cron["kind"] == "CronJob"
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert violations(pod) == []
    assert pod["serviceAccountName"] == "bench-launcher"
    line = " ".join(pod["containers"][0]["command"])
    assert "--set plan.cluster.namespace=team " in line
    assert line.endswith("--repeats 5 --set workload.batch_size=2")
    mounted = pod["containers"][0]["volumeMounts"]
    files = {
        f"{mount['mountPath']}/{key}"
        for mount in mounted
        if mount["name"] == "documents"
        for key in config["data"]
    }
    assert files <= set(pod["containers"][0]["command"])
    assert f"--results {mounted[-1]['mountPath']}" in line


def test_without_a_time_it_is_one_job() -> None:
    _, job = printed(*SCHEDULE, "--results", "s3://results/bench")
    assert job["kind"] == "Job"
    assert job["spec"]["backoffLimit"] == 0
    assert violations(job["spec"]["template"]["spec"]) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("namespace", "-n", "Team"), "'Team' is no name of a namespace"),
        (("namespace", "--memory", "lots"), "--memory: 'lots' is no quantity"),
        (("namespace", "--class-storage", "fast"), "--class-storage: 'fast' is no KEY=VALUE"),
        (("namespace", "--class-storage", "fast=x"), "--class-storage: 'x' is no quantity"),
        (("namespace", "--object-cidr", "s3.example"), "--object-cidr: 's3.example' is no range"),
        (("rbac", "--worker-annotation", "x"), "--worker-annotation: 'x' is no KEY=VALUE"),
        (SCHEDULE, "--results: give either"),
        ((*SCHEDULE, "--results", "s3://x", "--results-claim", "y"), "--results: give either"),
        ((*SCHEDULE, "--results", "s3://x", "--cron", "daily"), "--cron: 'daily' has not five"),
        ((*SCHEDULE, "--results", "s3://x", "--time-zone", "UTC"), "--time-zone: means nothing"),
        ((*SCHEDULE, "--results", "s3://x", "--", "--repeat", "5"), "No such option '--repeat'"),
        ((*SCHEDULE, "--results", "s3://x", "--", "--results", "y"), "-- --results: is set by"),
        ((*SCHEDULE, "--results", "s3://x", "--", "--set", "workload.batch=2"), "batch_size"),
        ((*SCHEDULE, "--results", "s3://x", "--", "--set", "plan.rings=2"), "ring_bytes"),
        ((*SCHEDULE, "--results", "s3://x", "--", "--set", "plan.ring_bytes=x"), "a size"),
        (
            (*SCHEDULE, "--results", "s3://x", "--", "--set", "plan.cluster.image=x"),
            "-- --set plan.cluster.image: is set by",
        ),
        (("schedule", "smok", *SCHEDULE[2:], "--results", "s3://x"), "did you mean smoke"),
    ],
)
def test_it_is_refused(arguments: tuple[str, ...], words: str) -> None:
    assert words in refusal(*arguments)


@pytest.mark.parametrize(
    "arguments", [("namespace",), ("rbac",), (*SCHEDULE, "--results", "s3://x")]
)
def test_the_same_bytes_come_out_of_every_process(arguments: tuple[str, ...]) -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-m", "bench", "render", *arguments],
            check=True,
            capture_output=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_the_verbs_help_does_not_load_the_client() -> None:
    program = (
        "import sys\nfrom bench.cli.main import main\n"
        "try:\n    main(['render', 'namespace', '--help'])\n"
        "except SystemExit:\n    print('kubernetes' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "Usage" in done.stdout
    assert done.stderr == "False\n"
