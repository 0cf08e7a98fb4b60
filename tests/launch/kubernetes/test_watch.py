"""Streams of a run's objects go on after whatever an API server does to them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from stub_api import Answer, status, stub_api

from bench.errors import InfrastructureError, UsageError
from bench.launch.kubernetes import objects, watch
from bench.launch.kubernetes.watch import Change, Watcher

PODS = "/api/v1/namespaces/here/pods"


def item(name: str, *, version: int = 1, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata | ({"labels": labels} if labels else {})}


def listed(*items: dict[str, Any], version: int = 1) -> Answer:
    return 200, {"metadata": {"resourceVersion": str(version)}, "items": list(items)}


def told(kind: str, what: dict[str, Any]) -> Answer:
    return 200, {"type": kind, "object": what}


class Script:
    """Answers about pods, one after the other, lists and watches apart; others are empty.

    The last answer of each stands; a watch that has none left is quiet until the end.
    """

    def __init__(self, *, lists: list[Answer], watches: list[Answer]) -> None:
        self.left = {"list": lists, "watch": watches}
        self.asked: list[str] = []
        self.over = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, _: str, path: str) -> Answer:
        verb = "watch" if "watch=true" in path else "list"
        with self._lock:
            if not path.startswith(PODS):
                answer = None if verb == "watch" else listed()
            else:
                self.asked.append(path)
                left = self.left[verb]
                answer = left.pop(0) if len(left) > (verb == "list") else (left or [None])[0]
        if answer is None:
            self.over.wait(10)
            return told("BOOKMARK", item("", version=9))
        return answer


@pytest.fixture
def changes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Change]]:
    """Return changes of pods until one is as wanted."""
    monkeypatch.setattr(watch, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(watch, "LONGEST_PAUSE_SECONDS", 0.05)

    def collect(script: Script, until: Callable[[Change], bool]) -> list[Change]:
        found: list[Change] = []
        with stub_api(script) as (host, _):
            configuration = client.Configuration()
            configuration.host, configuration.retries = host, False
            api = client.ApiClient(configuration)
            with Watcher(api, namespace="here", run_id="run") as watcher:
                deadline = time.monotonic() + 10
                try:
                    while not found or not until(found[-1]):
                        assert time.monotonic() < deadline, found
                        change = watcher.next(timeout_seconds=0.1)
                        if change is not None:
                            found.append(change)
                finally:
                    script.over.set()
        return found

    return collect


def names(changes: list[Change]) -> list[tuple[str, bool]]:
    return [(change.value["metadata"]["name"], change.deleted) for change in changes]


def test_a_watch_begins_where_the_list_ended_and_goes_on_where_it_was_cut(changes):
    script = Script(
        lists=[listed(item("a"), version=5)],
        watches=[told("MODIFIED", item("a", version=6)), told("ADDED", item("b", version=7))],
    )
    found = changes(script, lambda change: change.value["metadata"]["name"] == "b")
    assert names(found) == [("a", False), ("a", False), ("b", False)]
    versions = [path.partition("resourceVersion=")[2].partition("&")[0] for path in script.asked]
    assert versions[:3] == ["", "5", "6"]


@pytest.mark.parametrize(
    "gone",
    [status(410, "too old"), told("ERROR", {"code": 410, "message": "too old"})],
    ids=["of the request", "in the stream"],
)
def test_what_went_while_history_was_lost_is_told(changes, gone):
    script = Script(
        lists=[listed(item("a"), item("b"), version=5), listed(item("b"), version=90)],
        watches=[gone],
    )
    script.left["watch"].append(told("ADDED", item("c", version=91)))
    found = changes(script, lambda change: change.value["metadata"]["name"] == "c")
    assert names(found) == [
        ("a", False), ("b", False), ("b", False), ("a", True), ("c", False),
    ]  # fmt: skip
    assert sum("watch" not in path for path in script.asked) == 2


def test_a_long_list_comes_in_pages(changes):
    page = {"metadata": {"resourceVersion": "5", "continue": "more"}, "items": [item("a")]}
    script = Script(lists=[(200, page), listed(item("b"))], watches=[])
    found = changes(script, lambda change: change.value["metadata"]["name"] == "b")
    assert names(found) == [("a", False), ("b", False)]
    assert "continue=more" in script.asked[1]


def test_an_ill_server_is_asked_again(changes):
    ill = [status(500, "etcd is away"), status(503, "starting"), status(429, "later")]
    script = Script(lists=[*ill, listed(item("a"))], watches=[])
    assert names(changes(script, lambda _: True)) == [("a", False)]


def test_a_refusal_right_after_a_start_passes(changes):
    script = Script(lists=[status(403, "no roles read yet"), listed(item("a"))], watches=[])
    assert names(changes(script, lambda _: True)) == [("a", False)]


def test_a_refusal_that_stays_ends_the_stream_in_the_servers_words(changes, monkeypatch):
    monkeypatch.setattr(watch, "REFUSED_SECONDS", 0.1)
    script = Script(lists=[status(403, "you may not")], watches=[])
    (found,) = changes(script, lambda change: change.error is not None)
    assert isinstance(found.error, UsageError)
    assert "watch of Pods: you may not" in str(found.error)


def test_a_server_that_stays_away_ends_the_stream(changes, monkeypatch):
    monkeypatch.setattr(watch, "GIVE_UP_SECONDS", 0.1)
    script = Script(lists=[status(500, "etcd is away")], watches=[])
    (found,) = changes(script, lambda change: change.error is not None)
    assert isinstance(found.error, InfrastructureError)


# Creating


STATE = client.V1ConfigMap(
    api_version="v1", kind="ConfigMap", metadata=client.V1ObjectMeta(name="state")
)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects try again at once."""
    monkeypatch.setattr(objects.time, "sleep", lambda _: None)


