"""The cluster as a whole: up, down, and what a test asks of it."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.cluster import build, cgroups
from tests.cluster.api import Api
from tests.cluster.control_plane import ControlPlane, Network
from tests.cluster.fake_nodes import FakeNodes
from tests.cluster.images import Image, ImageStore
from tests.cluster.moosefs import MooseFs
from tests.cluster.nodes import NodeProcesses, all_nodes
from tests.cluster.object_store import ObjectStore
from tests.cluster.processes import Processes, network
from tests.cluster.settings import (
    COREDNS,
    KUBERNETES,
    KWOK,
    REPOSITORY,
    VERSITYGW,
    Layout,
)
from tests.cluster.storage import Media, create_classes
from tests.cluster.unpacked import UnpackedImages

EXTRAS = {
    "kwok": "fake nodes and pods by the thousand, as a test adds them",
    "moosefs": "a parallel file system: class bench-moosefs, ReadWriteMany",
    "s3": "an object store; its address and keys are in s3.json beside the kubeconfig",
}
"""What `up` starts when asked for only."""


def silent(_line: str) -> None:
    """Take a line of progress and drop it."""


class Cluster:
    """One cluster, up or not.

    Args:
        layout: Where it lies.
        tell: Takes lines of progress.
    """

    def __init__(self, layout: Layout, *, tell: build.Tell = silent) -> None:
        self.layout = layout
        self.tell = tell
        self.processes = Processes(layout)
        self.home: str | None = None
        self.control_plane = ControlPlane(layout, self.processes)
        self.media = Media(layout, self.processes)
        self.images = ImageStore(layout, tell=tell)
        self.fake_nodes = FakeNodes(layout, self.processes)
        self.object_store = ObjectStore(layout, self.processes)
        self.nodes: list[NodeProcesses] = all_nodes(
            layout=layout, processes=self.processes, control_plane=self.control_plane
        )

    # ------------------------------------------------------------------ up and down

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Let one `up` or `down` of this cluster run at a time."""
        with build.locked(self.layout.cache / f"{self.layout.name}.lock"):
            yield

    @property
    def is_up(self) -> bool:
        """Whether its first process lives."""
        return self.processes.init() is not None

    def up(self, *, extras: Iterable[str] = ()) -> None:
        """Bring it up, or add what is missing; quick where all is there.

        Raises:
            ClusterError: If that is impossible; whatever was started stays for a look.
        """
        extras = set(extras)
        with self.outside():
            images = self.build(extras)
        with self.lock():
            if not self.is_up:
                self.remove_remains()
                self.tell(f"starting cluster {self.layout.name}")
                self.processes.create()
            Network(self.processes).up()
            with self.inside():
                self.control_plane.up()
                for node in self.nodes:
                    self.start_node(node, images=images)
                create_classes(self.api)
                self.start_provisioner()
                for image in images:
                    self.load(image)
                if "moosefs" in extras:
                    MooseFs(self.layout, self.processes, nodes=self.nodes).up(self.api)
                if "kwok" in extras:
                    self.fake_nodes.up()
                if "s3" in extras:
                    self.object_store.up()
                for node in self.nodes:
                    node.wait_ready()

    def build(self, extras: set[str]) -> list[Image]:
        """Make what the cluster is made of; return the images that its nodes have."""
        packages = build.PACKAGES | (build.MOOSEFS_PACKAGES if "moosefs" in extras else {})
        build.require_packages(packages, tell=self.tell)
        wanted = {"s3": VERSITYGW, "kwok": KWOK}
        modules = [KUBERNETES, COREDNS, *(m for name, m in wanted.items() if name in extras)]
        build.build_modules(self.layout, modules, tell=self.tell)
        pause = build.build_pause(self.layout, tell=self.tell)
        return [self.images.pause(pause), self.images.bench()]

    def start_node(self, node: NodeProcesses, *, images: Sequence[Image]) -> None:
        """Start what is not running of a node."""
        if node.containerd not in self.processes.running():
            # Media first: the node's mounts begin as copies of the cluster's.
            self.media.up(node.node)
            node.start_containerd(
                images=UnpackedImages(self.layout, tell=self.tell).of(images),
                read_limits=self.media.read_limits(node.node),
            )
        node.start_kubelet()

    def start_provisioner(self) -> None:
        """Start what makes a volume for each claim."""
        if "provisioner" in self.processes.running():
            return
        self.processes.start(
            "provisioner",
            [sys.executable, "-m", "tests.cluster.provisioner"],
            env={"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
            | self.layout.environment(),
        )

    def down(self) -> None:
        """End it, and remove everything of it but the cache; none is fine."""
        with self.lock():
            self.processes.destroy()
            self.remove_remains()

    def remove_remains(self) -> None:
        """Remove what processes leave when they end: control groups and files."""
        cgroups.remove(self.layout.cgroup)
        if self.layout.state.exists():
            shutil.rmtree(self.layout.state)
            with suppress(OSError):  # another cluster's is in there
                self.layout.state.parent.rmdir()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Put this thread into the cluster's network."""
        with network(f"/proc/{self.processes.required_init().pid}/ns/net") as home:
            before, self.home = self.home, home
            try:
                yield
            finally:
                self.home = before

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Put this thread back into the machine's network, where sources are reached."""
        with ExitStack() as stack:
            if self.home is not None:
                stack.enter_context(network(self.home))
            yield

    # ------------------------------------------------------------------ for tests

    @property
    def kubeconfig(self) -> Path:
        """Of the administrator; its address is reachable within the cluster's network only."""
        return self.layout.kubeconfig

    @property
    def api(self) -> Api:
        """Requests as the administrator."""
        return self.control_plane.api

    def image(self) -> Image:
        """Return the image of `bench` as it is in this checkout; the nodes have it."""
        with self.outside():
            image = self.images.bench()
        self.load(image)
        return image

    def advertise_gpus(self, node: str, *, count: int) -> None:
        """Let a node say that it has GPUs, which pods can then ask for; 0 takes them back."""
        amount = {"nvidia.com/gpu": str(count) if count else None}
        status = {"status": {"capacity": amount, "allocatable": amount}}
        self.api.patch(f"/api/v1/nodes/{node}/status", status)

    def kill_api_server(self) -> None:
        """End the API server as a crash would; `up` or `start_api_server` brings it back."""
        self.processes.stop("kube-apiserver", number=signal.SIGKILL)

    def start_api_server(self) -> None:
        """Start the API server where it is not running, and wait until it is ready.

        Controllers and DNS start anew as well: those that asked while it was not yet ready
        would wait for up to half a minute before they ask again, longer after each crash.
        """
        self.control_plane.start_api_server()
        for name in ("kube-controller-manager", "kube-scheduler", "coredns"):
            self.processes.stop(name, number=signal.SIGKILL)
        self.control_plane.up()

    def exec_words(self) -> list[str]:
        """Return the words that run a command in the cluster's network, before that command.

        Files and processes stay those of the machine.
        """
        return ["nsenter", "--target", str(self.processes.required_init().pid), "--net", "--"]

    def load(self, image: Image, *, on: Iterable[NodeProcesses] | None = None) -> str:
        """Give an image to nodes that lack it; return its name."""
        for node in self.nodes if on is None else on:
            if image.reference not in node.image_names():
                node.import_image(image.archive, base_name=image.base_name)
        return image.reference
