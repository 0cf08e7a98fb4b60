"""A namespace for runs, to be handed out: quota, limits, Pod Security, network policies.

A template of what a platform team applies once. Network policies do not govern the traffic
of CSI drivers and file system clients: that is the node's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubernetes import client

from bench.errors import UsageError
from bench.launch.kubernetes import names as n
from bench.launch.kubernetes.shape import parsed
from bench.launch.kubernetes.template import metadata

__all__ = ["Allowance", "namespace_objects"]

SECURITY = "pod-security.kubernetes.io"
NETWORKING = "networking.k8s.io/v1"

DNS_PORT = 53
NODE_LOCAL_DNS = "169.254.20.10/32"
"""Where NodeLocal DNSCache listens, by its manifest's default."""

API_SERVER_PORTS = (443, 6443)
"""Of the Service `kubernetes`, and of most API servers behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What runs in the namespace may use together.

    Attributes:
        cpu: Whole CPUs.
        memory: A quantity.
        gpus: Number of them.
        gpu_resource_name: Extended resource that is counted.
        storage: A quantity, over all claims.
        class_storage: The same for single storage classes, by name.
        jobs: Jobs at a time, finished ones included until they are removed.
        claims: Claims at a time.
        object_cidrs: Addresses of object endpoints; empty for none.
        object_ports: Their TCP ports.
        api_server_cidrs: Addresses of the API server, for a launcher in the cluster; empty
            for any address at its usual ports.
    """

    cpu: int = 64
    memory: str = "256Gi"
    gpus: int = 8
    gpu_resource_name: str = "nvidia.com/gpu"
    storage: str = "2Ti"
    class_storage: Mapping[str, str] = field(default_factory=dict)
    jobs: int = 100
    claims: int = 50
    object_cidrs: Sequence[str] = ()
    object_ports: Sequence[int] = (443,)
    api_server_cidrs: Sequence[str] = ()


