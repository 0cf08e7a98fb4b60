"""What `bench render admission` prints is enforced by a real API server."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import kubernetes.client
import pytest
import yaml
from kubernetes.client.exceptions import ApiException

from bench.launch.kubernetes.admission import admission_objects
from bench.launch.kubernetes.yaml import plain

LOCATION = "https://wiki.example/storage/approvals"
TESTS = Path(__file__).parents[2]
REQUIREMENTS = """\
apiVersion: bench/v1alpha1
kind: Requirements
metadata: {name: training}
spec:
  requirements:
    - {workload: unet3d, target: shared-fs, accelerator: h100, max_stall_ratio: 0.02}
  review_after_days: 36500
"""
LATER = "2999-01-01T00:00:00Z"
ALLOWED = {"unet3d": {"bench-disk": LATER}, "resnet50": {"bench-ram": LATER}}


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def label() -> str:
    """A label of this test alone, so that no other namespace is held to its policy."""
    return f"bench-test-{uuid.uuid4().hex[:8]}/training-workload"


@pytest.fixture
def enforce(cluster, label):
    """Put a policy in the place of the one before; return it when the API server has compiled it.

    It goes with the test.
    """
    api = kubernetes.client.AdmissionregistrationV1Api(cluster.api_client)
    made = []

    def remove():
        while made:
            name = made.pop()
            api.delete_validating_admission_policy_binding(name)
            api.delete_validating_admission_policy(name)

    def enforce(allowed, *, action="deny"):
        remove()
        name = f"bench-test-{uuid.uuid4().hex[:8]}"
        policy, binding = admission_objects(
            allowed, location=LOCATION, action=action, name=name, namespace_label=label
        )
        api.create_validating_admission_policy(plain(policy))
        made.append(name)
        api.create_validating_admission_policy_binding(plain(binding))

        def checked():
            found = api.read_validating_admission_policy(name)
            return found.status is not None and found.status.type_checking is not None and found

        return cluster.wait_for(checked, what="the policy's types are checked")

    yield enforce
    remove()


@pytest.fixture
def labelled(cluster, namespace, label):
    """Set the namespace's label; return its name."""
    core = kubernetes.client.CoreV1Api(cluster.api_client)

    def labelled(workload):
        core.patch_namespace(namespace, {"metadata": {"labels": {label: workload}}})
        return namespace

    return labelled


@pytest.fixture
def claim(cluster):
    """Create a claim, for show or for good; return None, or why it was refused."""
    core = kubernetes.client.CoreV1Api(cluster.api_client)

    def claim(namespace, storage_class, *, dry_run=True, **fields):
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Mi"}},
        }
        if storage_class is not None:
            spec["storageClassName"] = storage_class
        body = {"metadata": {"name": f"c-{uuid.uuid4().hex[:8]}", **fields}, "spec": spec}
        options = {"dry_run": "All"} if dry_run else {}
        try:
            core.create_namespaced_persistent_volume_claim(namespace, body, **options)
        except ApiException as error:
            if error.status != 403:
                raise
            return kubernetes.client.V1Status(message=error.body).message
        return None

    return claim


def in_force(cluster, claim, namespace) -> str:
    """Wait until a class that nobody approved is refused: the policy has reached admission."""
    return cluster.wait_for(lambda: claim(namespace, "bench-slow"), what="the policy is in force")


def test_a_labelled_namespace_gets_approved_classes_only(cluster, enforce, labelled, claim):
    policy = enforce(ALLOWED)
    assert not policy.status.type_checking.expression_warnings
    space = labelled("unet3d")
    refused = in_force(cluster, claim, space)
    assert "storage class bench-slow is not approved for training workload unet3d" in refused
    assert "approved: bench-disk" in refused
    assert LOCATION in refused
    assert claim(space, "bench-disk", dry_run=False) is None
    assert "bench-ram is not approved for training workload unet3d" in claim(space, "bench-ram")


def test_a_thousand_approvals_fit_into_one_policy(cluster, enforce, labelled, claim):
    classes = {f"class-{number:03d}.example": LATER for number in range(49)}
    many = {f"workload-{number:02d}": classes | {"bench-disk": LATER} for number in range(20)}
    policy = enforce(many)
    assert not policy.status.type_checking.expression_warnings
    space = labelled("workload-19")
    assert "class-000.example, class-001.example" in in_force(cluster, claim, space)
    assert claim(space, "bench-disk") is None


def test_a_claim_without_a_class_is_refused(cluster, enforce, labelled, claim):
    enforce(ALLOWED)
    space = labelled("any")
    in_force(cluster, claim, space)
    for missing in (None, ""):
        assert "the claim names no storage class" in claim(space, missing)


def test_any_takes_every_approved_class_and_an_unknown_workload_none(
    cluster, enforce, labelled, claim
):
    enforce(ALLOWED)
    space = labelled("any")
    in_force(cluster, claim, space)
    assert claim(space, "bench-disk") is None
    assert claim(space, "bench-ram") is None
    labelled("cosmoflow")
    refused = cluster.wait_for(lambda: claim(space, "bench-disk"), what="the new label counts")
    assert "not approved for training workload cosmoflow; approved: none" in refused


