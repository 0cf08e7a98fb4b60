"""Pods of a repeat come together over TCP; who is missing, foreign or lost is named."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from bench.agent.hub import Hub, HubClient
from bench.agent.pod.board import Board
from bench.agent.pod.coordinator import Coordinator
from bench.agent.pod.greeting import Identity
from bench.agent.pod.link import PodLink, join_rank
from bench.errors import InfrastructureError, PeerLost

OURS = Identity(plan="d" * 64, tool="1.0")
SECONDS = 10.0


@pytest.fixture
def first():
    """The first of three pods of two ranks, its address, and what it heard."""
    heard = []
    made = Coordinator(
        OURS,
        num_pods=3,
        num_ranks=6,
        ranks_per_pod=2,
        on_event=lambda rank, event: heard.append((rank, event)),
    )
    port = made.listen("127.0.0.1", 0)
    yield made, ("127.0.0.1", port), heard
    made.close()


def join(address, index, identity=OURS):
    return PodLink.join(
        address, identity, index=index, node=f"node-{index}", timeout_seconds=SECONDS
    )


def in_threads(*calls):
    """Run calls side by side; return what each gave or raised."""
    found = [None] * len(calls)

    def run(index, call):
        try:
            found[index] = call()
        except Exception as error:  # noqa: BLE001 - handed to the test
            found[index] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    return found


def test_pods_start_together_and_their_ranks_meet_at_the_hub(first):
    coordinator, address, heard = first
    links = [join(address, index) for index in (1, 2)]
    coordinator.wait_for_pods(timeout_seconds=SECONDS)
    assert all(abs(link.offset_seconds) <= link.error_seconds + 0.1 for link in links)
    started = in_threads(
        lambda: coordinator.wait_until_prepared("m", timeout_seconds=SECONDS),
        *(lambda link=link: link.wait_for_start("m", timeout_seconds=SECONDS) for link in links),
    )
    assert started == [None, None, None]
    socks = {
        rank: join_rank(address, OURS, rank=rank, node="n", timeout_seconds=SECONDS)
        for rank in (2, 3, 4, 5)
    }
    others = coordinator.wait_for_ranks(timeout_seconds=SECONDS)
    assert sorted(others) == [2, 3, 4, 5]
    pairs = [socket.socketpair() for _ in range(2)]
    hub = Hub([ours for ours, _ in pairs] + [others[rank] for rank in sorted(others)])
    hub.start()
    clients = [HubClient(theirs, rank=rank) for rank, (_, theirs) in enumerate(pairs)]
    clients += [HubClient(socks[r], rank=r, same_clock=False) for r in sorted(socks)]
    starts = in_threads(
        *(lambda c=client: c.barrier(1, timeout_seconds=SECONDS) for client in clients)
    )
    assert starts[0] == starts[1] == hub.started_ns
    assert all(0 <= start - hub.started_ns < SECONDS * 1e9 for start in starts[2:])
    links[0].tell(2, {"event": "progress"})
    for client in clients:
        client.leave()
        client.close()
    hub.join(SECONDS)
    for link in links:
        link.close()
    assert not hub.is_alive()
    with coordinator._changed:
        assert coordinator._changed.wait_for(lambda: heard, SECONDS)
    assert heard == [(2, {"event": "progress"})]


def test_pods_that_do_not_come_are_named_with_their_ranks(first):
    coordinator, address, _ = first
    link = join(address, 1)
    with pytest.raises(InfrastructureError) as caught:
        coordinator.wait_for_pods(timeout_seconds=0.2)
    assert "pod 2 did not come within 0.2 s (ranks 4, 5)" in str(caught.value)
    link.close()


@pytest.mark.parametrize(
    ("identity", "index", "words"),
    [
        (Identity(plan="e" * 64, tool="1.0"), 1, "has another plan (eeeeeeeeeeee, not dddd"),
        (Identity(plan="d" * 64, tool="0.9"), 1, "runs bench 0.9, not 1.0"),
        (OURS, 3, "is no pod of this repeat"),
        (OURS, 0, "is no pod of this repeat"),
    ],
)
def test_strangers_are_turned_away_and_named_on_both_sides(first, identity, index, words):
    coordinator, address, _ = first
    with pytest.raises(InfrastructureError, match="turned away") as caught:
        join(address, index, identity)
    assert words in str(caught.value)
    with pytest.raises(InfrastructureError) as caught:
        coordinator.wait_for_pods(timeout_seconds=0.1)
    assert words in str(caught.value)


def test_a_second_pod_of_one_index_is_turned_away(first):
    _, address, _ = first
    link = join(address, 1)
    with pytest.raises(InfrastructureError, match="pod 1 is here already"):
        join(address, 1)
    link.close()


@pytest.mark.parametrize("noise", [b"", b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b"x" * 100_000])
def test_noise_on_the_port_disturbs_nobody(first, noise):
    coordinator, address, _ = first
    with socket.create_connection(address, timeout=SECONDS) as stranger:
        stranger.sendall(noise)
        stranger.shutdown(socket.SHUT_WR)
        links = [join(address, index) for index in (1, 2)]
        coordinator.wait_for_pods(timeout_seconds=SECONDS)
    for link in links:
        link.close()


def test_other_data_on_a_pod_is_found_before_the_start(first):
    coordinator, address, _ = first
    links = [join(address, index) for index in (1, 2)]
    coordinator.wait_for_pods(timeout_seconds=SECONDS)
    found = in_threads(
        lambda: _then_close(
            coordinator,
            lambda: coordinator.wait_until_prepared("m", timeout_seconds=SECONDS),
        ),
        lambda: links[0].wait_for_start("m", timeout_seconds=SECONDS),
        lambda: links[1].wait_for_start("other", timeout_seconds=SECONDS),
    )
    assert "pod 2 on node-2 has another data set" in str(found[0])
    assert isinstance(found[1], PeerLost)
    assert isinstance(found[2], PeerLost)
    for link in links:
        link.close()


def _then_close(coordinator, call):
    try:
        return call()
    finally:
        coordinator.close()


def test_a_pod_that_dies_before_the_start_is_named_at_once(first):
    coordinator, address, _ = first
    links = [join(address, index) for index in (1, 2)]
    coordinator.wait_for_pods(timeout_seconds=SECONDS)
    links[1].close()
    found = in_threads(
        lambda: _then_close(
            coordinator,
            lambda: coordinator.wait_until_prepared("m", timeout_seconds=SECONDS),
        ),
        lambda: links[0].wait_for_start("m", timeout_seconds=SECONDS),
    )
    assert isinstance(found[0], PeerLost)
    assert "pod 2 on node-2 ended early" in str(found[0])
    links[0].close()


def test_nobody_listening_is_said_with_the_address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    with pytest.raises(InfrastructureError, match=r"was not reached at 127\.0\.0\.1"):
        PodLink.join(address, OURS, index=1, node="n", timeout_seconds=0.3)


def test_a_rank_that_ends_before_it_leaves_ends_the_others():
    pairs = [socket.socketpair() for _ in range(2)]
    hub = Hub([ours for ours, _ in pairs])
    hub.start()
    clients = [HubClient(theirs, rank=rank) for rank, (_, theirs) in enumerate(pairs)]
    clients[1].close()
    with pytest.raises(PeerLost, match="rank 1 ended early"):
        clients[0].barrier(1, timeout_seconds=SECONDS)
    clients[0].close()
    hub.join(SECONDS)
    assert not hub.is_alive()


def test_a_rank_that_has_left_is_not_missed():
    pairs = [socket.socketpair() for _ in range(2)]
    hub = Hub([ours for ours, _ in pairs])
    hub.start()
    clients = [HubClient(theirs, rank=rank) for rank, (_, theirs) in enumerate(pairs)]
    clients[1].leave()
    clients[1].close()
    with pytest.raises(InfrastructureError, match="did not arrive") as caught:
        clients[0].barrier(1, timeout_seconds=0.3)
    assert not isinstance(caught.value, PeerLost)
    clients[0].close()
    hub.join(SECONDS)


def test_the_board_tells_sums_once_a_second_and_the_first_ranks_phases():
    now, said = [0.0], []
    board = Board(said.append, lambda: now[0])
    progress = {
        "event": "progress", "steps": 1, "elapsed_seconds": 1.0, "ring_occupancy": 0.5,
        "bytes_read": 10, "bytes_consumed": 5, "stall_seconds": 0.25, "compute_seconds": 0.5,
    }  # fmt: skip
    board(1, {"event": "phase", "phase": "measure"})
    board(0, {"event": "phase", "phase": "measure"})
    board(0, progress)
    board(1, progress | {"elapsed_seconds": 2.0, "ring_occupancy": 1.0})
    assert [event["event"] for event in said] == ["phase", "progress"]
    now[0] = 1.5
    board(0, progress)
    assert said[-1]["ranks"] == 2
    assert (said[-1]["bytes_read"], said[-1]["elapsed_seconds"]) == (20, 2.0)
    assert said[-1]["ring_occupancy"] == 0.75
    assert len(json.dumps(said[-1])) < 1000
