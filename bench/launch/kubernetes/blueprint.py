"""What the builders of manifests share: a plan whose place in a cluster has been checked."""

from __future__ import annotations

from dataclasses import dataclass

from kubernetes import client

from bench.errors import UsageError
from bench.launch.kubernetes import names as n
from bench.spec.cluster import ClusterSettings
from bench.spec.plan import Plan

__all__ = ["Blueprint", "ExistingClaim", "check"]

READ_WRITE_MANY = "ReadWriteMany"
READ_ONLY_MANY = "ReadOnlyMany"


@dataclass(frozen=True, slots=True)
class ExistingClaim:
    """What preflight read of the claim that the target names.

    Attributes:
        storage_class: Its class; None where it has none.
        access_modes: Of its status, or of its spec while it is unbound.
    """

    storage_class: str | None
    access_modes: tuple[str, ...]

    @property
    def read_only(self) -> bool:
        """No pod may write to it."""
        return bool(self.access_modes) and set(self.access_modes) == {READ_ONLY_MANY}

    @property
    def shared(self) -> bool:
        """Pods of several nodes may have it at once."""
        return not {READ_WRITE_MANY, READ_ONLY_MANY}.isdisjoint(self.access_modes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """A plan and where it is to run.

    Attributes:
        plan: What is measured.
        cluster: How its pods are made.
        image: Of the pods.
        names: Of its objects.
        namespace: Of its objects; None where the one who applies them chooses.
        existing: The target's claim as it was found; None where nobody looked, or where
            there is none.
        owner_uid: UID of the preparing Job; None leaves owner references out.
        attempt: 1-based number of the attempt.
        ca_bundle: PEM certificates that the object target's endpoint is checked against;
            None for those of the image.
        nodes: Names of the nodes that alone may run its pods; empty for any.
    """

    plan: Plan
    cluster: ClusterSettings
    image: str
    names: n.Names
    namespace: str | None
    existing: ExistingClaim | None
    owner_uid: str | None
    attempt: int
    ca_bundle: str | None
    nodes: tuple[str, ...]

    @property
    def storage_class(self) -> str | None:
        """Class of the storage that is measured; None where there is none or it is unknown."""
        storage = self.plan.storage
        if storage.ephemeral is not None:
            return storage.ephemeral.storage_class_name
        if storage.pvc is not None and storage.pvc.storage_class_name is not None:
            return storage.pvc.storage_class_name
        return self.existing.storage_class if self.existing is not None else None

    @property
    def creates_claim(self) -> bool:
        """The run makes a claim of its own or for later runs."""
        pvc = self.plan.storage.pvc
        return pvc is not None and pvc.claim_name is None

    @property
    def keeps_claim(self) -> bool:
        """The claim that is made outlives the run."""
        return self.creates_claim and self.cluster.keep_dataset == "keep"

    @property
    def claim_name(self) -> str | None:
        """Name of the claim that is read; None for targets without one."""
        pvc = self.plan.storage.pvc
        if pvc is None or pvc.claim_name is not None:
            return pvc.claim_name if pvc is not None else None
        if self.keeps_claim:
            return n.dataset_claim_name(pvc, directory=self.plan.dataset.directory)
        return self.names.claim

    @property
    def bound_to_a_node(self) -> bool:
        """The claim that is made can be tied to the node where it is first used."""
        pvc = self.plan.storage.pvc
        return self.creates_claim and pvc is not None and READ_WRITE_MANY not in pvc.access_modes

    def labels(self, component: str) -> dict[str, str]:
        """Return the labels of an object, or of a pod."""
        return n.MANAGED | {
            n.COMPONENT: component,
            n.RUN_ID: self.names.run_id,
            n.CELL_ID: n.cell_id(self.plan),
            n.ATTEMPT: str(self.attempt),
            n.WORKLOAD: self.plan.workload_name,
            n.STORAGE_TARGET: self.plan.storage_name,
            n.STORAGE_CLASS: n.label_value(self.storage_class or self._no_class()),
        }

    def _no_class(self) -> str:
        return "unknown" if self.plan.storage.pvc is not None else "none"

    def annotations(self) -> dict[str, str]:
        """Return the annotations of an object, or of a pod."""
        found = {
            n.PLAN_DIGEST: f"sha256:{self.plan.digest()}",
            n.TOOL_VERSION: self.plan.tool_version,
            n.DATASET: self.plan.dataset.directory,
        }
        if self.storage_class is not None:  # its label may be cut
            found[n.STORAGE_CLASS] = self.storage_class
        return found

    def metadata(self, name: str, *, component: str, owned: bool = True) -> client.V1ObjectMeta:
        """Return the metadata of an object of the run.

        Args:
            name: Of the object.
            component: What part of the run it is.
            owned: It goes when the preparing Job goes.
        """
        owners = None
        if owned and self.owner_uid is not None:
            owners = [
                client.V1OwnerReference(
                    api_version="batch/v1",
                    kind="Job",
                    name=self.names.prepare,
                    uid=self.owner_uid,
                    block_owner_deletion=False,
                )
            ]
        return client.V1ObjectMeta(
            name=name,
            namespace=self.namespace,
            labels=self.labels(component),
            annotations=self.annotations(),
            owner_references=owners,
        )


def _check_place(plan: Plan, ca_bundle: str | None) -> None:
    if plan.storage.directory is not None:
        raise UsageError(
            f"storage target {plan.storage_name}",
            "is a directory of a machine, which no pod may reach under Pod Security",
            "choose a pvc, ephemeral, object or simulated target, or --launcher local",
        )
    target = plan.storage.object
    if target is not None and target.credentials.source == "secret":
        if target.credentials.secret_name is None:
            raise UsageError(
                "storage.object.credentials.secretName",
                "is not given, and credentials come from a Secret",
                "name the Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            )
    elif target is not None and target.credentials.secret_name is not None:
        raise UsageError(
            "storage.object.credentials.secretName",
            f"is given, and credentials come from {target.credentials.source}",
            "set storage.object.credentials.source=secret",
        )
    if target is not None and target.ca_bundle is not None and ca_bundle is None:
        raise UsageError(
            "storage.object.ca_bundle",
            f"{target.ca_bundle} is a file of this machine whose text was not handed on",
            "check that it can be read",
        )


def _check_claim(plan: Plan, existing: ExistingClaim | None) -> None:
    pvc, num_nodes = plan.storage.pvc, plan.settings.nodes
    if pvc is None:
        return
    if pvc.claim_name is not None:
        if num_nodes > 1 and existing is not None and not existing.shared:
            raise UsageError(
                f"claim {pvc.claim_name}",
                f"has access modes {', '.join(existing.access_modes)}, and {num_nodes} nodes "
                "cannot share it",
                "use --nodes 1, or a claim that is ReadWriteMany or ReadOnlyMany",
            )
        return
    if num_nodes > 1 and READ_WRITE_MANY not in pvc.access_modes:
        raise UsageError(
            "storage.pvc.accessModes",
            f"{', '.join(pvc.access_modes)} cannot be written once and then shared by "
            f"{num_nodes} nodes",
            "use ReadWriteMany, --nodes 1, or an ephemeral target (a copy on each node)",
        )
    if not set(pvc.access_modes) - {READ_ONLY_MANY}:
        raise UsageError(
            "storage.pvc.accessModes",
            "ReadOnlyMany alone leaves nobody to write the data set",
            "add ReadWriteOnce or ReadWriteMany, or name an existing claim",
        )


def _check_size(plan: Plan) -> None:
    for kind, volume in (("pvc", plan.storage.pvc), ("ephemeral", plan.storage.ephemeral)):
        size = volume.size if volume is not None else None
        if size is not None and size < plan.dataset.total_bytes:
            raise UsageError(
                f"storage.{kind}.size",
                f"{size} bytes do not hold the data set of {plan.dataset.total_bytes} bytes",
                "raise it, or shrink the data set with --dataset-size",
            )


def check(
    plan: Plan,
    cluster: ClusterSettings,
    *,
    namespace: str | None,
    existing: ExistingClaim | None,
    owner_uid: str | None,
    attempt: int,
    ca_bundle: str | None,
    nodes: tuple[str, ...],
) -> Blueprint:
    """Return the blueprint of a run.

    Raises:
        UsageError: The plan cannot run in a cluster; names the field and the remedy.
    """
    _check_place(plan, ca_bundle)
    _check_claim(plan, existing)
    _check_size(plan)
    if cluster.image is None:
        raise UsageError(
            "plan.cluster.image",
            "is not given, and pods need an image",
            "build one with the Dockerfile and set plan.cluster.image=REGISTRY/NAME@sha256:...",
        )
    return Blueprint(
        plan=plan,
        cluster=cluster,
        image=cluster.image,
        names=n.Names(plan.run_id),
        namespace=namespace if namespace is not None else cluster.namespace,
        existing=existing,
        owner_uid=owner_uid,
        attempt=attempt,
        ca_bundle=ca_bundle,
        nodes=nodes,
    )