def _namespace(name: str) -> client.V1Namespace:
    levels = {f"{SECURITY}/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    versions = {f"{SECURITY}/{mode}-version": "latest" for mode in ("enforce", "audit", "warn")}
    return client.V1Namespace(
        api_version="v1",
        kind="Namespace",
        metadata=metadata(name, namespace=None, component="namespace", labels=levels | versions),
    )


def _quota(namespace: str, allowance: Allowance) -> client.V1ResourceQuota:
    hard = {
        "requests.cpu": str(allowance.cpu),
        "limits.cpu": str(allowance.cpu),
        "requests.memory": allowance.memory,
        "limits.memory": allowance.memory,
        f"requests.{allowance.gpu_resource_name}": str(allowance.gpus),
        "requests.storage": allowance.storage,
        "persistentvolumeclaims": str(allowance.claims),
        "count/jobs.batch": str(allowance.jobs),
    }
    for storage_class, amount in allowance.class_storage.items():
        hard[f"{storage_class}.storageclass.storage.k8s.io/requests.storage"] = amount
    return client.V1ResourceQuota(
        api_version="v1",
        kind="ResourceQuota",
        metadata=metadata("bench", namespace=namespace, component="namespace"),
        spec=client.V1ResourceQuotaSpec(hard=hard),
    )


def _limit_range(namespace: str, allowance: Allowance) -> client.V1LimitRange:
    """Return limits for pods that state none; those of a run state all, and stay as they are."""
    small = {"cpu": "1", "memory": "1Gi"}
    return client.V1LimitRange(
        api_version="v1",
        kind="LimitRange",
        metadata=metadata("bench", namespace=namespace, component="namespace"),
        spec=client.V1LimitRangeSpec(
            limits=[
                client.V1LimitRangeItem(
                    type="Container", default=dict(small), default_request=dict(small)
                ),
                client.V1LimitRangeItem(
                    type="PersistentVolumeClaim", max={"storage": allowance.storage}
                ),
            ]
        ),
    )


def _ports(*ports: int, protocols: Sequence[str] = ("TCP",)) -> list[client.V1NetworkPolicyPort]:
    return [
        client.V1NetworkPolicyPort(port=port, protocol=protocol)
        for port in ports
        for protocol in protocols
    ]


def _components(*components: str) -> client.V1LabelSelector:
    requirement = client.V1LabelSelectorRequirement(
        key=n.COMPONENT, operator="In", values=list(components)
    )
    return client.V1LabelSelector(match_labels=dict(n.MANAGED), match_expressions=[requirement])


def _blocks(place: str, cidrs: Sequence[str]) -> list[client.V1NetworkPolicyPeer]:
    peers = []
    for cidr in cidrs:
        try:
            block = str(ipaddress.ip_network(cidr))
        except ValueError as error:
            raise UsageError(
                place, f"{cidr!r} is no range of addresses: {error}", "write 10.1.0.0/16"
            ) from error
        peers.append(client.V1NetworkPolicyPeer(ip_block=client.V1IPBlock(cidr=block)))
    return peers


def _policy(name: str, namespace: str, spec: client.V1NetworkPolicySpec) -> client.V1NetworkPolicy:
    return client.V1NetworkPolicy(
        api_version=NETWORKING,
        kind="NetworkPolicy",
        metadata=metadata(name, namespace=namespace, component="namespace"),
        spec=spec,
    )


def _egress(
    selector: client.V1LabelSelector,
    peers: list[client.V1NetworkPolicyPeer] | None,
    ports: list[client.V1NetworkPolicyPort],
) -> client.V1NetworkPolicySpec:
    rule = client.V1NetworkPolicyEgressRule(to=peers, ports=ports)
    return client.V1NetworkPolicySpec(pod_selector=selector, policy_types=["Egress"], egress=[rule])


def _rendezvous() -> client.V1NetworkPolicySpec:
    """Let measuring pods meet at the first of them; runs are told apart by their plan's hash."""
    ports = _ports(n.COORDINATOR_PORT)
    # A selector without a namespace: pods of this one.
    peers = [client.V1NetworkPolicyPeer(pod_selector=_components("measure"))]
    return client.V1NetworkPolicySpec(
        pod_selector=_components("measure"),
        policy_types=["Ingress", "Egress"],
        ingress=[client.V1NetworkPolicyIngressRule.model_validate({"from": peers, "ports": ports})],
        egress=[client.V1NetworkPolicyEgressRule(to=peers, ports=ports)],
    )


def _dns() -> client.V1NetworkPolicySpec:
    system = client.V1LabelSelector(match_labels={"kubernetes.io/metadata.name": "kube-system"})
    peers = [
        client.V1NetworkPolicyPeer(namespace_selector=system),
        *_blocks("DNS", [NODE_LOCAL_DNS]),
    ]
    return _egress(
        client.V1LabelSelector(match_labels=dict(n.MANAGED)),
        peers,
        _ports(DNS_PORT, protocols=("TCP", "UDP")),
    )


def _policies(namespace: str, allowance: Allowance) -> list[client.V1NetworkPolicy]:
    closed = client.V1NetworkPolicySpec(
        pod_selector=client.V1LabelSelector(), policy_types=["Ingress", "Egress"]
    )
    servers = _blocks("--api-server-cidr", allowance.api_server_cidrs)
    specs = {
        "bench-default-deny": closed,
        "bench-rendezvous": _rendezvous(),
        "bench-dns": _dns(),
        "bench-launcher": _egress(
            _components("launcher"), servers or None, _ports(*API_SERVER_PORTS)
        ),
    }
    if allowance.object_cidrs:
        specs["bench-objects"] = _egress(
            _components("prepare", "measure", "launcher"),
            _blocks("--object-cidr", allowance.object_cidrs),
            _ports(*allowance.object_ports),
        )
    return [_policy(name, namespace, spec) for name, spec in specs.items()]


def namespace_objects(name: str, *, allowance: Allowance) -> list[Any]:
    """Return a namespace and what stands in it before any run.

    Args:
        name: Of the namespace.
        allowance: What its runs may use together, and whom they may talk to.

    Raises:
        UsageError: A quantity or a range of addresses is none.
    """
    for place, text in (("--memory", allowance.memory), ("--storage", allowance.storage)):
        parsed(place, text)
    for text in allowance.class_storage.values():
        parsed("--class-storage", text)
    return [
        _namespace(name),
        _quota(name, allowance),
        _limit_range(name, allowance),
        *_policies(name, allowance),
    ]
