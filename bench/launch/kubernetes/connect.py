"""The way to the API server: configuration, time limits, retries, and its errors in our words.

Everything that talks to a cluster starts with `connect`, and turns what the client raises
into ours with `api_error`, so that the server's own message reaches the user.
"""

from __future__ import annotations

import json
import logging
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from bench.errors import BenchError, InfrastructureError, UsageError

__all__ = [
    "API_FAULTS",
    "ApiFault",
    "Connection",
    "JsonObject",
    "api_error",
    "connect",
    "exchange_json",
    "request_json",
    "server_message",
]

JsonObject = dict[str, Any]

ApiFault = ApiException | HTTPError | ConfigException

API_FAULTS = (ApiException, HTTPError, ConfigException)
"""What a call of the client raises for reasons outside this program; for `except`."""

CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 30.0
"""Of each call that names no limit of its own. Lists of a thousand pods take a second or two."""

NUM_RETRIES = 6
BACKOFF_SECONDS = 0.5
BACKOFF_MAX_SECONDS = 10.0
"""0, 1, 2, 4, 8 and 10 seconds: an API server that restarts is back within these."""

PASSING = frozenset({429, 502, 503, 504})
"""Answers that mean: not now."""

ACCOUNT_DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class _Retry(Retry):
    """Repeats what had no effect: reads, and whatever the server turned away unread."""

    def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:  # noqa: FBT001, FBT002 - the library's signature
        # Priority and fairness turns a request away before anything is done with it.
        if status_code == HTTPStatus.TOO_MANY_REQUESTS:
            return bool(self.total)
        return super().is_retry(method, status_code, has_retry_after)


class _ApiClient(client.ApiClient):
    """The official client, with a time limit on every call that has none."""

    def call_api(self, *arguments: Any, **named: Any) -> Any:
        if named.get("_request_timeout") is None:
            named["_request_timeout"] = (CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS)
        return super().call_api(*arguments, **named)


@dataclass(frozen=True, slots=True)
class Connection:
    """A cluster that has answered.

    Attributes:
        api_client: For `client.CoreV1Api(api_client)` and its like. Each call has a time
            limit, and is repeated where that is safe.
        namespace: Of the context, or of the pod that this runs in; "default" where neither
            names one.
        in_cluster: This process is a pod of the cluster.
        host: Address of the API server.
        user: As the server knows it; "unknown" where it does not say.
    """

    api_client: client.ApiClient
    namespace: str
    in_cluster: bool
    host: str
    user: str = "unknown"


def _retries(total: int) -> Retry:
    return _Retry(
        total=total,
        status_forcelist=PASSING,
        backoff_factor=BACKOFF_SECONDS,
        backoff_max=BACKOFF_MAX_SECONDS,
        # A write that broke off may have been done: the caller alone can tell.
        allowed_methods=frozenset({"GET", "HEAD", "OPTIONS"}),
        raise_on_status=False,
        raise_on_redirect=False,
    )


def _files(kubeconfig: str | None) -> tuple[str, list[str]]:
    """Return where a kubeconfig is looked for, and the files of it that exist."""
    given = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    paths = [os.path.expanduser(path) for path in given.split(os.pathsep) if path]
    return given, [path for path in paths if os.path.exists(path)]


def _load(
    configuration: client.Configuration, *, context: str | None, kubeconfig: str | None
) -> tuple[str, bool]:
    """Fill in the configuration; return the namespace and whether this is a pod.

    Raises:
        UsageError: There is no configuration, or it is wrong.
    """
    given, files = _files(kubeconfig)
    if files:
        return _load_files(configuration, files, context=context), False
    named = kubeconfig is not None or context is not None or "KUBECONFIG" in os.environ
    if named or "KUBERNETES_SERVICE_HOST" not in os.environ:
        raise UsageError(
            f"kubeconfig {given}",
            "does not exist, and this is no pod of a cluster" if not named else "does not exist",
            "give --kubeconfig or set KUBECONFIG, or use --launcher local",
        )
    try:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        namespace = (ACCOUNT_DIRECTORY / "namespace").read_text(encoding="utf-8").strip()
    except (ConfigException, OSError) as error:
        raise UsageError(
            "in-cluster configuration",
            str(error),
            "give the pod an account with automountServiceAccountToken: true",
        ) from error
    return namespace or "default", True


