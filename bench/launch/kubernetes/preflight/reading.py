"""Reads of the API server that turn refusals into `Unknown`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http import HTTPStatus

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from bench.launch.kubernetes.connect import (
    API_FAULTS,
    ApiFault,
    api_error,
    request_json,
    server_message,
)
from bench.launch.kubernetes.preflight.model import Found, JsonObject, Unknown

__all__ = ["find", "find_all", "pages"]

PAGE = 250
"""Objects of one answer: some 4 MB of nodes with their lists of images."""


def _unknown(error: ApiFault, path: str) -> Unknown:
    if isinstance(error, ApiException) and error.status:
        return Unknown(server_message(error))
    return Unknown(str(api_error(error, place=path)))


def find(api: client.ApiClient, path: str) -> Found:
    """Return the object at a path; None where there is none."""
    try:
        return request_json(api, "GET", path)
    except ApiException as error:
        return None if error.status == HTTPStatus.NOT_FOUND else _unknown(error, path)
    except API_FAULTS as error:
        return _unknown(error, path)


def pages(
    api: client.ApiClient, path: str, *, query: dict[str, str] | None = None
) -> Iterator[list[JsonObject]]:
    """Yield a list of objects in parts, so that none of its length is ever held.

    Raises:
        ApiException: The server refuses; other faults are those of API_FAULTS.
    """
    parameters: dict[str, str | int] = {**(query or {}), "limit": PAGE}
    while True:
        answer = request_json(api, "GET", path, query=parameters)
        yield answer.get("items") or []
        token = (answer.get("metadata") or {}).get("continue")
        if not token:
            return
        parameters["continue"] = token


def find_all(
    api: client.ApiClient,
    path: str,
    *,
    query: dict[str, str] | None = None,
    keep: Callable[[JsonObject], JsonObject] = lambda one: one,
) -> tuple[JsonObject, ...] | Unknown:
    """Return the objects of a list.

    Args:
        api: Of a connection.
        path: Of the list.
        query: Selectors.
        keep: Reduces each object to what is needed.
    """
    try:
        return tuple(keep(item) for page in pages(api, path, query=query) for item in page)
    except API_FAULTS as error:
        return _unknown(error, path)
