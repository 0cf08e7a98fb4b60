"""etcd, API server, controller manager, scheduler and DNS of the cluster."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.api import Api, write_kubeconfig
from tests.cluster.processes import Processes, run
from tests.cluster.settings import (
    API_SERVICE_ADDRESS,
    BRIDGE,
    CLUSTER_DOMAIN,
    CONTROL_PLANE_ADDRESS,
    NETWORK_PREFIX,
    NODES,
    SERVICE_RANGE,
    Layout,
)

SERVER = f"https://{CONTROL_PLANE_ADDRESS}"

USERS = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    **{node.name: (f"system:node:{node.name}", "system:nodes") for node in NODES},
}
"""Who has a token: file name -> (user, group)."""

COREFILE = f"""\
{CLUSTER_DOMAIN}:53 {{
    bind {CONTROL_PLANE_ADDRESS}
    errors
    kubernetes {CLUSTER_DOMAIN} {{
        kubeconfig KUBECONFIG
        ttl 1
    }}
}}
.:53 {{
    bind {CONTROL_PLANE_ADDRESS}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""
"""Only names of the cluster exist: the network that it lives in leads nowhere else."""


@dataclass(frozen=True)
class Network:
    """The bridge that nodes, pods and the API server's service address share."""

    processes: Processes

    def up(self) -> None:
        """Make the bridge with the nodes' addresses, where it is not there."""
        inside = self.processes
        if f"{BRIDGE}:" in inside.run(["ip", "-oneline", "link"]):
            return
        inside.run(["ip", "link", "set", "lo", "up"])
        inside.run(["ip", "link", "add", BRIDGE, "type", "bridge"])
        addresses = [f"{node.address}/{NETWORK_PREFIX}" for node in NODES]
        for address in [*addresses, f"{API_SERVICE_ADDRESS}/32"]:
            inside.run(["ip", "address", "add", address, "dev", BRIDGE])
        inside.run(["ip", "link", "set", BRIDGE, "up"])


class ControlPlane:
    """Starts the parts and waits for each to be ready."""

    def __init__(self, layout: Layout, processes: Processes) -> None:
        self.layout = layout
        self.processes = processes

    @property
    def api(self) -> Api:
        """Requests as the administrator."""
        return Api.of_kubeconfig(self.layout.kubeconfig)

    @property
    def certificate(self) -> Path:
        """What the API server shows; it makes it itself."""
        return self.layout.pki / "apiserver.crt"

    def kubeconfig(self, user: str) -> Path:
        """Return the kubeconfig file of one of USERS."""
        return self.layout.kubeconfig if user == "admin" else self.layout.pki / f"{user}.kubeconfig"

    def write_credentials(self) -> None:
        """Make tokens, kubeconfigs and the service account key, once for a cluster."""
        pki = self.layout.pki
        if (pki / "tokens.csv").exists():
            return
        pki.mkdir(mode=0o700, exist_ok=True)
        run(["openssl", "genrsa", "-out", pki / "service-account.key", "2048"])
        lines = []
        for file_name, (user, group) in USERS.items():
            token = secrets.token_hex(16)
            lines.append(f'{token},{user},{user},"{group}"' if group else f"{token},{user},{user}")
            write_kubeconfig(
                self.kubeconfig(file_name), server=SERVER, token=token, authority=self.certificate
            )
        (pki / "audit.yaml").write_text(
            json.dumps(
                {
                    "apiVersion": "audit.k8s.io/v1",
                    "kind": "Policy",
                    "omitStages": ["RequestReceived"],
                    "rules": [{"level": "Metadata"}],
                }
            ),
            encoding="ascii",
        )
        (pki / "tokens.csv").write_text("\n".join(lines) + "\n", encoding="ascii")

    def up(self) -> None:
        """Start whatever is not running, in order."""
        self.write_credentials()
        self.start_etcd()
        self.start_api_server()
        self.start_controllers()
        self.start_dns()

    def start_etcd(self) -> None:
        """Start the store. It never syncs: nobody needs this cluster after a power cut."""
        if "etcd" in self.processes.running():
            return
        client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
        self.processes.start(
            "etcd",
            ["etcd", "--name=etcd", f"--data-dir={self.layout.state / 'etcd'}",
             f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
             f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
             f"--initial-cluster=etcd={peer}", "--unsafe-no-fsync", "--log-level=warn"],
        )  # fmt: skip

    def start_api_server(self) -> None:
        """Start the API server and wait until it is ready."""
        if "kube-apiserver" in self.processes.running():
            return
        pki = self.layout.pki
        key = pki / "service-account.key"
        self.processes.start(
            "kube-apiserver",
            [self.layout.program("kube-apiserver"),
             "--etcd-servers=http://127.0.0.1:2379",
             # Also on the service address, so that pods reach it as on any cluster.
             "--bind-address=0.0.0.0", "--secure-port=443",
             f"--advertise-address={CONTROL_PLANE_ADDRESS}",
             f"--cert-dir={pki}",
             f"--token-auth-file={pki / 'tokens.csv'}",
             "--authorization-mode=Node,RBAC",
             "--enable-admission-plugins=NodeRestriction",
             "--allow-privileged=true",
             f"--service-cluster-ip-range={SERVICE_RANGE}",
             "--endpoint-reconciler-type=none",
             "--kubelet-preferred-address-types=InternalIP",
             "--service-account-issuer=https://kubernetes.default.svc",
             f"--service-account-key-file={key}",
             f"--service-account-signing-key-file={key}",
             f"--audit-policy-file={pki / 'audit.yaml'}",
             f"--audit-log-path={self.layout.logs / 'audit.jsonl'}",
             "--audit-log-maxsize=200", "--audit-log-maxbackup=1"],
        )  # fmt: skip
        ready = lambda: self.certificate.exists() and self.api.is_ready  # noqa: E731
        self.processes.wait_ready("kube-apiserver", ready)

    def start_controllers(self) -> None:
        """Start controller manager and scheduler; they need no waiting for."""
        running = self.processes.running()
        if "kube-controller-manager" not in running:
            key = self.layout.pki / "service-account.key"
            self.processes.start(
                "kube-controller-manager",
                [self.layout.program("kube-controller-manager"),
                 f"--kubeconfig={self.kubeconfig('controller-manager')}",
                 f"--root-ca-file={self.certificate}",
                 f"--service-account-private-key-file={key}",
                 "--use-service-account-credentials", "--leader-elect=false",
                 "--bind-address=127.0.0.1"],
            )  # fmt: skip
        if "kube-scheduler" not in running:
            self.processes.start(
                "kube-scheduler",
                [self.layout.program("kube-scheduler"),
                 f"--kubeconfig={self.kubeconfig('scheduler')}",
                 "--leader-elect=false", "--bind-address=127.0.0.1"],
            )  # fmt: skip

    def start_dns(self) -> None:
        """Start CoreDNS on the bridge's address: headless services resolve in pods."""
        if "coredns" in self.processes.running():
            return
        corefile = self.layout.state / "Corefile"
        corefile.write_text(
            COREFILE.replace("KUBECONFIG", str(self.layout.kubeconfig)), encoding="ascii"
        )
        binary = self.layout.program("coredns")
        self.processes.start("coredns", [binary, f"-conf={corefile}", "-quiet"])
