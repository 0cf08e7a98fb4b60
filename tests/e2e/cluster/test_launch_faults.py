"""Whatever befalls a run on a real cluster: it ends soon, says why, and nothing is left of it.

The launcher has the rights that `bench render rbac` gives, and no others. Where a moment counts,
it is stopped or killed from within, right after the call that makes the moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import kubernetes.client
import kubernetes.utils
import pytest
import yaml
from kubernetes.client.exceptions import ApiException

from bench.cli.main import main as bench_main

REPOSITORY = Path(__file__).parents[3]

LISTED = (
    ("BatchV1Api", "list_namespaced_job"),
    ("CoreV1Api", "list_namespaced_pod"),
    ("CoreV1Api", "list_namespaced_service"),
    ("CoreV1Api", "list_namespaced_config_map"),
    ("CoreV1Api", "list_namespaced_persistent_volume_claim"),
    ("CoordinationV1Api", "list_namespaced_lease"),
)

FAST_SECONDS = 40.0
"""From the fault to the end of the launcher, at the longest."""

AT_A_MOMENT = """
import os, re, sys
from bench.launch.kubernetes import logs, objects, timing
from bench.results.store import Store

pattern, number = sys.argv.pop(1), int(sys.argv.pop(1))
passed = []


def at(moment):
    if not passed and re.search(pattern, moment):
        passed.append(moment)
        os.kill(os.getpid(), number)


def around(owner, name, words):
    inner = getattr(owner, name)

    def outer(*positional, **named):
        said = words(*positional, **named)
        at(f"before {said}")
        found = inner(*positional, **named)
        at(f"after {said}")
        return found

    setattr(owner, name, outer)


around(objects, "create", lambda _, it, **__: f"{it.kind} {it.metadata.name}")
around(objects, "patch_state", lambda _, name, entries, **__: f"note {sorted(entries)}")
around(objects, "remove_run", lambda *_, **__: "clean-up")
around(logs.Follower, "start", lambda it: f"following {it.log.pod}")
around(Store, "write_run", lambda *_: "storing")
around(timing.Began, "note", lambda _, event: f"event {event['event']} {event.get('phase')}")

from bench.cli.main import main

main(sys.argv[1:])
"""

MOMENTS = {
    "between repeats": r"before Job .*-m1$",
    "measuring": r"after event phase measure",
    "measuring Job": r"after Job .*-m0$",
    "measuring plan": r"after ConfigMap .*-plan$",
    "data set made": r"after note .*dataset",
    "data set begun": r"after following .*-prepare",
    "service": r"after Service ",
    "claim": r"after PersistentVolumeClaim ",
    "state": r"after ConfigMap .*-state$",
    "anchor": r"after Job .*-prepare$",
}
"""When a launcher is killed. The first ones last: their pods can never start, and hold CPUs."""

pytestmark = pytest.mark.timeout(300, func_only=True)


def launcher_kubeconfig(cluster, namespace, directory):
    """Return a kubeconfig of the launcher's own account."""
    core = kubernetes.client.CoreV1Api(cluster.api_client)
    request = {"spec": {"expirationSeconds": 3600}}
    token = core.create_namespaced_service_account_token("bench-launcher", namespace, request)
    config = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))
    (user,) = config["users"]
    user["user"] = {"token": token.status.token}
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


