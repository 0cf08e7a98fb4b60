"""What holds for every run, whatever the plan and the settings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_plans import (
    EPHEMERAL,
    IMAGE,
    LOCAL_CLAIM,
    NEW_CLAIM,
    OBJECT,
    OLD_CLAIM,
    SIMULATED,
    UID,
    plan,
)
from restricted import violations

from bench.launch.kubernetes import names as n
from bench.launch.kubernetes.manifests import Manifests, build
from bench.launch.kubernetes.namespace import Allowance, namespace_objects
from bench.launch.kubernetes.rbac import rbac
from bench.launch.kubernetes.yaml import dump, plain
from bench.results.ids import new_id
from bench.spec.cluster import ClusterSettings

IDS = st.builds(
    lambda ms, random: new_id(ms * 1_000_000, random=random),
    st.integers(0, 2**48 - 1),
    st.binary(min_size=10, max_size=10),
)

CLUSTERS = st.fixed_dictionaries(
    {"image": st.just(IMAGE)},
    optional={
        "gpu": st.sampled_from(["none", "device-plugin", "dra"]),
        "queue_name": st.just("queue"),
        "priority_class_name": st.just("low"),
        "image_pull_secrets": st.just(("one", "two")),
        "cpu": st.integers(1, 200),
        "memory_bytes": st.integers(2**36, 2**44),
        "run_as_user": st.integers(1, 2**31 - 1),
        "supplemental_groups": st.lists(st.integers(1, 2**31 - 1), max_size=3).map(tuple),
        "keep_dataset": st.sampled_from(["keep", "delete"]),
        "scratch_bytes": st.integers(2**20, 2**40),
        "deadline_seconds": st.floats(1, 1e6),
        "ttl_seconds_after_finished": st.integers(0, 30 * 86400),
        "topology_spread_key": st.just("topology.kubernetes.io/zone"),
        "namespace": st.just("elsewhere"),
    },
).map(ClusterSettings.model_validate)


@st.composite
def built(draw: st.DrawFn) -> Manifests:
    storage = draw(
        st.sampled_from([NEW_CLAIM, LOCAL_CLAIM, OLD_CLAIM, EPHEMERAL, OBJECT, SIMULATED])
    )
    made = plan(
        storage,
        run_id=draw(IDS),
        workload=draw(st.sampled_from(["smoke", "unet3d"])),
        nodes=1 if storage is LOCAL_CLAIM else draw(st.integers(1, 2000)),
        gpus_per_node=draw(st.integers(1, 16)),
        repeats=draw(st.integers(1, 3)),
        max_steps=draw(st.none() | st.integers(1, 10**6)),
    )
    return build(
        made,
        cluster=draw(CLUSTERS),
        owner_uid=draw(st.sampled_from([None, UID])),
        attempt=draw(st.integers(1, 99)),
    )


def walk(value: Any) -> list[tuple[str, Any]]:
    """Return every key with its value, at any depth."""
    if isinstance(value, dict):
        return [*value.items(), *(pair for item in value.values() for pair in walk(item))]
    if isinstance(value, list):
        return [pair for item in value for pair in walk(item)]
    return []


def pods(made: Manifests) -> list[dict[str, Any]]:
    """Return the plain templates of all pods."""
    jobs = [plain(one) for one in made.objects() if one.kind == "Job"]
    return [job["spec"]["template"] for job in jobs]


@settings(max_examples=60, deadline=None)
@given(built())
def test_names_labels_and_owners(made: Manifests) -> None:
    repeats = made.blueprint.plan.settings.repeats
    objects = [plain(one) for one in made.objects()]
    assert [one["kind"] for one in objects[:5]] == [
        *("Job", "ConfigMap", "ConfigMap", "ConfigMap", "Service")
    ]
    assert [one["kind"] for one in objects].count("Job") == 1 + repeats
    keys = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(set(keys)) == len(keys)
    for one in objects:
        metadata = one["metadata"]
        assert len(metadata["name"]) <= 52
        assert metadata["labels"].items() >= n.MANAGED.items()
        assert metadata["annotations"][n.PLAN_DIGEST].startswith("sha256:")
        assert metadata["annotations"][n.TOOL_VERSION] == "0.1.0"
        assert {n.WORKLOAD, n.STORAGE_TARGET, n.STORAGE_CLASS, n.COMPONENT} <= set(
            metadata["labels"]
        )
        assert all(len(value) <= 63 for value in metadata["labels"].values())
        outlives = one["kind"] == "PersistentVolumeClaim" and made.blueprint.keeps_claim
        assert (n.RUN_ID in metadata["labels"]) == (not outlives)
        assert (n.CELL_ID in metadata["labels"]) == (not outlives)
        assert (n.DATASET in metadata["labels"]) == outlives
        owned = one is not objects[0] and not outlives and made.blueprint.owner_uid is not None
        owners = metadata.get("ownerReferences", [])
        assert [owner["uid"] for owner in owners] == ([UID] if owned else [])
        assert all(owner["blockOwnerDeletion"] is False for owner in owners)
        assert all(owner["name"] == objects[0]["metadata"]["name"] for owner in owners)
    for pod in pods(made):
        assert pod["metadata"]["labels"].items() >= n.MANAGED.items()
        assert pod["metadata"]["labels"][n.RUN_ID] == made.blueprint.plan.run_id


@settings(max_examples=60, deadline=None)
@given(built())
def test_every_pod_is_restricted_has_no_token_and_is_guaranteed(made: Manifests) -> None:
    for pod in pods(made):
        spec = pod["spec"]
        assert violations(spec) == []
        assert spec["automountServiceAccountToken"] is False
        assert spec["restartPolicy"] == "Never"
        (container,) = spec["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
        amounts = container["resources"]
        assert amounts["requests"] == amounts["limits"]
        assert int(amounts["limits"]["cpu"]) >= 1
        assert {"cpu", "memory"} <= amounts["limits"].keys()
        assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
        assert pod["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"
        names = [volume["name"] for volume in spec["volumes"]]
        assert [mount["name"] for mount in container["volumeMounts"]] == names
        group = spec["securityContext"].get("fsGroup")
        if group is not None:
            assert spec["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"


@settings(max_examples=60, deadline=None)
@given(built())
def test_a_claim_that_we_did_not_make_is_neither_made_nor_owned_nor_handed_over(
    made: Manifests,
) -> None:
    pvc = made.blueprint.plan.storage.pvc
    if pvc is None or pvc.claim_name is None:
        return
    assert made.claim is None
    for pod in pods(made):
        assert "fsGroup" not in pod["spec"]["securityContext"]


@settings(max_examples=60, deadline=None)
@given(built())
def test_measuring_pods_write_to_no_claim(made: Manifests) -> None:
    for pod in pods(made)[1:]:
        for volume, mount in zip(
            pod["spec"]["volumes"], pod["spec"]["containers"][0]["volumeMounts"], strict=True
        ):
            if "persistentVolumeClaim" in volume:
                assert mount["readOnly"] is True
                assert volume["persistentVolumeClaim"]["readOnly"] is True


@settings(max_examples=60, deadline=None)
@given(built())
def test_jobs_end_by_themselves_and_never_try_again(made: Manifests) -> None:
    jobs = [plain(one)["spec"] for one in made.objects() if one.kind == "Job"]
    num_nodes = made.blueprint.plan.settings.nodes
    for job in jobs:
        assert job["backoffLimit"] == 0
        assert 0 < job["activeDeadlineSeconds"] < 2**31
        assert 0 <= job["ttlSecondsAfterFinished"] < 2**31
        assert job["podReplacementPolicy"] == "Failed"
        assert "suspend" not in job
    measures = jobs[1:]
    for job in measures:
        assert job["completionMode"] == "Indexed"
        assert job["completions"] == job["parallelism"] == num_nodes
        apart = job["template"]["spec"].get("affinity", {}).get("podAntiAffinity")
        assert (apart is not None) == (num_nodes > 1)
    lives = sum(job["activeDeadlineSeconds"] for job in measures)
    assert jobs[0]["ttlSecondsAfterFinished"] >= min(2**31 - 1, lives)


@settings(max_examples=30, deadline=None)
@given(built())
def test_the_same_plan_gives_the_same_bytes(made: Manifests) -> None:
    bp = made.blueprint
    again = build(
        bp.plan.model_copy(deep=True),
        cluster=bp.cluster,
        owner_uid=bp.owner_uid,
        attempt=bp.attempt,
    )
    assert dump(again.objects()) == dump(made.objects())


@settings(max_examples=60, deadline=None)
@given(built())
def test_secrets_are_named_and_never_written(made: Manifests) -> None:
    objects = [plain(one) for one in made.objects()]
    assert not [one for one in objects if one["kind"] == "Secret"]
    for pod in pods(made):
        for variable in pod["spec"]["containers"][0]["env"]:
            if variable["name"].startswith("AWS_") and variable["name"] != "AWS_CA_BUNDLE":
                assert "value" not in variable
                assert variable["valueFrom"]["secretKeyRef"]["name"] == "s3-reader"


def test_credentials_of_the_launcher_go_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, f"planted-{name}")
    made = build(plan(OBJECT), cluster=ClusterSettings(image=IMAGE))
    assert "planted" not in dump(made.objects())


@settings(max_examples=30, deadline=None)
@given(built())
def test_the_config_maps_hold_the_plan_byte_for_byte(made: Manifests) -> None:
    for config in (made.prepare_config, made.plan_config):
        assert config.data is not None
        assert config.data["plan.json"].encode() == made.blueprint.plan.canonical_json()
        assert config.immutable


def test_templates_hold_no_wildcards_no_exec_and_no_secrets() -> None:
    made = rbac("bench", dra=True, co_tenants=True, lease_namespace="leases")
    rules = [rule for one in map(plain, made) for rule in one.get("rules", [])]
    assert len(rules) > 10
    granted = {(r, v) for rule in rules for r in rule["resources"] for v in rule["verbs"]}
    assert "*" not in json.dumps(rules)
    resources = {resource for resource, _ in granted}
    assert resources.isdisjoint(
        {"secrets", "pods/exec", "pods/attach", "pods/ephemeralcontainers", "roles"}
    )
    for one in map(plain, made):
        if one["kind"] == "ClusterRole":
            verbs = {verb for rule in one["rules"] for verb in rule["verbs"]}
            assert verbs <= {"get", "list"}


def test_everything_of_the_templates_is_labelled() -> None:
    for one in map(plain, [*rbac("bench"), *namespace_objects("bench", allowance=Allowance())]):
        assert one["metadata"]["labels"].items() >= n.MANAGED.items()
        assert n.RUN_ID not in one["metadata"]["labels"]


def test_worker_pods_match_the_network_policies_and_the_service() -> None:
    made = build(plan(NEW_CLAIM, nodes=2), cluster=ClusterSettings(image=IMAGE))
    prepare, measure = (pod["metadata"]["labels"] for pod in pods(made))
    selector = plain(made.service)["spec"]["selector"]
    assert selector.items() <= measure.items()
    assert not selector.items() <= prepare.items()
    policies = {
        one["metadata"]["name"]: one["spec"]
        for one in map(plain, namespace_objects("bench", allowance=Allowance()))
        if one["kind"] == "NetworkPolicy"
    }
    meeting = policies["bench-rendezvous"]
    (expression,) = meeting["podSelector"]["matchExpressions"]
    assert measure[expression["key"]] in expression["values"]
    assert prepare[expression["key"]] not in expression["values"]
    assert meeting["ingress"][0]["ports"] == [{"port": n.COORDINATOR_PORT, "protocol": "TCP"}]
    (port,) = plain(made.service)["spec"]["ports"]
    assert port["port"] == port["targetPort"] == n.COORDINATOR_PORT
    assert dict(walk(policies["bench-default-deny"])) == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }
