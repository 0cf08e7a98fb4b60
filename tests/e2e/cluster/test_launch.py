"""`bench run` on a real cluster: what it measures, what it leaves, how it fails and is taken up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import kubernetes.client
import pytest
import yaml

from bench.cli.main import main as bench_main
from tests.cluster.settings import SLOW_READ_BYTES_PER_SECOND

REPOSITORY = Path(__file__).parents[3]

POD = ("plan.cluster.cpu=1", "plan.cluster.image_pull_policy=Never")

LISTED = (
    ("BatchV1Api", "list_namespaced_job"),
    ("CoreV1Api", "list_namespaced_pod"),
    ("CoreV1Api", "list_namespaced_service"),
    ("CoreV1Api", "list_namespaced_config_map"),
    ("CoreV1Api", "list_namespaced_persistent_volume_claim"),
)

pytestmark = pytest.mark.timeout(300, func_only=True)


def target(name, place, **io):
    return {
        "apiVersion": "bench/v1alpha1",
        "kind": "StorageTarget",
        "metadata": {"name": name, "description": "A class of the test cluster."},
        "spec": place | {"io": {"mode": "direct", "engine": "posix", "block_bytes": "4MiB"} | io},
    }


def claim(storage_class, *, mode="ReadWriteOnce"):
    return {"pvc": {"storageClassName": storage_class, "accessModes": [mode], "size": "1GiB"}}


class Bench:
    """Starts `bench` in this process's network and reads what it stored."""

    def __init__(self, cluster, namespace, directory):
        self.cluster = cluster
        self.namespace = namespace
        self.directory = directory
        self.results = directory / "results"
        self.running = []

    def start(self, *words):
        process = subprocess.Popen(
            [sys.executable, "-m", "bench", *words],
            cwd=REPOSITORY,
            env=os.environ | {"KUBECONFIG": str(self.cluster.kubeconfig)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def run_words(self, document, *more, size="100MiB"):
        path = self.directory / f"{document['metadata']['name']}.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        settings = (*POD, f"plan.cluster.image={self.cluster.image}")
        return (
            "run", "smoke", "-s", str(path), "-n", self.namespace, "--launcher", "kubernetes",
            "--dataset-size", size, "--duration", "2", "--results", str(self.results),
            *(word for one in settings for word in ("--set", one)), *more,
        )  # fmt: skip

    def run(self, document, *more, size="100MiB"):
        process = self.start(*self.run_words(document, *more, size=size))
        out, err = process.communicate(timeout=240)
        return process.returncode, out, err

    def documents(self):
        found = [json.loads(path.read_text()) for path in self.results.rglob("run.json")]
        return sorted(found, key=lambda run: run["id"])

    def objects(self, *, selector="bench/run-id"):
        found = []
        for api, call in LISTED:
            client = getattr(kubernetes.client, api)(self.cluster.api_client)
            items = getattr(client, call)(self.namespace, label_selector=selector).items
            found += [f"{call.removeprefix('list_namespaced_')} {i.metadata.name}" for i in items]
        return found

    def run_id(self):
        jobs = kubernetes.client.BatchV1Api(self.cluster.api_client)
        items = jobs.list_namespaced_job(self.namespace, label_selector="bench/run-id").items
        return items[0].metadata.labels["bench/run-id"] if items else None

    def pod_runs(self, component):
        core = kubernetes.client.CoreV1Api(self.cluster.api_client)
        label = f"app.kubernetes.io/component={component}"
        pods = core.list_namespaced_pod(self.namespace, label_selector=label).items
        return any(pod.status.phase == "Running" for pod in pods)


@pytest.fixture
def bench(cluster, namespace, tmp_path, capsys):
    with pytest.raises(SystemExit):
        bench_main(["render", "rbac", "-n", namespace, "--group", "testers"])
    rendered = capsys.readouterr().out
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    for one in yaml.safe_load_all(rendered):
        if one["kind"] == "ServiceAccount":
            core.create_namespaced_service_account(namespace, one)
    found = Bench(cluster, namespace, tmp_path)
    yield found
    for process in found.running:
        if process.poll() is None:
            process.kill()
            process.communicate()


def causes(repeat):
    return repeat["stall"]["causes"]


def test_a_class_with_a_known_limit_stalls_for_as_long_as_the_limit_implies(cluster, bench):
    """The kernel holds every container to a rate; the stall follows from it alone."""
    cluster.require_own()
    code, out, err = bench.run(
        target("slow", claim("bench-slow")), "--duration", "4", size="300MiB"
    )
    (run,) = bench.documents()
    (repeat,) = run["repeats"]
    assert repeat["throughput"] is not None, err
    assert repeat["throughput"]["bytes_per_second"] == pytest.approx(
        SLOW_READ_BYTES_PER_SECOND, rel=0.05
    )
    assert max(causes(repeat), key=causes(repeat).get) == "storage_read"
    assert run["storage"]["facts"]["storage_class"]["name"] == "bench-slow"
    assert run["storage"]["cluster"]["pods"][0]["node"] == repeat["ranks"][0]["node"]
    assert {"queue", "schedule", "pull", "attach", "launch"} <= set(repeat["phases_seconds"])
    assert repeat["phases_seconds"]["launch"] < 30
    assert code in (0, 4), out + err  # a busy machine may disturb the emulated accelerator
    assert bench.objects() == []


def test_two_nodes_of_two_ranks_with_volumes_of_their_own(cluster, bench):
    cluster.require_own()
    place = {"ephemeral": {"storageClassName": "bench-ram", "size": "1GiB"}}
    code, out, err = bench.run(
        target("local", place), "--nodes", "2", "--gpus-per-node", "2",
        "--set", "plan.ring_bytes=64MiB",
    )  # fmt: skip
    (run,) = bench.documents()
    (repeat,) = run["repeats"]
    assert code in (0, 4), out + err
    assert [rank["rank"] for rank in repeat["ranks"]] == [0, 1, 2, 3]
    nodes = [rank["node"] for rank in repeat["ranks"]]
    assert nodes[0] == nodes[1] != nodes[2] == nodes[3]
    assert sum(rank["bytes_consumed"] for rank in repeat["ranks"]) == repeat["bytes_consumed"]
    assert repeat["bytes_consumed"] > 0
    assert len({rank["steps"] for rank in repeat["ranks"]}) == 1, "lock-step"
    assert bench.objects() == []


def test_targets_in_turn_share_their_node_and_alternate(cluster, bench):
    cluster.require_own()
    second = bench.directory / "disk.yaml"
    second.write_text(yaml.safe_dump(target("disk", claim("bench-disk"))), encoding="utf-8")
    code, out, err = bench.run(
        target("ram", claim("bench-ram")), "-s", str(second), "--interleave", "--repeats", "2"
    )
    runs = {run["storage"]["name"]: run for run in bench.documents()}
    assert set(runs) == {"ram", "disk"}, out + err
    begun = sorted(
        (repeat["started_at"], name) for name, run in runs.items() for repeat in run["repeats"]
    )
    assert [name for _, name in begun] == ["ram", "disk", "disk", "ram"]
    repeats = [repeat for run in runs.values() for repeat in run["repeats"]]
    assert len({repeat["ranks"][0]["node"] for repeat in repeats}) == 1
    assert code in (0, 4), err
    assert bench.objects() == []


def test_a_kept_data_set_is_found_again(cluster, bench):
    cluster.require_own()
    keep = ("--set", "plan.cluster.keep_dataset=keep")
    document = target("kept", claim("bench-disk"))
    bench.run(document, *keep)
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    (first,) = core.list_namespaced_persistent_volume_claim(bench.namespace).items
    bench.run(document, *keep)
    (again,) = core.list_namespaced_persistent_volume_claim(bench.namespace).items
    assert again.metadata.uid == first.metadata.uid
    one, other = (run["dataset"]["manifest_digest"] for run in bench.documents())
    assert one == other != ""
    assert bench.objects() == []


@pytest.mark.parametrize("moment", ["prepare", "measure"])
def test_interrupting_removes_everything_before_it_ends(bench, moment):
    process = bench.start(
        *bench.run_words(target("disk", claim("bench-disk")), "--duration", "60", size="1000MiB")
    )
    bench.cluster.wait_for(lambda: bench.pod_runs(moment), what=f"a pod that is to {moment}")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert bench.objects() == []
    assert bench.documents()[0]["status"] == "interrupted"


@pytest.mark.parametrize("moment", ["prepare", "measure"])
def test_a_run_whose_launcher_was_killed_is_taken_up(bench, moment):
    process = bench.start(*bench.run_words(target("disk", claim("bench-disk")), "--repeats", "2"))
    bench.cluster.wait_for(lambda: bench.pod_runs(moment), what=f"a pod that is to {moment}")
    process.kill()
    process.communicate()
    run_id = bench.run_id()
    attach = bench.start(
        "attach", run_id, "-n", bench.namespace, "--results", str(bench.results), "--force"
    )
    out, err = attach.communicate(timeout=200)
    (run,) = bench.documents()
    assert attach.returncode in (0, 4), out + err
    assert run["id"] == run_id
    assert [repeat["index"] for repeat in run["repeats"]] == [0, 1]
    assert all(repeat["bytes_consumed"] > 0 for repeat in run["repeats"])
    assert bench.objects() == []


MOMENTS = [0.0, 0.4, 0.8, 1.5, 3.0, 5.0, 8.0, 11.0, 14.0, 17.0]
"""Seconds after the first object: from the first creations to the second repeat."""


@pytest.mark.timeout(400, func_only=True)
def test_a_killed_launcher_leaves_what_the_cluster_removes_by_itself(bench):
    """Ten moments; what is left at each goes by deadlines, owners and times to live."""
    limits = (
        "--set", "plan.cluster.ttl_seconds_after_finished=2",
        "--set", "plan.cluster.deadline_seconds=20",
        "--set", "plan.cluster.prepare_deadline_seconds=20",
        "--set", "plan.cluster.exclusive=false",
        "--repeats", "2",
    )  # fmt: skip
    killed = []
    for moment in MOMENTS:
        before = set(bench.objects())
        process = bench.start(*bench.run_words(target("disk", claim("bench-disk")), *limits))
        bench.cluster.wait_for(
            lambda before=before: set(bench.objects()) - before, what="the first object"
        )
        deadline = time.monotonic() + moment
        while time.monotonic() < deadline and process.poll() is None:
            bench.objects()
        killed.append(process.poll() is None)
        process.kill()
        process.communicate()
    assert sum(killed) >= 8, "most were killed in the middle of it"
    bench.cluster.wait_for(lambda: not bench.objects(), what="an empty namespace", seconds=150)


def test_clean_removes_what_a_killed_launcher_left_and_spares_the_living(bench):
    process = bench.start(*bench.run_words(target("disk", claim("bench-disk")), "--duration", "60"))
    bench.cluster.wait_for(lambda: bench.pod_runs("measure"), what="a measuring pod")
    spared = bench.start("clean", "-n", bench.namespace)
    out, err = spared.communicate(timeout=60)
    assert spared.returncode == 2, out + err
    assert "left alone" in out
    assert bench.pod_runs("measure")
    process.kill()
    process.communicate()
    clean = bench.start("clean", "-n", bench.namespace, "--force")
    out, err = clean.communicate(timeout=150)
    assert clean.returncode == 0, out + err
    assert bench.objects() == []


def test_a_pod_that_is_killed_ends_the_run_at_once_and_by_name(bench):
    process = bench.start(*bench.run_words(target("disk", claim("bench-disk")), "--duration", "60"))
    bench.cluster.wait_for(lambda: bench.pod_runs("measure"), what="a measuring pod")
    core = kubernetes.client.CoreV1Api(bench.cluster.api_client)
    label = "app.kubernetes.io/component=measure"
    (pod,) = core.list_namespaced_pod(bench.namespace, label_selector=label).items
    core.delete_namespaced_pod(pod.metadata.name, bench.namespace)
    out, err = process.communicate(timeout=120)
    assert process.returncode in (5, 130), out + err
    assert pod.metadata.name in err or "was deleted" in err
    assert bench.objects() == []


FAULTS = {
    "image": (
        {},
        ("plan.cluster.image=localhost/none:0", "plan.cluster.image_pull_policy=Never"),
        "ErrImageNeverPull",
    ),
    "node": ({"pod": {"nodeSelector": {"no/such": "node"}}}, (), "no/such"),
    "class": (None, (), "no-such-class"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_start_fails_fast_in_the_clusters_words(bench, fault):
    more, settings, words = FAULTS[fault]
    place = claim("no-such-class") if more is None else claim("bench-disk") | more
    begun = time.monotonic()
    code, out, err = bench.run(
        target("bad", place), *(word for one in settings for word in ("--set", one))
    )
    assert code in (2, 5), out + err
    assert words in err, err
    assert time.monotonic() - begun < 90
    assert bench.objects() == []


def test_the_api_server_may_restart_in_mid_run(cluster, bench):
    own = cluster.require_own()
    process = bench.start(*bench.run_words(target("disk", claim("bench-disk")), "--repeats", "2"))
    cluster.wait_for(lambda: bench.pod_runs("measure"), what="a measuring pod")
    own.kill_api_server()
    own.start_api_server()
    out, err = process.communicate(timeout=240)
    (run,) = bench.documents()
    assert process.returncode in (0, 4), out + err
    assert len(run["repeats"]) == 2
    cluster.wait_for(lambda: not bench.objects(), what="an empty namespace")
