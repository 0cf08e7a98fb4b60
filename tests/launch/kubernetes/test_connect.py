"""A cluster that cannot be talked to is named with the reason and the remedy."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from stub_api import SOMEBODY, status, stub_api, write_kubeconfig

from bench.errors import BenchError, InfrastructureError, UsageError
from bench.launch.kubernetes import connect as module
from bench.launch.kubernetes.connect import api_error, connect


@pytest.fixture(autouse=True)
def no_cluster_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide whatever cluster this machine knows, and wait briefly."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(module, "BACKOFF_SECONDS", 0.01)


def refused(kubeconfig: str | None, *, context: str | None = None) -> BenchError:
    with pytest.raises(BenchError) as caught:
        connect(context=context, kubeconfig=kubeconfig)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_connection_knows_namespace_host_and_user(tmp_path: Path) -> None:
    with stub_api(lambda *_: SOMEBODY) as (host, _):
        path = write_kubeconfig(tmp_path / "config", host, namespace="team")
        found = connect(context=None, kubeconfig=path)
        assert (found.namespace, found.host, found.user) == ("team", host, "somebody")
        assert not found.in_cluster
        assert connect(context="other", kubeconfig=path).namespace == "elsewhere"


def test_kubeconfig_of_the_environment_and_of_home_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stub_api(lambda *_: SOMEBODY) as (host, _):
        (tmp_path / ".kube").mkdir()
        write_kubeconfig(tmp_path / ".kube/config", host, namespace="home")
        assert connect(context=None, kubeconfig=None).namespace == "home"
        monkeypatch.setenv("KUBECONFIG", write_kubeconfig(tmp_path / "b", host, namespace="env"))
        assert connect(context=None, kubeconfig=None).namespace == "env"


def test_no_kubeconfig_anywhere() -> None:
    error = refused(None)
    assert isinstance(error, UsageError)
    assert error.problem == "does not exist, and this is no pod of a cluster"


def test_a_kubeconfig_that_is_not_there_is_not_replaced_by_the_pods_account(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert refused(str(tmp_path / "none")).problem == "does not exist"


def test_a_pod_without_a_token_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    error = refused(None)
    assert error.place == "in-cluster configuration"
    assert "token file does not exist" in error.problem


@pytest.mark.parametrize(
    "text",
    ["", "a: [", "[]", "{}", "kind: Config\ncontexts: 3\n", '{"current-context": "x"}'],
)
def test_a_kubeconfig_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    error = refused(str(path))
    assert isinstance(error, UsageError)
    assert error.place == f"kubeconfig {path}"


def test_an_unknown_context_names_the_known_ones(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "config", "http://127.0.0.1:1")
    error = refused(path, context="ones")
    assert (error.place, error.remedy) == ("--context ones", "choose one of one, other")


def test_a_credential_plugin_that_is_not_installed(tmp_path: Path) -> None:
    plugin = '{"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-x"}}'
    with stub_api(lambda *_: status(403, 'User "system:anonymous" cannot')) as (host, _):
        path = Path(write_kubeconfig(tmp_path / "config", host))
        path.write_text(path.read_text().replace('{"token": "t"}', plugin))
        error = refused(str(path))
    assert error.problem.startswith("was given no credentials: ")
    assert "credential plugin" in error.remedy


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as bound:  # bound and not listening: the port stays closed
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        error = refused(write_kubeconfig(tmp_path / "config", f"http://127.0.0.1:{port}"))
    assert isinstance(error, InfrastructureError)
    assert error.problem.startswith("cannot be reached: ")


def test_a_server_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        error = refused(write_kubeconfig(tmp_path / "config", f"http://127.0.0.1:{port}"))
    assert isinstance(error, InfrastructureError)
    assert error.problem.startswith("did not answer in time: ")


def test_expired_credentials(tmp_path: Path) -> None:
    with stub_api(lambda *_: status(401, "token has expired")) as (host, _):
        error = refused(write_kubeconfig(tmp_path / "config", host))
    assert isinstance(error, UsageError)
    assert error.problem == "refuses the credentials: token has expired"


def test_a_certificate_of_somebody_else(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stranger")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()
        listener.settimeout(0.05)

        def greet() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                    with connection, context.wrap_socket(connection, server_side=True):
                        pass
                except OSError:
                    continue

        thread = threading.Thread(target=greet)
        thread.start()
        try:
            port = listener.getsockname()[1]
            error = refused(write_kubeconfig(tmp_path / "config", f"https://127.0.0.1:{port}"))
        finally:
            stop.set()
            thread.join()
    assert isinstance(error, UsageError)
    assert error.problem.startswith("TLS failed: ")
    assert "certificate verify failed" in error.problem


def test_a_cluster_that_does_not_tell_who_one_is_can_be_used(tmp_path: Path) -> None:
    with stub_api(lambda *_: status(404, "no such resource")) as (host, _):
        path = write_kubeconfig(tmp_path / "config", host)
        assert connect(context=None, kubeconfig=path).user == "unknown"


@pytest.mark.parametrize(
    ("method", "code", "repeated"),
    [("GET", 503, True), ("GET", 429, True), ("POST", 429, True), ("POST", 503, False)],
)
def test_what_had_no_effect_is_repeated(
    tmp_path: Path, method: str, code: int, *, repeated: bool
) -> None:
    answers = iter([status(code, "not now"), (200, {"metadata": {"name": "x"}})])

    def answer(_: str, path: str) -> tuple[int, dict]:
        return SOMEBODY if "selfsubject" in path else next(answers)

    with stub_api(answer) as (host, requests):
        found = connect(context=None, kubeconfig=write_kubeconfig(tmp_path / "config", host))
        core = client.CoreV1Api(found.api_client)

        def call() -> None:
            if method == "GET":
                core.read_namespace("x")
            else:
                core.create_namespace({"metadata": {"name": "x"}})

        if repeated:
            call()
        else:
            with pytest.raises(ApiException):
                call()
        assert len(requests) == 2 + repeated


@pytest.mark.parametrize(
    ("code", "body", "kind", "words"),
    [
        (403, '{"message": "pods is forbidden: no"}', UsageError, "pods is forbidden: no"),
        (404, '{"message": "jobs \\"x\\" not found"}', UsageError, 'jobs "x" not found'),
        (409, '{"message": "exists"}', UsageError, "exists"),
        (422, '{"message": "spec:\\n  wrong"}', UsageError, "spec: wrong"),
        (500, "no json", InfrastructureError, "no json"),
        (500, "[]", InfrastructureError, "[]"),
        (503, "", InfrastructureError, "Unavailable"),
    ],
)
def test_the_servers_own_words_are_kept(
    code: int, body: str, kind: type[BenchError], words: str
) -> None:
    error = api_error(ApiException(code, "Unavailable", body=body), place="Job a/b: create")
    assert type(error) is kind
    assert (error.place, error.problem) == ("Job a/b: create", words)
    assert error.remedy
