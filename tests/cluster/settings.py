"""What the throwaway cluster is made of, and where its parts lie on this machine.

Everything that changes when a version is raised stands here. A cluster keeps all that it
writes in one state directory, which goes when it goes; what is worth keeping between clusters
(programs, images) lies in one cache directory, with versions or content hashes in the names.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Module:
    """A Go module with programs to build, pinned by `modules/NAME/go.mod` and go.sum.

    Args:
        name: Of the directory below `modules`.
        version: Of the module; stands in the cache's paths.
        programs: What it builds.
        defaults: Values to set by the linker.
    """

    name: str
    version: str
    programs: tuple[str, ...]
    defaults: tuple[str, ...] = ()


KUBERNETES = Module(
    name="kubernetes",
    version="v1.34.4",
    programs=(
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubectl",
        "kubelet",
    ),
    # Without these, nodes and server report v0.0.0.
    defaults=(
        "k8s.io/component-base/version.gitVersion=v1.34.4",
        "k8s.io/component-base/version.gitMajor=1",
        "k8s.io/component-base/version.gitMinor=34",
        "k8s.io/component-base/version.gitTreeState=clean",
    ),
)
COREDNS = Module(name="coredns", version="v1.14.7", programs=("coredns",))
VERSITYGW = Module(name="versitygw", version="v1.8.0", programs=("versitygw",))
KWOK = Module(name="kwok", version="v0.8.0", programs=("kwok",))
MODULES = (KUBERNETES, COREDNS, VERSITYGW, KWOK)

BRIDGE = "cni0"
NETWORK_PREFIX = 16
CONTROL_PLANE_ADDRESS = "10.88.0.1"
SERVICE_RANGE = "10.96.0.0/24"
API_SERVICE_ADDRESS = "10.96.0.1"
"""First of the range: what pods find in KUBERNETES_SERVICE_HOST. It is a second address of the
bridge and the API server listens on its port 443, so no kube-proxy is needed to reach it."""

CLUSTER_DOMAIN = "cluster.local"
PAUSE_IMAGE = "localhost/pause:1"

SLOW_READ_BYTES_PER_SECOND = int(os.environ.get("BENCH_CLUSTER_SLOW_BPS", "100000000"))
"""What the class `bench-slow` gives to each container: the kernel holds it."""


class ClusterError(Exception):
    """The cluster, or a part of it, cannot be made; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node: its name, address and the range that its pods' addresses come from."""

    name: str
    address: str
    first_pod_address: str
    last_pod_address: str


NODES = (
    Node(
        name="node-1",
        address="10.88.0.1",
        first_pod_address="10.88.1.1",
        last_pod_address="10.88.1.254",
    ),
    Node(
        name="node-2",
        address="10.88.0.2",
        first_pod_address="10.88.2.1",
        last_pod_address="10.88.2.254",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The directories and files of one cluster.

    Args:
        name: Tells clusters of one machine apart: state, control groups and nothing else
            carry it, as each has a network of its own.
        state: Of this cluster, on a real disk: control plane, nodes, volumes, logs.
        cache: Shared by all clusters of this user.
    """

    name: str
    state: Path
    cache: Path

    @classmethod
    def of_environment(cls) -> Layout:
        """Take name and directories from BENCH_CLUSTER_NAME, _STATE and _CACHE, or defaults."""
        name = os.environ.get("BENCH_CLUSTER_NAME") or "bench"
        # Not below /var/lib or /run: nodes hide those behind directories of their own.
        base = os.environ.get("BENCH_CLUSTER_STATE") or "/var/tmp/bench-cluster"
        caches = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        cache = os.environ.get("BENCH_CLUSTER_CACHE") or os.path.join(caches, "bench-cluster")
        state = Path(base).resolve() / name
        hidden = [
            p for p in ("/var/lib", "/run", "/var/log", "/proc", "/sys") if state.is_relative_to(p)
        ]
        if hidden or len(str(state)) > 60 or not name.replace("-", "").isalnum():
            raise ClusterError(
                f"{state}: not usable as state directory; choose a short path outside of /var/lib, "
                "/var/log and /run with BENCH_CLUSTER_STATE, and a name of letters and digits"
            )
        return cls(name=name, state=state, cache=Path(cache).resolve())

    def environment(self) -> dict[str, str]:
        """Return the variables that make `of_environment` give this layout."""
        return {
            "BENCH_CLUSTER_NAME": self.name,
            "BENCH_CLUSTER_STATE": str(self.state.parent),
            "BENCH_CLUSTER_CACHE": str(self.cache),
        }

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def init_record(self) -> Path:
        """Process id and start time of the cluster's first process, as JSON."""
        return self.state / "init.json"

    @property
    def init_socket(self) -> Path:
        return self.state / "init.sock"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def volumes(self) -> Path:
        return self.state / "volumes"

    def programs(self, module: Module) -> Path:
        """Return the directory of a module's built programs."""
        return self.cache / f"{module.name}-{module.version}"

    def program(self, name: str) -> Path:
        """Return the file of one built program."""
        (module,) = (m for m in MODULES if name in m.programs)
        return self.programs(module) / name

    @property
    def cgroup(self) -> str:
        """Parent of the nodes' control groups, relative to each hierarchy's root."""
        return f"bench-cluster-{self.name}"

    def node(self, node: Node) -> Path:
        """Return the directory of one node."""
        return self.state / node.name
