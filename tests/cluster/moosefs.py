"""MooseFS as the cluster's parallel file system: one volume, mounted by both nodes.

A master and a chunk server on the machine, and a client of its own for each node, so that
nothing that one node has read is in the other's cache. The provisioner has a third one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.cluster.api import Api
from tests.cluster.nodes import NodeProcesses
from tests.cluster.processes import Processes, wait_for
from tests.cluster.settings import CONTROL_PLANE_ADDRESS, NETWORK_PREFIX, Layout
from tests.cluster.storage import storage_class

MEDIUM = "moosefs"

# Not at the highest priority, as they would start by default: on a machine of two cores that
# would take the time from the readers that are measured.
MASTER_CONFIG = """\
WORKING_USER = root
WORKING_GROUP = root
DATA_PATH = {state}/master
EXPORTS_FILENAME = {state}/exports.cfg
TOPOLOGY_FILENAME = {state}/topology.cfg
MATOML_LISTEN_HOST = {address}
MATOCS_LISTEN_HOST = {address}
MATOCL_LISTEN_HOST = {address}
NICE_LEVEL = 0
"""

CHUNK_SERVER_CONFIG = """\
WORKING_USER = root
WORKING_GROUP = root
DATA_PATH = {state}/chunk-server
HDD_CONF_FILENAME = {state}/disks.cfg
MASTER_HOST = {address}
CSSERV_LISTEN_HOST = {address}
NICE_LEVEL = 0
"""


class MooseFs:
    """Starts the file system and mounts it.

    Args:
        layout: Where the cluster lies.
        processes: Its processes.
        nodes: That mount it.
    """

    def __init__(
        self, layout: Layout, processes: Processes, *, nodes: Sequence[NodeProcesses]
    ) -> None:
        self.layout = layout
        self.processes = processes
        self.nodes = nodes
        self.state = layout.state / "moosefs"
        self.mount_point = layout.volumes / MEDIUM

    def up(self, api: Api) -> None:
        """Start what is not running, and offer the class `bench-moosefs`."""
        self.write_configuration()
        running = self.processes.running()
        for program in ("mfsmaster", "mfschunkserver"):
            if program not in running:
                config = self.state / f"{program}.cfg"
                self.processes.start(program, [program, "-f", "-c", config, "start"])
        self.mount_for_provisioner()
        for node in self.nodes:
            name = f"{node.node.name}-mfsmount"
            if name not in running:
                node.start(name, self.client())
        classes = "/apis/storage.k8s.io/v1/storageclasses"
        api.create(classes, storage_class(MEDIUM, binding="Immediate"))
        for node in self.nodes:
            pid = self.processes.running()[node.holder]
            self.wait_mounted(f"{node.node.name}-mfsmount", pid=pid)

    def write_configuration(self) -> None:
        """Write the servers' files, once: the master's directory says whether it is new."""
        if (self.state / "master").exists():
            return
        self.mount_point.mkdir(parents=True, exist_ok=True)
        for folder in ("chunk-server", "chunks", "master.new"):
            (self.state / folder).mkdir(parents=True, exist_ok=True)
        names = {"state": self.state, "address": CONTROL_PLANE_ADDRESS}
        network = f"{CONTROL_PLANE_ADDRESS.rsplit('.', 2)[0]}.0.0/{NETWORK_PREFIX}"
        for name, text in {
            "mfsmaster.cfg": MASTER_CONFIG.format(**names),
            "mfschunkserver.cfg": CHUNK_SERVER_CONFIG.format(**names),
            "exports.cfg": f"{network} / rw,alldirs,admin,maproot=0:0\n",
            "topology.cfg": "",
            "disks.cfg": f"{self.state / 'chunks'}\n",
            "master.new/metadata.mfs": "MFSM NEW",  # an empty file system
        }.items():
            (self.state / name).write_text(text, encoding="ascii")
        (self.state / "master.new").rename(self.state / "master")

    def client(self) -> list[str | Path]:
        """Return the command line of a client."""
        options = "mfsnice=0,mfsdelayedinit"
        return ["mfsmount", "-f", "-H", CONTROL_PLANE_ADDRESS, "-o", options, self.mount_point]

    def mount_for_provisioner(self) -> None:
        """Mount it in the cluster's own mounts, without handing that on to the nodes."""
        name = "provisioner-mfsmount"
        if name not in self.processes.running():
            run = self.processes.run
            run(["mount", "--bind", self.mount_point, self.mount_point])
            run(["mount", "--make-private", self.mount_point])
            self.processes.start(name, self.client())
        self.wait_mounted(name, pid=1)
        # What is deleted gives its room back at once, not after a day.
        self.processes.run(["mfssettrashtime", "0", self.mount_point])

    def wait_mounted(self, name: str, *, pid: int) -> None:
        """Wait until a client has its mount and the chunk server has offered room."""
        inside = self.processes.proc(pid)

        def is_mounted() -> bool:
            table = (inside / "mountinfo").read_text(encoding="utf-8").splitlines()
            return any(
                line.split()[4] == str(self.mount_point) and " - fuse" in line for line in table
            )

        self.processes.wait_ready(name, is_mounted, seconds=30)
        with_room = ["stat", "--file-system", "--format=%a", self.mount_point]

        def has_room() -> bool:
            mounts = None if pid == 1 else name
            return int(self.processes.run(with_room, mounts_of=mounts)) > 0

        wait_for(has_room, seconds=30, what="room on MooseFS")
