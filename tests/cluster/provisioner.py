"""Makes a volume for each claim on the cluster's classes, and removes it with the claim.

A small relative of what storage vendors ship: it waits for the scheduler's choice of a node,
makes a directory on that node's medium and a `local` volume for it, says why where it cannot
(event ProvisioningFailed), and empties and removes what was released.

Run by `python -m tests.cluster.provisioner` among the cluster's mounts and in its network.
"""

from __future__ import annotations

import http.client
import queue
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.cluster.api import Api, JsonObject, RefusedError
from tests.cluster.settings import NODES, ClusterError, Layout
from tests.cluster.storage import PROVISIONER, free_bytes

CLAIMS = "/api/v1/persistentvolumeclaims"
VOLUMES = "/api/v1/persistentvolumes"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"

WATCH_SECONDS = 300

UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40,
         "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "": 1}  # fmt: skip


class ImpossibleError(Exception):
    """A claim that cannot be served; the message goes into its event."""


def quantity_bytes(text: str) -> int:
    """Return the bytes of a Kubernetes quantity as claims use them."""
    number = text.rstrip("KMGTki")
    return int(float(number) * UNITS[text[len(number) :]])


class Provisioner:
    """Serves claims and released volumes, one at a time."""

    def __init__(self, api: Api, *, volumes: Path) -> None:
        self.api = api
        self.volumes = volumes
        self.changes: queue.Queue[JsonObject] = queue.Queue()

    def follow(self, path: str) -> None:
        """Put every object of a kind, and every change of one, into the queue; never return."""
        while True:
            try:
                listed = self.api.get(path)
                for item in listed["items"]:
                    self.changes.put(item | {"kind": listed["kind"].removesuffix("List")})
                version = listed["metadata"]["resourceVersion"]
                for change in self.api.watch(path, resource_version=version, seconds=WATCH_SECONDS):
                    if change["type"] == "ERROR":
                        break  # too old, most often: list again
                    if change["type"] != "DELETED":
                        self.changes.put(change["object"])
            except ClusterError as error:
                print(error, file=sys.stderr, flush=True)
                time.sleep(0.5)  # the API server restarts

    def serve(self) -> None:
        """Handle changes until the process is ended."""
        for path in (CLAIMS, VOLUMES):
            threading.Thread(target=self.follow, args=(path,), daemon=True).start()
        while True:
            changed = self.changes.get()
            try:
                if changed["kind"] == "PersistentVolumeClaim":
                    self.serve_claim(changed)
                else:
                    self.serve_volume(changed)
            except (ClusterError, OSError) as error:
                print(error, file=sys.stderr, flush=True)

    # ------------------------------------------------------------------ claims

    def serve_claim(self, claim: JsonObject) -> None:
        """Make the volume of a claim that waits for one."""
        annotations = claim["metadata"].get("annotations", {})
        spec = claim["spec"]
        if (
            spec.get("volumeName")
            or annotations.get("volume.kubernetes.io/storage-provisioner") != PROVISIONER
            or claim["metadata"].get("deletionTimestamp")
        ):
            return
        storage_class = self.api.get(f"{CLASSES}/{spec['storageClassName']}")
        node = annotations.get(SELECTED_NODE)
        if storage_class["volumeBindingMode"] == "WaitForFirstConsumer" and node is None:
            return
        try:
            volume = self.volume(claim, storage_class, node)
        except ImpossibleError as error:
            self.report(claim, reason="ProvisioningFailed", message=str(error))
            return
        self.api.create(VOLUMES, volume)

    def volume(self, claim: JsonObject, storage_class: JsonObject, node: str | None) -> JsonObject:
        """Make the directory of a claim's volume and return the volume.

        Raises:
            ImpossibleError: If the medium has not what the claim asks for.
        """
        medium = storage_class["parameters"]["medium"]
        spec, metadata = claim["spec"], claim["metadata"]
        size = spec["resources"]["requests"]["storage"]
        everywhere = medium == "moosefs"
        root = self.volumes / (medium if everywhere else f"{node}/{medium}")
        if spec.get("volumeMode") == "Block":
            raise ImpossibleError(f"class bench-{medium} has no block volumes")
        shared = {"ReadWriteMany", "ReadOnlyMany"} & set(spec["accessModes"])
        if shared and not everywhere:
            raise ImpossibleError(
                f"class bench-{medium} lies on one node and cannot be {max(shared)}"
            )
        if quantity_bytes(size) > free_bytes(root):
            raise ImpossibleError(
                f"{size} asked for, {free_bytes(root)} bytes are free on {medium} of "
                f"{node or 'all nodes'}"
            )
        directory = root / f"pvc-{metadata['uid']}"
        directory.mkdir(exist_ok=True)
        directory.chmod(0o777)  # pods run under any user; a directory knows no fsGroup
        hosts = [n.name for n in NODES] if everywhere else [node]
        host = {"key": "kubernetes.io/hostname", "operator": "In", "values": hosts}
        claim_reference = {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "uid": metadata["uid"],
            "namespace": metadata["namespace"], "name": metadata["name"],
        }  # fmt: skip
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": directory.name, "annotations": {PROVISIONED_BY: PROVISIONER}},
            "spec": {
                "capacity": {"storage": size},
                "accessModes": spec["accessModes"],
                "persistentVolumeReclaimPolicy": storage_class["reclaimPolicy"],
                "storageClassName": storage_class["metadata"]["name"],
                "volumeMode": "Filesystem",
                "local": {"path": str(directory)},
                "claimRef": claim_reference,
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [host]}]}},
            },
        }

    def report(self, claim: JsonObject, *, reason: str, message: str) -> None:
        """Say in an event of the claim why it has no volume."""
        metadata = claim["metadata"]
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        name = f"{metadata['name']}.{time.time_ns():x}"
        involved = {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "uid": metadata["uid"],
            "namespace": metadata["namespace"], "name": metadata["name"],
        }  # fmt: skip
        event: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": metadata["namespace"]},
            "involvedObject": involved,
            "reason": reason,
            "message": f"failed to provision volume: {message}",
            "type": "Warning",
            "source": {"component": PROVISIONER},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        self.api.create(f"/api/v1/namespaces/{metadata['namespace']}/events", event)

    # ------------------------------------------------------------------ volumes

    def serve_volume(self, volume: JsonObject) -> None:
        """Remove a volume of ours that its claim has left behind, with its data."""
        metadata, spec = volume["metadata"], volume["spec"]
        if (
            metadata.get("annotations", {}).get(PROVISIONED_BY) != PROVISIONER
            or spec["persistentVolumeReclaimPolicy"] != "Delete"
            or volume["status"].get("phase") != "Released"
        ):
            return
        directory = Path(spec["local"]["path"])
        if directory.is_relative_to(self.volumes):
            shutil.rmtree(directory, ignore_errors=True)
        try:
            self.api.delete(f"{VOLUMES}/{metadata['name']}")
        except RefusedError as error:
            if error.status != http.client.CONFLICT:
                raise


def main() -> None:
    """Serve the cluster whose name and directories the environment gives."""
    layout = Layout.of_environment()
    Provisioner(Api.of_kubeconfig(layout.kubeconfig), volumes=layout.volumes).serve()


if __name__ == "__main__":
    main()
