"""Preflight's decision: facts in, refusals and notes out, all of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from made_plans import (
    EPHEMERAL,
    LOCAL_CLAIM,
    NEW_CLAIM,
    OBJECT,
    OLD_CLAIM,
    SIMULATED,
    plan,
    settings,
)
from stub_api import SOMEBODY, status, stub_api, write_kubeconfig

from bench.errors import UsageError
from bench.launch.kubernetes.connect import connect
from bench.launch.kubernetes.manifests import Manifests, build
from bench.launch.kubernetes.preflight import Facts, Refusal, Unknown, Verdict, decide
from bench.launch.kubernetes.preflight.facts import _local_queue, pod_requests
from bench.launch.kubernetes.preflight.image import image_problem, is_pinned
from bench.launch.kubernetes.preflight.model import Attempt, Note, Right
from bench.launch.kubernetes.preflight.reading import find_all

NS = "team"


def node(name: str = "n", **given: Any) -> dict[str, Any]:
    allocatable = {"cpu": "64", "memory": "256Gi", "pods": "110", "nvidia.com/gpu": "8"}
    made = {"name": name, "labels": {}, "taints": [], "unschedulable": False, "ready": True}
    return made | {"allocatable": allocatable | given.pop("allocatable", {})} | given


def facts(*, objects: Mapping[tuple[str, str], Any] | None = None, **given: Any) -> Facts:
    """Return facts of a cluster that refuses nothing."""
    usual: dict[str, Any] = {
        "namespace": NS,
        "user": "anna",
        "objects": {("Namespace", NS): {"status": {"phase": "Active"}}} | dict(objects or {}),
        "quotas": (),
        "limit_ranges": (),
        "nodes": tuple(node(f"n{i}") for i in range(4)),
        "used": {},
        "volumes": None,
        "missing": (),
        "attempts": (),
    }
    return Facts(**(usual | given))


def run(storage: dict[str, Any] = SIMULATED, *, cluster: Any = None, **given: Any) -> Manifests:
    return build(plan(storage, **given), cluster=settings(**(cluster or {})), namespace=NS)


def refused(found: Facts, made: Manifests | None = None) -> list[str]:
    return [str(refusal) for refusal in decide(found, made or run()).refusals]


def noted(found: Facts, made: Manifests | None = None) -> list[str]:
    verdict = decide(found, made or run())
    assert verdict.refusals == ()
    return [str(note) for note in verdict.notes]


def test_nothing_stands_in_the_way() -> None:
    assert decide(facts(), run()) == Verdict((), ())


def test_what_may_not_be_read_refuses_nothing() -> None:
    no = Unknown("it is forbidden")
    keys = [("Namespace", NS), ("StorageClass", "lustre-fast"), ("ServiceAccount", "bench-worker")]
    found = facts(
        objects=dict.fromkeys(keys, no),
        quotas=no,
        limit_ranges=no,
        nodes=no,
        used=no,
        missing=no,
    )
    notes = noted(found, run(NEW_CLAIM))
    assert len(notes) == 4 + len(keys)
    assert all("it is forbidden" in note for note in notes)


# Nodes


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ready": False}, "4 are not ready"),
        ({"unschedulable": True}, "4 are cordoned"),
        ({"labels": {"rack": "6"}}, "4 lack the label rack=7"),
        ({"allocatable": {"cpu": "2"}}, "4 have 2 of 3 cpu"),
        ({"allocatable": {"memory": "512Mi"}}, "4 have 512Mi of 1Gi memory"),
        ({"allocatable": {"pods": "0"}}, "4 have 0 of 1 pods"),
        (
            {"taints": [{"key": "gpu", "value": "a", "effect": "NoSchedule"}]},
            "4 have the taint gpu=a:NoSchedule, which is not tolerated",
        ),
    ],
)
def test_nodes_that_cannot_take_a_pod_say_why(given: dict[str, Any], words: str) -> None:
    labelled = {"labels": {"rack": "7"}}
    made = run(pod={"nodeSelector": {"rack": "7"}})
    (line,) = refused(facts(nodes=(node(**(labelled | given)),) * 4), made)
    assert line.startswith("nodes: 1 needed, a pod on each, and 0 of 4 can take one: ")
    assert words in line
    assert refused(facts(nodes=(node(**labelled),)), made) == []


@pytest.mark.parametrize(
    ("toleration", "taint", "fits"),
    [
        ({"operator": "Exists"}, {"key": "a", "effect": "NoExecute"}, True),
        ({"key": "a", "operator": "Exists"}, {"key": "a", "value": "1"}, True),
        ({"key": "a", "operator": "Exists"}, {"key": "b"}, False),
        ({"key": "a", "value": "1"}, {"key": "a", "value": "1"}, True),
        ({"key": "a", "value": "2"}, {"key": "a", "value": "1"}, False),
        ({"key": "a", "operator": "Exists", "effect": "NoExecute"}, {"key": "a"}, False),
    ],
)
def test_tolerations_are_matched_as_the_scheduler_does(
    toleration: dict[str, Any], taint: dict[str, Any], *, fits: bool
) -> None:
    tainted = node(taints=[{"effect": "NoSchedule"} | taint])
    made = run(pod={"tolerations": [toleration]})
    assert (refused(facts(nodes=(tainted,)), made) == []) == fits


def test_a_preference_is_no_taint() -> None:
    soft = node(taints=[{"key": "a", "effect": "PreferNoSchedule"}])
    assert refused(facts(nodes=(soft,))) == []


def test_busy_nodes_are_told_from_small_ones() -> None:
    used = {"n0": {"cpu": Decimal(62)}}
    (line,) = refused(facts(nodes=(node("n0"),), used=used))
    assert "1 have 2 of 3 cpu free now; wait for the nodes that are busy" in line
    (note,) = noted(facts(nodes=(node("n0"),), used=used, objects={("LocalQueue", "q"): {}}),
                    run(cluster={"queue_name": "q"}))  # fmt: skip
    assert note.endswith("the queue waits for them")


def test_a_cluster_that_can_grow_is_not_refused() -> None:
    small = node(labels={"karpenter.sh/nodepool": "x"}, allocatable={"cpu": "1"})
    (note,) = noted(facts(nodes=(small,)))
    assert note.endswith("this cluster may add some")


def test_each_pod_needs_a_node_of_its_own() -> None:
    assert refused(facts(), run(nodes=4)) == []
    assert "5 needed, a pod on each, and 4 of 4" in refused(facts(), run(nodes=5))[0]


def test_named_nodes_alone_count() -> None:
    made = build(plan(SIMULATED), cluster=settings(), namespace=NS, nodes=["n9"])
    assert "4 are not among the named ones" in refused(facts(), made)[0]
    assert refused(facts(nodes=(node("n9"),)), made) == []


def test_containers_that_start_a_pod_count_by_the_largest() -> None:
    def container(cpu: str, **given: Any) -> dict[str, Any]:
        return {"resources": {"requests": {"cpu": cpu}}} | given

    pod = {
        "spec": {
            "containers": [container("1"), container("500m")],
            "initContainers": [
                container("3"),
                container("2"),
                container("1", restartPolicy="Always"),
            ],
            "overhead": {"cpu": "100m"},
        }
    }
    assert pod_requests(pod) == {"cpu": Decimal("3.1")}
    assert pod_requests({"spec": {"containers": [{}]}}) == {}


# Quotas


def quota(hard: dict[str, str], *, used: dict[str, str] | None = None, **spec: Any) -> Any:
    return (
        {"metadata": {"name": "q"}, "spec": spec, "status": {"hard": hard, "used": used or {}}},
    )


@pytest.mark.parametrize(
    ("hard", "used", "fits"),
    [
        ({"requests.nvidia.com/gpu": "16"}, {}, True),
        ({"requests.nvidia.com/gpu": "16"}, {"requests.nvidia.com/gpu": "1"}, False),
        ({"cpu": "1"}, {}, False),
        ({"count/pods": "6"}, {}, False),
        ({"count/pods": "7"}, {}, True),
        ({"secrets": "0", "requests.example/other": "0"}, {}, True),
        ({"configmaps": "2"}, {}, False),
    ],
)
def test_quotas_count_the_whole_run(
    hard: dict[str, str], used: dict[str, str], *, fits: bool
) -> None:
    made = run(nodes=2, repeats=3, gpus_per_node=8, cluster={"gpu": "device-plugin"})
    assert (refused(facts(quotas=quota(hard, used=used)), made) == []) == fits


@pytest.mark.parametrize(
    ("spec", "counts"),
    [
        ({"scopes": ["NotTerminating"]}, True),
        ({"scopes": ["Terminating"]}, False),
        ({"scopes": ["NotBestEffort", "NotTerminating"]}, True),
        ({"scopes": ["CrossNamespacePodAffinity"]}, False),
        ({"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}, True),
        ({"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "NotIn", "values": ["high"]}]}}, False),
        ({"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "DoesNotExist"}]}}, False),
        ({"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "Exists"}]}}, True),
    ],
)  # fmt: skip
def test_quotas_of_other_scopes_do_not_count(spec: dict[str, Any], *, counts: bool) -> None:
    made = run(cluster={"priority_class_name": "high"})
    assert bool(refused(facts(quotas=quota({"pods": "0"}, **spec)), made)) == counts


def test_a_claim_that_is_there_already_is_not_counted() -> None:
    made = run(LOCAL_CLAIM, cluster={"keep_dataset": "keep"})
    hard = quota({"persistentvolumeclaims": "0", "requests.storage": "0"})
    assert len(refused(facts(quotas=hard), made)) == 2
    bound = {"status": {"phase": "Bound", "capacity": {"storage": "200Gi"}}}
    claim = ("PersistentVolumeClaim", made.blueprint.claim_name or "")
    assert refused(facts(quotas=hard, objects={claim: bound}), made) == []


# Storage


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ({"metadata": {"deletionTimestamp": "now"}}, "is being deleted"),
        ({"status": {"phase": "Lost"}}, "has lost its volume"),
        ({"spec": {"volumeMode": "Block"}}, "is a block device"),
        (None, "does not exist"),
    ],
)
def test_claims_that_cannot_be_read(claim: Any, words: str) -> None:
    (line,) = refused(facts(objects={("PersistentVolumeClaim", "imagenet"): claim}), run(OLD_CLAIM))
    assert line.startswith(f"PersistentVolumeClaim imagenet: {words}")


def test_claims_that_may_be_readable() -> None:
    key = ("PersistentVolumeClaim", "imagenet")
    small = {"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}
    (note,) = noted(facts(objects={key: small}), run(OLD_CLAIM))
    assert "it must be there already" in note
    waiting = {"spec": {"storageClassName": "c"}, "status": {"phase": "Pending"}}
    late = {("StorageClass", "c"): {"volumeBindingMode": "WaitForFirstConsumer"}}
    assert noted(facts(objects={key: waiting} | late), run(OLD_CLAIM)) == []
    (note,) = noted(facts(objects={key: waiting}), run(OLD_CLAIM))
    assert "is Pending" in note


def test_a_class_whose_volumes_a_person_makes_has_enough() -> None:
    key = ("StorageClass", "local-nvme")
    by_hand = {key: {"provisioner": "kubernetes.io/no-provisioner"}}

    def volume(size: str, phase: str = "Available") -> dict[str, Any]:
        spec = {"storageClassName": "local-nvme", "capacity": {"storage": size}}
        return {"spec": spec, "status": {"phase": phase}}

    some = (volume("1Ti"), volume("10Gi"), volume("1Ti", "Bound"))
    made = run(EPHEMERAL, nodes=2)
    (line,) = refused(facts(objects=by_hand, volumes=some), made)
    assert "1 large enough of the 2 that are needed" in line
    assert refused(facts(objects=by_hand, volumes=(*some, volume("200Gi"))), made) == []


# The rest


def test_what_the_namespace_says() -> None:
    key = ("Namespace", NS)
    (line, *others) = refused(facts(objects={key: None}, missing=(Right(NS, "", "pods", "get"),)))
    assert line.startswith("Namespace team: does not exist")
    assert others == []  # no right can be had there
    (line,) = refused(facts(objects={key: {"status": {"phase": "Terminating"}}}))
    assert "is being deleted" in line
    meshed = {"metadata": {"labels": {"istio-injection": "enabled"}}}
    (note,) = noted(facts(objects={key: meshed}))
    assert "injects a service mesh (istio-injection)" in note
    opted_out = {"metadata": {"labels": {"istio-injection": "disabled"}}}
    assert noted(facts(objects={key: opted_out})) == []


def test_missing_rights_are_said_once_for_each_kind() -> None:
    missing = (
        Right(NS, "batch", "jobs", "create"),
        Right(NS, "batch", "jobs", "get"),
        Right("leases", "coordination.k8s.io", "leases", "update"),
    )
    assert [line.split(";")[0] for line in refused(facts(missing=missing))] == [
        "user anna: may not create, get jobs.batch in namespace team",
        "user anna: may not update leases.coordination.k8s.io in namespace leases",
    ]


def attempt(code: int, message: str, *, kind: str = "Pod") -> Attempt:
    return Attempt(kind, "x", code, message, {}, None)


@pytest.mark.parametrize(
    ("code", "message", "is_refused"),
    [
        (403, 'pods "x" is forbidden: violates PodSecurity "restricted:latest"', True),
        (403, 'pods is forbidden: User "a" cannot create resource "pods"', False),
        (409, "already exists", False),
        (422, "spec.x: Invalid value", True),
        (500, "failed calling webhook", False),
        (0, "no answer", False),
    ],
)
def test_dry_runs_refuse_in_the_servers_words(code: int, message: str, *, is_refused: bool) -> None:
    verdict = decide(facts(attempts=(attempt(code, message),)), run())
    assert [refusal.problem for refusal in verdict.refusals] == [message] * is_refused
    silent = code == 409
    assert bool(verdict.notes) == (not is_refused and not silent)


def test_what_was_said_with_a_remedy_is_not_said_again() -> None:
    again = attempt(403, 'pods "x" is forbidden: exceeded quota: q, requested: cpu=3')
    hard = quota({"cpu": "1"})
    assert len(refused(facts(quotas=hard, attempts=(again,)))) == 1
    assert refused(facts(attempts=(again,)))[0].startswith("Pod x: pods ")


def test_webhooks_that_change_pods_are_named() -> None:
    sent = {"spec": {"containers": [{"name": "bench"}]}}
    got = {"spec": {"containers": [{"name": "bench"}, {"name": "proxy"}], "nodeName": "n"}}
    changed = Attempt("Pod", "x", 201, "", sent, got)
    (note,) = noted(facts(attempts=(changed,)))
    assert note == "admission: would change the pods: containers[proxy] added: {'name': 'proxy'}"


def test_a_queue_that_is_not_active_is_noted() -> None:
    condition = {"type": "Active", "status": "False", "message": "no ClusterQueue"}
    found = facts(objects={("LocalQueue", "q"): {"status": {"conditions": [condition]}}})
    assert noted(found, run(cluster={"queue_name": "q"})) == [
        "LocalQueue q: is not active: no ClusterQueue"
    ]


@pytest.mark.parametrize("version", ["v1beta1", "v1beta2"])
def test_a_queue_is_looked_for_in_the_version_that_the_cluster_has(
    tmp_path: Path, version: str
) -> None:
    queue = f"/apis/kueue.x-k8s.io/{version}/namespaces/team/localqueues/q"
    answers = {
        "/apis/kueue.x-k8s.io": (200, {"preferredVersion": {"version": version}}),
        queue: (200, {"kind": "LocalQueue"}),
    }

    def answer(_: str, path: str) -> tuple[int, dict[str, Any]]:
        return SOMEBODY if "selfsubject" in path else answers.get(path, status(404, "none"))

    with stub_api(answer) as (host, _):
        path = write_kubeconfig(tmp_path / "config", host)
        api = connect(context=None, kubeconfig=path).api_client
        assert _local_queue(api, "q", "team") == {"kind": "LocalQueue"}
        assert _local_queue(api, "other", "team") is None
        answers.clear()
        assert _local_queue(api, "q", "team") is None


def test_long_lists_come_in_parts_and_a_refusal_is_unknown(tmp_path: Path) -> None:
    def answer(_: str, path: str) -> tuple[int, dict[str, Any]]:
        if "selfsubject" in path:
            return SOMEBODY
        if "/secret-things" in path:
            return status(403, "no, you may not")
        last = "continue=next" in path
        items = [{"metadata": {"name": "b" if last else "a"}}]
        return 200, {"items": items, "metadata": {} if last else {"continue": "next"}}

    with stub_api(answer) as (host, requests):
        path = write_kubeconfig(tmp_path / "config", host)
        api = connect(context=None, kubeconfig=path).api_client
        found = find_all(api, "/api/v1/nodes", keep=lambda one: one["metadata"])
        assert found == ({"name": "a"}, {"name": "b"})
        assert "limit=250" in requests[-1]
        assert find_all(api, "/api/v1/secret-things") == Unknown("no, you may not")


def test_secrets_are_named_and_never_read() -> None:
    made = run(OBJECT, cluster={"image_pull_secrets": ["pull"]})
    assert [note.split(":")[0] for note in noted(facts(), made)] == [
        "Secret pull",
        "Secret s3-reader",
    ]


@pytest.mark.parametrize(
    "image",
    ["bench", "bench:1", "registry:5000/a/b", "r.example/a__b-c.d:v1_2", "[::1]:5000/x:y",
     "a@sha256:" + "0" * 64, "r.example/a:1@sha256:" + "0" * 64, "localhost/bench:5ecb2982a18e"],
)  # fmt: skip
def test_images_that_are_some(image: str) -> None:
    assert image_problem(image) is None
    assert is_pinned(image) == ("@" in image)


@pytest.mark.parametrize(
    "image",
    ["Bench", "r.example/A:1", "a:", "a:b c", "a@sha256:12", "a@", "https://r.example/a", "a//b",
     "-a", "a:" + "x" * 129, "a@sha256:" + "g" * 64, "a" * 256, "a@sha256:" + "0" * 65],
)  # fmt: skip
def test_images_that_are_none(image: str) -> None:
    assert image_problem(image)
    assert not is_pinned(image)


def test_refusals_are_raised_together() -> None:
    one = Refusal("a", "is wrong", "mend it")
    Verdict((), (Note("x", "y"),)).check()
    with pytest.raises(UsageError, match=r"^a: is wrong; mend it$"):
        Verdict((one,), ()).check()
    with pytest.raises(UsageError) as caught:
        Verdict((one, replace(one, place="b")), ()).check()
    assert str(caught.value) == (
        "preflight: 2 things stand in the way: (1) a: is wrong; mend it. "
        "(2) b: is wrong; mend it.; nothing was made"
    )