class Launchers:
    """Starts launchers in this process's network; knows what is left of their runs."""

    def __init__(self, cluster, namespace, directory):
        self.cluster = cluster
        self.namespace = namespace
        self.directory = directory
        self.results = directory / "results"
        self.kubeconfig = launcher_kubeconfig(cluster, namespace, directory)
        self.core = kubernetes.client.CoreV1Api(cluster.api_client)
        self.batch = kubernetes.client.BatchV1Api(cluster.api_client)
        self.running = []

    def start(self, *words, at="never", number=signal.SIGKILL):
        process = subprocess.Popen(
            [sys.executable, "-c", AT_A_MOMENT, at, str(int(number)), *words],
            cwd=REPOSITORY,
            env=os.environ | {"KUBECONFIG": str(self.kubeconfig)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def words(self, *more, place=None, name="disk", size="20MiB", **settings):
        """Return the words of a small run; settings are those of the plan's cluster."""
        claim = {"storageClassName": "bench-disk", "accessModes": ["ReadWriteOnce"], "size": "1GiB"}
        document = {
            "apiVersion": "bench/v1alpha1",
            "kind": "StorageTarget",
            "metadata": {"name": name, "description": "A class of the test cluster."},
            "spec": (place or {"pvc": claim})
            | {"io": {"mode": "direct", "engine": "posix", "block_bytes": "4MiB"}},
        }
        path = self.directory / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        own = {"cpu": 1, "image": self.cluster.image, "image_pull_policy": "Never"} | settings
        return (
            "run", "smoke", "-s", str(path), "-n", self.namespace, "--launcher", "kubernetes",
            "--dataset-size", size, "--duration", "1", "--results", str(self.results),
            *(word for key, one in own.items() for word in ("--set", f"plan.cluster.{key}={one}")),
            *more,
        )  # fmt: skip

    def end(self, process, *, seconds=120.0):
        """Wait for the end; return status, output and errors."""
        out, err = process.communicate(timeout=seconds)
        return process.returncode, out, err

    def stopped(self, *words, at):
        """Return a launcher that has stopped at a moment, and goes on with SIGCONT."""
        process = self.start(*words, at=at, number=signal.SIGSTOP)

        def stops():
            assert process.poll() is None, process.communicate()
            text = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8")
            return text.rpartition(")")[2].split()[0] == "T"

        self.cluster.wait_for(stops, what=f"a launcher {at}")
        return process

    def killed(self, *words, at):
        """Let a launcher be killed at a moment; return the id of its run."""
        before = self.run_ids()
        code, out, err = self.end(self.start(*words, at=at))
        assert code == -signal.SIGKILL, f"{at} never came: {code} {out}{err}"
        (run_id,) = self.run_ids() - before
        return run_id

    def fails(self, process, *, seconds=FAST_SECONDS):
        """Return what a launcher says that fails soon; nothing is left of its run."""
        begun = time.monotonic()
        code, out, err = self.end(process, seconds=seconds + 60)
        took = time.monotonic() - begun
        assert code in (2, 5), out + err
        assert took < seconds, f"{took:.0f} s: {err}"
        assert self.objects() == []
        return err

    def documents(self):
        found = [json.loads(path.read_text()) for path in self.results.rglob("run.json")]
        return sorted(found, key=lambda run: run["id"])

    def objects(self, run_id=None):
        selector = "bench/run-id" if run_id is None else f"bench/run-id={run_id}"
        found = []
        for api, call in LISTED:
            client = getattr(kubernetes.client, api)(self.cluster.api_client)
            items = getattr(client, call)(self.namespace, label_selector=selector).items
            found += [f"{call.removeprefix('list_namespaced_')} {i.metadata.name}" for i in items]
        return found

    def run_ids(self):
        items = self.batch.list_namespaced_job(self.namespace).items
        return {item.metadata.labels["bench/run-id"] for item in items}

    def pods(self, component, phase="Running"):
        label = f"app.kubernetes.io/component={component}"
        items = self.core.list_namespaced_pod(self.namespace, label_selector=label).items
        return [pod for pod in items if pod.status.phase == phase]

    def measuring(self, *names):
        """Return a measuring pod of each target by its name, once all of them run."""

        def found():
            pods = self.pods("measure")
            by_target = {pod.metadata.labels["bench/storage-target"]: pod for pod in pods}
            return by_target if set(by_target) >= set(names) else None

        return self.cluster.wait_for(found, what=f"measuring pods of {names}")

    def renewed_namespace(self):
        """Create the namespace where it is gone, for the fixture that will delete it."""
        with contextlib.suppress(ApiException):
            return self.core.create_namespace({"metadata": {"name": self.namespace}})

    def agents(self):
        """Return the command lines of agents on the cluster's nodes."""
        init = self.cluster.require_own().processes.required_init().pid
        parents, words = {}, {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                pid = int(path.name)
                stat = (path / "stat").read_text(encoding="utf-8")
                parents[pid] = int(stat.rpartition(")")[2].split()[1])
                words[pid] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()

        def below(pid):
            while pid > 1 and pid != init:
                pid = parents.get(pid, 0)
            return pid == init

        return [text for pid, text in words.items() if "bench.agent" in text and below(pid)]


@pytest.fixture
def launchers(cluster, namespace, tmp_path, capsys):
    cluster.require_own()
    with pytest.raises(SystemExit):
        bench_main(["render", "rbac", "-n", namespace])
    objects = list(yaml.safe_load_all(capsys.readouterr().out))
    for one in objects:
        kubernetes.utils.create_from_dict(cluster.api_client, one)
    found = Launchers(cluster, namespace, tmp_path)
    yield found
    for process in found.running:
        if process.poll() is None:
            process.kill()
            process.communicate()
    rbac = kubernetes.client.RbacAuthorizationV1Api(cluster.api_client)
    for one in objects:
        if one["kind"] == "ClusterRole":
            rbac.delete_cluster_role(one["metadata"]["name"])
        elif one["kind"] == "ClusterRoleBinding":
            rbac.delete_cluster_role_binding(one["metadata"]["name"])


SHORT = {"ttl_seconds_after_finished": 5, "deadline_seconds": 25, "prepare_deadline_seconds": 20}
"""What bounds the life of a run that nobody watches."""


@pytest.mark.timeout(400, func_only=True)
def test_a_launcher_killed_at_ten_moments_leaves_what_goes_by_itself(launchers):
    for moment, at in MOMENTS.items():
        # One takes a Lease, which goes with the rest.
        exclusive = moment == "data set begun"
        repeats = "2" if moment == "between repeats" else "1"
        words = launchers.words("--repeats", repeats, exclusive=str(exclusive).lower(), **SHORT)
        run_id = launchers.killed(*words, at=at)
        leases = [one for one in launchers.objects(run_id) if one.startswith("lease")]
        assert len(leases) == exclusive
    # The last anchor ends after 20 seconds, and stays for a repeat of 25 and 5 more.
    launchers.cluster.wait_for(
        lambda: not launchers.objects() and not launchers.agents(),
        what="an empty namespace",
        seconds=150,
    )
    assert launchers.core.list_namespaced_persistent_volume_claim(launchers.namespace).items == []


def test_clean_removes_the_run_of_a_killed_launcher_at_once(launchers):
    for moment in ("measuring", "data set begun", "anchor"):
        run_id = launchers.killed(*launchers.words(), at=MOMENTS[moment])
        assert launchers.objects(run_id)
        code, out, err = launchers.end(
            launchers.start("clean", run_id, "-n", launchers.namespace, "--force")
        )
        assert code == 0, f"{moment}: {out}{err}"
        assert launchers.objects() == [], moment
        assert launchers.agents() == [], moment


@pytest.mark.parametrize("moment", ["claim", "data set made", "measuring"])
def test_attach_completes_the_run_of_a_killed_launcher(launchers, moment):
    run_id = launchers.killed(*launchers.words("--repeats", "2"), at=MOMENTS[moment])
    if moment == "data set made":  # and its log went with its pod
        (pod,) = launchers.pods("prepare", "Succeeded")
        launchers.core.delete_namespaced_pod(pod.metadata.name, launchers.namespace)
    code, out, err = launchers.end(
        launchers.start(
            "attach", run_id, "-n", launchers.namespace, "--results", str(launchers.results),
            "--force",
        )
    )  # fmt: skip
    assert code in (0, 4), out + err  # a busy machine may disturb the emulated accelerator
    (run,) = launchers.documents()
    assert run["id"] == run_id
    assert [repeat["index"] for repeat in run["repeats"]] == [0, 1]
    assert all(repeat["bytes_consumed"] > 0 for repeat in run["repeats"])
    assert launchers.objects() == []
    assert launchers.agents() == []


INTERRUPTED = {
    "waiting": r"after Job .*-prepare$",
    "measuring": MOMENTS["measuring"],
    "storing": r"before storing",
    "cleaning up": r"before clean-up",
}


@pytest.mark.parametrize("moment", INTERRUPTED)
def test_ctrl_c_removes_everything_before_it_ends(launchers, moment):
    process = launchers.start(
        *launchers.words("--duration", "60" if moment == "measuring" else "1"),
        at=INTERRUPTED[moment],
        number=signal.SIGINT,
    )
    code, out, err = launchers.end(process)
    assert launchers.objects() == []
    assert launchers.agents() == []
    if moment == "cleaning up":  # all was measured and stored before
        assert code in (0, 4), out + err
        (run,) = launchers.documents()
        assert run["status"] != "interrupted"
        return
    assert code == 130, out + err
    assert [run["status"] for run in launchers.documents()] == (
        [] if moment == "storing" else ["interrupted"]
    )


def test_a_kept_data_set_is_not_made_again(launchers):
    words = launchers.words(keep_dataset="keep")
    code, out, err = launchers.end(launchers.start(*words))
    assert code in (0, 4), out + err
    assert launchers.objects() == []
    (first,) = launchers.core.list_namespaced_persistent_volume_claim(launchers.namespace).items
    process = launchers.stopped(*words, at=r"before clean-up")
    (pod,) = launchers.pods("prepare", "Succeeded")
    log = launchers.core.read_namespaced_pod_log(pod.metadata.name, launchers.namespace)
    process.send_signal(signal.SIGCONT)
    code, out, err = launchers.end(process)
    assert code in (0, 4), out + err
    assert '"event":"dataset"' in log
    assert '"action":"writing"' not in log
    (again,) = launchers.core.list_namespaced_persistent_volume_claim(launchers.namespace).items
    assert again.metadata.uid == first.metadata.uid
    assert launchers.objects() == []


def test_a_namespace_that_is_deleted_ends_the_run(launchers):
    process = launchers.start(*launchers.words("--duration", "60"))
    launchers.cluster.wait_for(lambda: launchers.pods("measure"), what="a measuring pod")
    launchers.core.delete_namespace(launchers.namespace)
    err = launchers.fails(process, seconds=30)
    assert f"Namespace {launchers.namespace}: was deleted by somebody else" in err
    assert launchers.agents() == []
    launchers.cluster.wait_for(launchers.renewed_namespace, what="the namespace to be gone")


def test_what_cannot_start_fails_fast_in_the_clusters_words(launchers):
    """Preflight finds nothing wrong: the faults show when pods are to start."""
    cluster = launchers.cluster
    cluster.require_own()
    core = launchers.core
    claim = {"storageClassName": "bench-ram", "accessModes": ["ReadWriteOnce"], "size": "1GiB"}
    label = f"bench-test/{launchers.namespace}"
    node = "node-1"
    core.patch_node(node, {"metadata": {"labels": {label: "1"}}})
    try:
        processes = {
            "image": launchers.start(
                *launchers.words(
                    name="image", place={"pvc": claim}, exclusive="false",
                    image="localhost/none:0", image_pull_policy="IfNotPresent",
                )
            ),
            "volume": launchers.start(
                *launchers.words(
                    name="volume", place={"pvc": claim | {"size": "900GiB"}}, exclusive="false",
                    keep_dataset="keep",
                )
            ),
        }  # fmt: skip
        selector = {"pod": {"nodeSelector": {label: "1"}}, "pvc": claim}
        processes["node"] = launchers.stopped(
            *launchers.words(name="node", place=selector, exclusive="false"),
            at=r"before Job .*-prepare$",
        )
    finally:
        core.patch_node(node, {"metadata": {"labels": {label: None}}})
    processes["node"].send_signal(signal.SIGCONT)
    begun = time.monotonic()
    said = {}
    for name, process in processes.items():
        code, out, said[name] = launchers.end(process)
        assert code in (2, 5), out + said[name]
    assert time.monotonic() - begun < FAST_SECONDS + 10, "three at a time on a small machine"
    assert "localhost/none:0" in said["image"]
    assert "ErrImagePull" in said["image"] or "ImagePullBackOff" in said["image"]
    assert "ProvisioningFailed" in said["volume"]
    assert "cannot be scheduled" in said["node"]
    assert "selector" in said["node"]
    assert launchers.objects() == []
    kept = core.list_namespaced_persistent_volume_claim(launchers.namespace).items
    assert [one.metadata.labels.get("bench/run-id") for one in kept] == [None]


def test_a_quota_that_comes_after_preflight(launchers):
    process = launchers.stopped(*launchers.words(), at=r"before Job .*-m0$")
    quota = {"metadata": {"name": "late"}, "spec": {"hard": {"pods": "0"}}}
    launchers.core.create_namespaced_resource_quota(launchers.namespace, quota)
    launchers.cluster.wait_for(
        lambda: (
            launchers.core.read_namespaced_resource_quota("late", launchers.namespace).status.hard
        ),
        what="the quota counted",
    )
    process.send_signal(signal.SIGCONT)
    err = launchers.fails(process)
    assert "FailedCreate" in err
    assert "exceeded quota: late" in err


def test_who_takes_a_measuring_pod_is_named(launchers):
    """Evicted, deleted, or deleted with its Job: three runs at once."""
    core, batch = launchers.core, launchers.batch
    names = ("evicted", "deleted", "jobless")
    processes = {
        name: launchers.start(
            *launchers.words("--duration", "90", name=name, exclusive="false")
        )
        for name in names
    }  # fmt: skip
    pods = {name: pod.metadata for name, pod in launchers.measuring(*names).items()}
    where = launchers.namespace
    eviction = {"metadata": {"name": pods["evicted"].name}}
    core.create_namespaced_pod_eviction(pods["evicted"].name, where, eviction)
    core.delete_namespaced_pod(pods["deleted"].name, where)
    job = pods["jobless"].labels["batch.kubernetes.io/job-name"]
    batch.delete_namespaced_job(job, where, propagation_policy="Background")
    begun = time.monotonic()
    said = {}
    for name, process in processes.items():
        code, out, said[name] = launchers.end(process)
        assert code == 5, f"{name}: {out}{said[name]}"
    assert time.monotonic() - begun < FAST_SECONDS, said
    assert pods["evicted"].name in said["evicted"]
    assert "was taken away: EvictionByEvictionAPI" in said["evicted"]
    assert pods["deleted"].name in said["deleted"]
    assert "was deleted by somebody else" in said["deleted"]
    assert f"Job {job}: was deleted by somebody else" in said["jobless"]
    assert launchers.objects() == []
    assert launchers.agents() == []


def test_a_preparing_pod_that_is_evicted_is_replaced(launchers):
    process = launchers.stopped(*launchers.words(size="300MiB"), at=MOMENTS["data set begun"])
    (pod,) = launchers.pods("prepare") or launchers.pods("prepare", "Succeeded")
    evicted = pod.status.phase == "Running"
    eviction = {"metadata": {"name": pod.metadata.name}}
    launchers.core.create_namespaced_pod_eviction(pod.metadata.name, launchers.namespace, eviction)
    process.send_signal(signal.SIGCONT)
    code, out, err = launchers.end(process)
    assert evicted, "the data set was made too soon for this test"
    assert code in (0, 4), out + err
    assert launchers.objects() == []


def test_a_pod_that_is_out_of_memory(launchers):
    process = launchers.start(
        *launchers.words("--set", "plan.ring_bytes=64MiB", memory_bytes="96MiB")
    )
    err = launchers.fails(process, seconds=60)
    assert "out of memory (OOMKilled)" in err
    assert "raise plan.cluster.memory_bytes" in err


TRUNCATE = """
import os, pathlib
largest = max(pathlib.Path("/data").rglob("*"), key=lambda it: it.stat().st_size)
os.truncate(largest, 4096)
print(largest.name)
"""


def test_a_file_that_is_cut_off_after_it_was_checked(launchers):
    process = launchers.stopped(*launchers.words(), at=r"before Job .*-m0$")
    (made,) = launchers.pods("prepare", "Succeeded")
    spec = launchers.cluster.api_client.sanitize_for_serialization(made.spec)
    container = spec["containers"][0]
    container["command"], container["args"] = ["python", "-c", TRUNCATE], []
    spec = {key: spec[key] for key in ("containers", "volumes", "securityContext")} | {
        "restartPolicy": "Never", "automountServiceAccountToken": False,
    }  # fmt: skip
    where = launchers.namespace
    launchers.core.create_namespaced_pod(where, {"metadata": {"name": "cutter"}, "spec": spec})

    def ended():
        phase = launchers.core.read_namespaced_pod("cutter", where).status.phase
        return phase if phase in ("Succeeded", "Failed") else None

    assert launchers.cluster.wait_for(ended, what="the cut") == "Succeeded"
    name = launchers.core.read_namespaced_pod_log("cutter", where).strip()
    launchers.core.delete_namespaced_pod("cutter", where)  # the claim stays while it is there
    process.send_signal(signal.SIGCONT)
    err = launchers.fails(process)
    assert name in err


def test_the_api_server_is_killed_while_pods_measure_and_comes_back(launchers):
    """The launcher's rights are refused for a moment after the start; it does not mind."""
    own = launchers.cluster.require_own()
    process = launchers.stopped(
        *launchers.words("--repeats", "2"), at=MOMENTS["data set made"].replace("after", "before")
    )
    own.kill_api_server()
    process.send_signal(signal.SIGCONT)  # what comes next are writes, and nobody is there
    own.start_api_server()
    code, out, err = launchers.end(process)
    assert code in (0, 4), out + err
    (run,) = launchers.documents()
    assert [repeat["index"] for repeat in run["repeats"]] == [0, 1]
    assert launchers.objects() == []