def test_namespaces_without_the_label_are_left_alone(cluster, enforce, namespace, labelled, claim):
    enforce({})
    space = labelled("unet3d")
    assert "approved: none" in in_force(cluster, claim, space)
    labelled(None)
    cluster.wait_for(lambda: claim(space, "bench-slow") is None, what="the label's removal counts")


def test_an_approval_ends_by_the_servers_clock(cluster, enforce, labelled, claim):
    space = labelled("unet3d")
    for seconds in (8, 30, 90):  # a slow machine may see the first one only when it has ended
        ends = datetime.now(UTC) + timedelta(seconds=seconds)
        enforce({"unet3d": {"bench-disk": stamp(ends)}})
        in_force(cluster, claim, space)
        if claim(space, "bench-disk") is None:
            break
    else:
        pytest.fail("no policy came into force before its approval had ended")
    refused = cluster.wait_for(lambda: claim(space, "bench-disk"), what="the approval ends")
    assert datetime.now(UTC) > ends - timedelta(seconds=1)
    assert "the approval of storage class bench-disk for training workload unet3d ended" in refused
    assert LOCATION in refused


def test_a_clients_own_time_stamp_does_not_prolong_an_approval(cluster, enforce, labelled, claim):
    enforce({"unet3d": {"bench-disk": "2020-01-01T00:00:00Z"}})
    space = labelled("unet3d")
    in_force(cluster, claim, space)
    assert "ended at 2020-01-01" in claim(space, "bench-disk")
    assert "ended at 2020-01-01" in claim(
        space, "bench-disk", creationTimestamp="2019-06-01T00:00:00Z"
    )


def test_what_exists_stays_usable(cluster, enforce, labelled, claim, namespace):
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    assert claim(namespace, "bench-slow", dry_run=False) is None
    (made,) = core.list_namespaced_persistent_volume_claim(namespace).items
    enforce(ALLOWED)
    in_force(cluster, claim, labelled("unet3d"))
    core.patch_namespaced_persistent_volume_claim(
        made.metadata.name, namespace, {"metadata": {"labels": {"team": "a"}}}
    )


def test_warning_lets_the_claim_through(cluster, enforce, labelled, claim):
    enforce(ALLOWED, action="warn")
    space = labelled("unet3d")
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    body = {
        "metadata": {"name": "warned"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "bench-slow",
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }

    def warned():
        _, status, headers = core.create_namespaced_persistent_volume_claim_with_http_info(
            space, body, dry_run="All"
        )
        return status == 201 and headers.get("Warning")

    text = cluster.wait_for(warned, what="the API server warns")
    assert "bench-slow is not approved for training workload unet3d" in text


def test_a_generic_ephemeral_volume_is_held_to_it_too(cluster, enforce, labelled, claim):
    enforce(ALLOWED)
    space = labelled("unet3d")
    in_force(cluster, claim, space)
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    template = {
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "bench-slow",
            "resources": {"requests": {"storage": "1Mi"}},
        }
    }
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    pod = {
        "metadata": {"name": "scratch"},
        "spec": {
            "containers": [{"name": "main", "image": cluster.image, "securityContext": security}],
            "volumes": [{"name": "data", "ephemeral": {"volumeClaimTemplate": template}}],
        },
    }
    core.create_namespaced_pod(space, pod)

    def refused():
        events = core.list_namespaced_event(space).items
        return [event.message for event in events if "not approved for training" in event.message]

    cluster.wait_for(refused, what="the controller is refused the claim")
    assert core.list_namespaced_persistent_volume_claim(space).items == []


def test_what_bench_approve_writes_is_enforced_as_it_is(
    cluster, labelled, label, claim, tmp_path, monkeypatch
):
    """Runs of an approved and of an unapproved class, through the command, to the API server."""
    monkeypatch.syspath_prepend(str(TESTS / "policy"))
    monkeypatch.syspath_prepend(str(TESTS / "results"))
    monkeypatch.chdir(tmp_path)
    from made_evidence import three_occasions

    from bench.cli.main import main
    from bench.results.store import open_store

    store = open_store("bench-results")
    for run in three_occasions(storage_class="bench-disk"):
        store.write_run(run)
    (tmp_path / "wanted.yaml").write_text(REQUIREMENTS)
    words = ["--policy", "policy.yaml", "--location", LOCATION, "--namespace-label", label]
    with pytest.raises(SystemExit) as stop:
        main(["approve", "wanted.yaml", "bench-results", *words])
    assert stop.value.code == 0
    policy, binding = yaml.safe_load_all((tmp_path / "policy.yaml").read_text())
    api = kubernetes.client.AdmissionregistrationV1Api(cluster.api_client)
    name = f"bench-test-{uuid.uuid4().hex[:8]}"  # not that of a policy in use
    policy["metadata"]["name"] = binding["metadata"]["name"] = name
    binding["spec"]["policyName"] = name
    api.create_validating_admission_policy(policy)
    try:
        api.create_validating_admission_policy_binding(binding)
        space = labelled("unet3d")
        refused = in_force(cluster, claim, space)
        assert "bench-slow is not approved for training workload unet3d" in refused
        assert "approved: bench-disk" in refused
        assert claim(space, "bench-disk", dry_run=False) is None
    finally:
        api.delete_validating_admission_policy_binding(name)
        api.delete_validating_admission_policy(name)
