"""Two real nodes: each its own containerd and kubelet, among its own mounts.

A node sees the machine's file system with /run, /var/log and /var/lib of its own, so the paths
that containerd and the kubelet cannot be talked out of collide neither with the other node's
nor with those of the machine.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cluster import cgroups
from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import Processes
from tests.cluster.settings import (
    BRIDGE,
    CLUSTER_DOMAIN,
    CONTROL_PLANE_ADDRESS,
    NETWORK_PREFIX,
    NODES,
    PAUSE_IMAGE,
    Layout,
    Node,
)
from tests.cluster.unpacked import link_tree

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"

CONTAINERD_CONFIG = """\
version = 2
root = "{root}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]

[grpc]
address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
path = "{root}/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
disable_apparmor = true
# Negative scores need CAP_SYS_RESOURCE; without it every sandbox would die at its start.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{root}/cni"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
base_runtime_spec = "{root}/base-spec.json"
"""


class NodeProcesses:
    """One node's mounts, containerd and kubelet."""

    def __init__(
        self, node: Node, *, layout: Layout, processes: Processes, control_plane: ControlPlane
    ) -> None:
        self.node = node
        self.layout = layout
        self.processes = processes
        self.control_plane = control_plane
        self.root = layout.node(node)

    @property
    def holder(self) -> str:
        """Name of the process that holds the node's mounts."""
        return f"{self.node.name}-mounts"

    @property
    def containerd(self) -> str:
        return f"{self.node.name}-containerd"

    @property
    def kubelet(self) -> str:
        return f"{self.node.name}-kubelet"

    # ------------------------------------------------------------------ mounts

    def make_mounts(self) -> None:
        """Give the node mounts of its own, held by a process that does nothing else."""
        if self.holder in self.processes.running():
            return
        for folder in ("kubelet", "cni", "opt", "pods"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        program = [
            "unshare", "--mount", "--propagation", "slave", "sh", "-euc",
            ('mount -t tmpfs -o mode=755 tmpfs /run; mount -t tmpfs -o mode=755 tmpfs /var/log; '
            'mount -t tmpfs -o mode=755 tmpfs /var/lib; mkdir /var/lib/kubelet; '
            'mount --bind "$0/kubelet" /var/lib/kubelet; touch /run/mounted; '
            "exec sleep infinity"),
            str(self.root),
        ]  # fmt: skip
        self.processes.start(self.holder, program)
        marker = self.processes.file_of(self.holder, "/run/mounted")
        self.processes.wait_ready(self.holder, marker.exists, seconds=10)

    def run(self, *argv: str | Path) -> str:
        """Run a command among the node's mounts and return what it printed."""
        return self.processes.run(argv, mounts_of=self.holder)

    def start(self, name: str, argv: list[str | Path]) -> None:
        """Start a process among the node's mounts."""
        pid = self.processes.running()[self.holder]
        self.processes.start(name, ["nsenter", f"--mount=/proc/{pid}/ns/mnt", "--wd=/", *argv])

    # ------------------------------------------------------------------ containerd

    def start_containerd(self, *, images: Path, read_limits: dict[str, int]) -> None:
        """Start the container runtime and wait until it answers.

        Args:
            images: Unpacked images to begin with.
            read_limits: Block device (major:minor) -> bytes a second that each container may
                read from it.
        """
        self.make_mounts()
        link_tree(images, self.root / "containerd")
        self.write_base_spec(read_limits)
        (self.root / "cni" / "10-bench.conflist").write_text(
            json.dumps(self.network_config()), encoding="ascii"
        )
        config = self.root / "containerd.toml"
        config.write_text(
            CONTAINERD_CONFIG.format(root=self.root, socket=CONTAINERD_SOCKET, pause=PAUSE_IMAGE),
            encoding="ascii",
        )
        self.start(self.containerd, ["containerd", f"--config={config}"])
        socket = self.processes.file_of(self.holder, CONTAINERD_SOCKET)
        self.processes.wait_ready(self.containerd, socket.exists, seconds=30)

    def write_base_spec(self, read_limits: dict[str, int]) -> None:
        """Write what every container of this node starts from.

        The kernel then limits each container's reads from a device from its first one on: a
        limit written into the control group of a running container would come too late.
        """
        spec = json.loads(self.run("ctr", "oci", "spec"))
        limits = [
            {"major": int(major), "minor": int(minor), "rate": rate}
            for device, rate in read_limits.items()
            for major, minor in [device.split(":")]
        ]
        if limits:
            spec["linux"]["resources"]["blockIO"] = {"throttleReadBpsDevice": limits}
        (self.root / "base-spec.json").write_text(json.dumps(spec), encoding="utf-8")

    def network_config(self) -> dict[str, Any]:
        """Return the CNI configuration: all pods of both nodes on one bridge, no way out."""
        ipam = {
            "type": "host-local",
            "dataDir": str(self.root / "ipam"),
            "ranges": [[{
                "subnet": f"10.88.0.0/{NETWORK_PREFIX}",
                "rangeStart": self.node.first_pod_address,
                "rangeEnd": self.node.last_pod_address,
                "gateway": CONTROL_PLANE_ADDRESS,
            }]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }  # fmt: skip
        bridge = {"type": "bridge", "bridge": BRIDGE, "hairpinMode": True, "ipam": ipam}
        return {"cniVersion": "1.0.0", "name": "bench", "plugins": [bridge]}

    def image_names(self) -> set[str]:
        """Return the names of the images that this node has."""
        return set(self.run("ctr", "-n", "k8s.io", "images", "ls", "-q").split())

    def import_image(self, archive: Path, *, base_name: str) -> None:
        """Load an OCI archive, under its name and under its digest."""
        self.run("ctr", "-n", "k8s.io", "images", "import", "--digests",
                 f"--base-name={base_name}", archive)  # fmt: skip

    # ------------------------------------------------------------------ kubelet

    @property
    def cgroup(self) -> str:
        """Control group that holds the node's pods, relative to each hierarchy's root."""
        return f"{self.layout.cgroup}/{self.node.name}"

    def start_kubelet(self) -> None:
        """Start the kubelet; it registers the node by itself."""
        if self.kubelet in self.processes.running():
            return
        cgroups.create(self.cgroup)
        resolv = self.root / "resolv.conf"
        resolv.write_text(f"nameserver {CONTROL_PLANE_ADDRESS}\n", encoding="ascii")
        config = self.root / "kubelet.json"
        config.write_text(json.dumps(self.kubelet_config(resolv)), encoding="ascii")
        self.start(
            self.kubelet,
            [self.layout.program("kubelet"), f"--config={config}",
             f"--kubeconfig={self.control_plane.kubeconfig(self.node.name)}",
             f"--hostname-override={self.node.name}", f"--node-ip={self.node.address}",
             f"--cert-dir={self.root / 'pki'}", "--v=2"],
        )  # fmt: skip

    def kubelet_config(self, resolv: Path) -> dict[str, Any]:
        """Return the kubelet's configuration."""
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.node.address,
            "healthzBindAddress": self.node.address,
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "clusterDNS": [CONTROL_PLANE_ADDRESS],
            "clusterDomain": CLUSTER_DOMAIN,
            "resolvConf": str(resolv),
            "podLogsDir": str(self.root / "pods"),
            "volumePluginDir": str(self.root / "volume-plugins"),
            # A machine of developers is often nearly full: that is no reason to evict tests.
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "100Mi"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "nodeStatusReportFrequency": "10s",
            "readOnlyPort": 0,
        }

    def wait_ready(self, *, seconds: float = 90) -> None:
        """Wait until the API server holds the node for ready."""

        def is_ready() -> bool:
            items = self.control_plane.api.get("/api/v1/nodes")["items"]
            conditions = [
                c
                for item in items
                if item["metadata"]["name"] == self.node.name
                for c in item["status"].get("conditions", [])
            ]
            return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

        self.processes.wait_ready(self.kubelet, is_ready, seconds=seconds)


def all_nodes(
    *, layout: Layout, processes: Processes, control_plane: ControlPlane
) -> list[NodeProcesses]:
    """Return every node of the cluster, started or not."""
    return [
        NodeProcesses(node, layout=layout, processes=processes, control_plane=control_plane)
        for node in NODES
    ]