def created(answers: dict[str, list[Answer]]) -> tuple[Any, Counter[str]]:
    def answer(method: str, _: str) -> Answer:
        left = answers[method]
        return left.pop(0) if len(left) > 1 else left[0]

    with stub_api(answer) as (host, requests):
        configuration = client.Configuration()
        configuration.host, configuration.retries = host, False
        found = objects.create(client.ApiClient(configuration), STATE, namespace="here")
    return found, Counter(request.split()[0] for request in requests)


@pytest.mark.usefixtures("quick")
def test_creating_waits_for_a_server_that_restarts():
    ill = [status(503, "starting"), status(500, "etcd is away")]
    found, asked = created({"POST": [*ill, (201, item("state"))]})
    assert found["metadata"]["name"] == "state"
    assert asked["POST"] == 3


@pytest.mark.usefixtures("quick")
def test_creating_what_is_there_returns_it():
    found, _ = created({"POST": [status(409, "exists")], "GET": [(200, item("state"))]})
    assert found["metadata"]["uid"] == "uid-state"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("gone", [True, False])
def test_creating_what_is_being_removed(gone):
    dying = item("state")
    dying["metadata"]["deletionTimestamp"] = "2026-11-01T12:00:00Z"
    answer = status(404, "not found") if gone else (200, dying)
    with pytest.raises(InfrastructureError, match="is being removed by somebody else"):
        created({"POST": [status(409, "exists")], "GET": [answer]})


@pytest.mark.usefixtures("quick")
def test_a_refusal_is_believed_at_once():
    with pytest.raises(UsageError, match="exceeded quota"):
        created({"POST": [status(403, "exceeded quota: tight")]})


@pytest.mark.usefixtures("quick")
def test_a_namespace_that_goes():
    words = "namespace here: unable to create new content because it is being terminated"
    with pytest.raises(InfrastructureError, match="somebody deletes the namespace"):
        created({"POST": [status(403, words)]})


# Finding and removing


def left_over(answer: Callable[[str, str], Answer]) -> list[str]:
    with stub_api(answer) as (host, _):
        configuration = client.Configuration()
        configuration.host, configuration.retries = host, False
        api = client.ApiClient(configuration)
        found = objects.leftovers(api, namespace="here", selector="bench/run-id")
    return [f"{one['kind']} {one['metadata']['name']}" for one in found]


def test_leftovers_are_of_all_kinds():
    found = left_over(lambda *_: listed(item("a")))
    assert found == [f"{kind} a" for kind in objects.LISTED]
    assert "Lease a" in found


def test_who_may_not_see_leases_has_none():
    def answer(_: str, path: str) -> Answer:
        return status(403, "no") if "/leases" in path else listed(item("a"))

    assert "Pod a" in left_over(answer)


def test_who_may_not_see_pods_is_told_so():
    def answer(_: str, path: str) -> Answer:
        return status(403, "no") if "/pods" in path else listed(item("a"))

    with pytest.raises(ApiException):
        left_over(answer)


def test_removing_goes_on_until_all_is_gone():
    left = {"jobs": [item("run-prepare")], "pods": [item("run-pod")]}
    left["pods"][0]["metadata"]["ownerReferences"] = [{"kind": "Job"}]
    deleted: list[str] = []

    def answer(method: str, path: str) -> Answer:
        kind = path.partition("?")[0].split("/here/")[1].split("/")[0]
        if method == "DELETE":
            deleted.append(path)
            left.pop("jobs", None)
            return 200, {}
        if deleted and kind == "pods":  # they go a moment later
            return listed(*left.pop("pods", []))
        return listed(*left.get(kind, []))

    with stub_api(answer) as (host, _):
        configuration = client.Configuration()
        configuration.host, configuration.retries = host, False
        api = client.ApiClient(configuration)
        assert objects.remove_run(api, "run", namespace="here", timeout_seconds=10) == []
        assert objects.remove_run(api, "run", namespace="here", timeout_seconds=0) == []
    assert deleted == ["/apis/batch/v1/namespaces/here/jobs/run-prepare"]
