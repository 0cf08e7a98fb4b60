"""Nodes and pods that exist in the API only, by KWOK: for what a thousand ranks do to a launcher.

A pod on a fake node is Running at once and, where a Job owns it, ends by itself. Annotations of
the pod say how (ANNOTATION_*). All pods there have one log: whatever stands in `log_file`.
Fake nodes are tainted; a pod must tolerate `kwok.x-k8s.io/node` to come to one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tests.cluster.api import Api
from tests.cluster.processes import Processes
from tests.cluster.settings import CONTROL_PLANE_ADDRESS, Layout

PROGRAM = "kwok"
PORT = 10247
NODES = "/api/v1/nodes"
MARK = "kwok.x-k8s.io/node"

ANNOTATION_SECONDS = "cluster.bench.invalid/duration"
"""How long the pod runs, as `90s` or `2m`; a second where it says nothing."""

ANNOTATION_MESSAGE = "cluster.bench.invalid/message"
"""Termination message of each of its containers."""

LEASE_SECONDS = 120
"""Renewed four times in that time. Shorter ones keep the API server of a small machine busy."""

NODE_READY = """\
conditions:
{{ range NodeConditions }}
- {type: {{ .type }}, status: {{ .status | Quote }}, reason: {{ .reason }},
   lastHeartbeatTime: {{ Now | Quote }}, lastTransitionTime: {{ Now | Quote }}}
{{ end }}
addresses:
- {type: InternalIP, address: {{ NodeIP | Quote }}}
- {type: Hostname, address: {{ NodeName | Quote }}}
daemonEndpoints: {kubeletEndpoint: {Port: {{ NodePort }}}}
nodeInfo: {kubeletVersion: fake, operatingSystem: linux, architecture: amd64, machineID: "",
  systemUUID: "", bootID: "", kernelVersion: "", osImage: "", containerRuntimeVersion: "",
  kubeProxyVersion: ""}
phase: Running
"""

POD_RUNNING = """\
phase: Running
startTime: {{ Now | Quote }}
hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
podIP: {{ PodIPWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace | Quote }}
conditions:
{{ range list "Initialized" "ContainersReady" "Ready" }}
- {type: {{ . }}, status: "True", lastTransitionTime: {{ Now | Quote }}}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- {name: {{ .name | Quote }}, image: {{ .image | Quote }}, imageID: {{ .image | Quote }},
   ready: true, started: true, restartCount: 0, state: {running: {startedAt: {{ Now | Quote }}}}}
{{ end }}
"""

POD_ENDED = """\
{{ $message := index (or .metadata.annotations dict) "MESSAGE" }}
phase: Succeeded
conditions:
{{ range list "ContainersReady" "Ready" }}
- {type: {{ . }}, status: "False", reason: PodCompleted, lastTransitionTime: {{ Now | Quote }}}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: {{ .image | Quote }}
  ready: false
  started: false
  restartCount: 0
  state:
    terminated:
      exitCode: 0
      reason: Completed
      startedAt: {{ Now | Quote }}
      finishedAt: {{ Now | Quote }}
      message: {{ or $message "" | Quote }}
{{ end }}
""".replace("MESSAGE", ANNOTATION_MESSAGE)


class FakeNodes:
    """Starts KWOK, and adds and removes fake nodes."""

    def __init__(self, layout: Layout, processes: Processes) -> None:
        self.layout = layout
        self.processes = processes
        self.log_file = layout.state / "fake-pod.log"

    def up(self) -> None:
        """Start KWOK where it is not running."""
        if PROGRAM in self.processes.running():
            return
        self.write_log([])
        config = self.layout.state / "kwok.yaml"
        documents = [*stages(), logs(str(self.log_file))]
        text = "\n---\n".join(json.dumps(document) for document in documents)
        config.write_text(text, encoding="utf-8")
        self.processes.start(
            PROGRAM,
            [self.layout.program(PROGRAM), f"--kubeconfig={self.layout.kubeconfig}",
             f"--config={config}", f"--manage-nodes-with-label-selector={MARK}=fake",
             f"--node-ip={CONTROL_PLANE_ADDRESS}", f"--node-port={PORT}",
             f"--server-address={CONTROL_PLANE_ADDRESS}:{PORT}",
             f"--node-lease-duration-seconds={LEASE_SECONDS}", "--cidr=10.90.0.0/16"],
            # Watches that begin with a list need a newer etcd; asked for, they fail for half a
            # minute at a time.
            env={"KUBE_FEATURE_WatchListClient": "false"},
        )  # fmt: skip

    def write_log(self, lines: Sequence[str]) -> None:
        """Replace what every fake pod has logged."""
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
        text = "".join(f"{stamp} stdout F {line}\n" for line in lines)
        self.log_file.write_text(text, encoding="utf-8")

    def add(self, api: Api, *, count: int) -> None:
        """Make sure that there are `count` fake nodes, `fake-0` and so on."""
        amounts = {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": "8"}
        for index in range(count):
            name = f"fake-{index}"
            labels = {MARK: "fake", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
            taint = {"key": MARK, "value": "fake", "effect": "NoSchedule"}
            node = {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": labels},
                "spec": {"taints": [taint]},
                "status": {"capacity": amounts, "allocatable": amounts},
            }
            api.create(NODES, node)

    def remove(self, api: Api) -> None:
        """Remove every fake node."""
        api.request("DELETE", f"{NODES}?labelSelector={MARK}%3Dfake")


def stage(
    name: str, kind: str, *, when: Sequence[dict[str, Any]], then: dict[str, Any],
    delay: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return one transition of KWOK's."""
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind},
            "selector": {"matchExpressions": list(when)},
            **({"delay": delay} if delay else {}),
            "next": then,
        },
    }


def stages() -> list[dict[str, Any]]:
    """Return what happens to fake nodes and to pods on them."""
    is_deleted = {"key": ".metadata.deletionTimestamp", "operator": "Exists"}
    is_kept = {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}
    ready = '.status.conditions.[] | select( .type == "Ready" ) | .status'
    owner = {"key": ".metadata.ownerReferences.[].kind", "operator": "In", "values": ["Job"]}

    def has_phase(phase: str) -> dict[str, Any]:
        return {"key": ".status.phase", "operator": "In", "values": [phase]}

    duration = {"expressionFrom": f'.metadata.annotations["{ANNOTATION_SECONDS}"]'}
    return [
        stage("node-ready", "Node", then={"statusTemplate": NODE_READY},
              when=[{"key": ready, "operator": "NotIn", "values": ["True"]}]),
        stage("pod-running", "Pod", when=[is_kept, has_phase("Pending")],
              then={"statusTemplate": POD_RUNNING}),
        stage("pod-ended", "Pod", when=[is_kept, has_phase("Running"), owner],
              then={"statusTemplate": POD_ENDED},
              delay={"durationMilliseconds": 1000, "durationFrom": duration}),
        stage("pod-deleted", "Pod", when=[is_deleted], then={"delete": True}),
    ]  # fmt: skip


def logs(file: str) -> dict[str, Any]:
    """Return the rule that every fake pod has logged what stands in a file."""
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "ClusterLogs",
        "metadata": {"name": "all"},
        "spec": {"logs": [{"logsFile": file, "follow": False}]},
    }