def _load_files(
    configuration: client.Configuration, files: list[str], *, context: str | None
) -> str:
    place = f"kubeconfig {os.pathsep.join(files)}"
    try:
        joined = os.pathsep.join(files)
        contexts, active = config.list_kube_config_contexts(joined)  # type: ignore[no-untyped-call]
        names = sorted(one["name"] for one in contexts)
        if context is not None and context not in names:
            raise UsageError(
                f"--context {context}", f"is not in {joined}", f"choose one of {', '.join(names)}"
            )
        config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=joined,
            context=context,
            client_configuration=configuration,
            persist_config=False,  # the file is the user's
        )
    except (ConfigException, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        words = " ".join(str(error).split())
        raise UsageError(place, words, "check it with `kubectl config view`") from error
    except OSError as error:
        missing = error.filename or place
        raise UsageError(
            place,
            f"{missing}: {error.strerror}",
            "install the credential plugin that it names, or make the file readable",
        ) from error
    chosen = active if context is None else next(c for c in contexts if c["name"] == context)
    return str(chosen["context"].get("namespace") or "default")


def connect(*, context: str | None, kubeconfig: str | None) -> Connection:
    """Connect to a cluster and make sure that it answers and knows the user.

    Args:
        context: Of the kubeconfig; None for its current one.
        kubeconfig: Path; None for $KUBECONFIG, then ~/.kube/config, then the account of the
            pod that this process runs in.

    Raises:
        UsageError: There is no configuration, it is wrong, or the credentials are refused.
        InfrastructureError: The API server does not answer.
    """
    # Retries are ours to report, not the library's.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    configuration = client.Configuration()
    namespace, in_cluster = _load(configuration, context=context, kubeconfig=kubeconfig)
    # At the start nothing is lost yet: say soon that nobody answers.
    configuration.retries = _retries(1)
    host = str(configuration.host)
    with _ApiClient(configuration) as probe:
        user = _whoami(probe, host)
    configuration.retries = _retries(NUM_RETRIES)
    return Connection(_ApiClient(configuration), namespace, in_cluster, host, user)


def _has_credentials(configuration: client.Configuration) -> bool:
    """Whether there is anything to show to the server.

    A credential plugin that fails is logged by the library and otherwise passed over.
    """
    return bool(configuration.api_key or configuration.cert_file or configuration.username)


def _whoami(api: client.ApiClient, host: str) -> str:
    review = client.V1SelfSubjectReview(
        api_version="authentication.k8s.io/v1", kind="SelfSubjectReview"
    )
    try:
        answer = client.AuthenticationV1Api(api).create_self_subject_review(review)
    except ApiException as error:
        anonymous = not _has_credentials(api.configuration)
        if anonymous and error.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise UsageError(
                f"API server {host}",
                f"was given no credentials: {server_message(error)}",
                "log in, or install the credential plugin that the kubeconfig names",
            ) from error
        if error.status in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
            return "unknown"  # older than 1.28, or a cluster that does not tell
        raise api_error(error, place=f"API server {host}") from error
    except (HTTPError, ConfigException) as error:
        raise api_error(error, place=f"API server {host}") from error
    info = answer.status.user_info if answer.status is not None else None
    return str(info.username) if info is not None and info.username else "unknown"


def request_json(
    api: client.ApiClient,
    method: str,
    path: str,
    *,
    query: Mapping[str, str | int] | None = None,
    body: JsonObject | None = None,
) -> JsonObject:
    """Send a request and return the object of the answer as it is.

    For what the typed calls cannot do well: objects of kinds that the client has no class
    for, lists whose thousands of entries would all become classes, objects of any kind.

    Args:
        api: Of a connection.
        method: GET, POST, PUT, DELETE.
        path: From the root of the server.
        query: Parameters.
        body: Object to send.

    Raises:
        ApiException: The server refuses; other faults are those of API_FAULTS.
    """
    return exchange_json(api, method, path, query=query, body=body)[0]


def exchange_json(
    api: client.ApiClient,
    method: str,
    path: str,
    *,
    query: Mapping[str, str | int] | None = None,
    body: JsonObject | None = None,
) -> tuple[JsonObject, Mapping[str, str]]:
    """Do as `request_json` does, and return the headers of the answer as well."""
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    request = api.param_serialize(
        method,
        path,
        query_params=list((query or {}).items()),
        header_params=headers,
        body=body,
        auth_settings=["BearerToken"],
    )
    response = api.call_api(*request)
    data: bytes = response.read() or b""  # type: ignore[no-untyped-call]
    text = data.decode("utf-8", "replace")
    if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
        raise ApiException(http_resp=response, body=text)
    return json.loads(text), response.getheaders()  # type: ignore[no-untyped-call]


def server_message(error: ApiException) -> str:
    """Return what the server said, on one line: the message of its Status, else the reason."""
    try:
        said = json.loads(error.body or "{}").get("message")
    except (ValueError, AttributeError):
        said = error.body
    return " ".join(str(said or error.reason or f"HTTP {error.status}").split())


def _forbidden(said: str, place: str) -> BenchError:
    if "being terminated" in said:
        return InfrastructureError(place, said, "somebody deletes the namespace; use another")
    remedy = "apply what `bench render rbac` prints, or ask for it"
    if "exceeded quota" in said:
        remedy = "ask for less, or for a larger ResourceQuota"
    elif "violates PodSecurity" in said:
        remedy = "the namespace's Pod Security label forbids the pod"
    return UsageError(place, said, remedy)


def _of_status(error: ApiException, place: str) -> BenchError:
    said = server_message(error)
    match error.status:
        case 401:
            return UsageError(
                place,
                f"refuses the credentials: {said}",
                "log in again; they may have expired",
            )
        case 403:
            return _forbidden(said, place)
        case 404:
            return UsageError(place, said, "create it, or correct the name")
        case 409:
            return UsageError(place, said, "wait for the other one, or remove it")
        case 400 | 422:
            return UsageError(place, said, "correct the setting that the server names")
    return InfrastructureError(place, said, "try again; see the logs of the API server")


def api_error(error: ApiFault, *, place: str) -> BenchError:
    """Return our error for one of the client, with the server's own message; not raised.

    Args:
        error: One of API_FAULTS.
        place: What was being done to which object: "Job bench/x: create".
    """
    if isinstance(error, ConfigException):
        return UsageError(place, " ".join(str(error).split()), "log in again")
    if isinstance(error, ApiException) and error.status:
        return _of_status(error, place)
    reason = getattr(error, "reason", None)
    cause = reason if isinstance(reason, BaseException) else error
    words = " ".join(str(reason if reason is not None else error).split())
    if isinstance(cause, (urllib3.exceptions.SSLError, ssl.SSLError)) or "SSLError" in words:
        return UsageError(
            place,
            f"TLS failed: {words}",
            "check certificate-authority and the client certificate of the kubeconfig",
        )
    # A refused connection is, by its class, a kind of time-out.
    refused = isinstance(cause, urllib3.exceptions.NewConnectionError)
    if isinstance(cause, urllib3.exceptions.TimeoutError) and not refused:
        return InfrastructureError(
            place, f"did not answer in time: {words}", "check the address, VPN and firewall"
        )
    return InfrastructureError(
        place, f"cannot be reached: {words}", "check the address, VPN and that the server is up"
    )
