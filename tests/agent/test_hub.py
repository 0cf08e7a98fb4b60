"""Ranks meet at barriers and steps; the last to arrive is the root, who is missing is known."""

from __future__ import annotations

import select
import socket
import time

import pytest

from bench.agent.hub import Hub, HubClient
from bench.errors import InfrastructureError
from bench.loader.phase import RUN_AHEAD_STEPS


@pytest.fixture
def meeting():
    opened = []

    def make(num_ranks):
        pairs = [socket.socketpair() for _ in range(num_ranks)]
        hub = Hub([ours for ours, _ in pairs])
        hub.start()
        clients = [HubClient(theirs, rank=rank) for rank, (_, theirs) in enumerate(pairs)]
        opened.extend([(hub, clients)])
        return hub, clients

    yield make
    for hub, clients in opened:
        for client in clients:
            client.close()
        hub.join(timeout=10)
        assert not hub.is_alive()


def releases(client):
    assert select.select([client], [], [], 10)[0]
    return client.releases()


def test_the_start_is_common_and_after_the_last_arrival(meeting):
    import threading

    _, clients = meeting(3)
    starts = {}

    def arrive(rank):
        starts[rank] = clients[rank].barrier(1, timeout_seconds=10)

    early = [threading.Thread(target=arrive, args=(rank,)) for rank in (0, 1)]
    for thread in early:
        thread.start()
    last_arrival = time.perf_counter_ns()
    arrive(2)
    for thread in early:
        thread.join()
    assert len(set(starts.values())) == 1
    assert starts[0] >= last_arrival


def test_who_is_missing_is_known(meeting):
    hub, clients = meeting(3)
    with pytest.raises(InfrastructureError, match=r"did not arrive within 0\.05 s"):
        clients[1].barrier(7, timeout_seconds=0.05)
    assert hub.missing(7) == [0, 2]


def test_a_step_is_released_with_the_time_of_the_last_rank(meeting):
    _, clients = meeting(3)
    for rank, elapsed in ((2, 500), (0, 900), (1, 900)):
        clients[rank].ready(4, elapsed, want_stop=False)
    for client in clients:
        (release,) = releases(client)
        assert (release.step, release.elapsed_ns) == (4, 900)
        assert release.root_rank == 0, "of equals the lowest rank, whatever the order"
        assert release.last_step == -1


def test_one_rank_out_of_time_stops_all_at_the_same_step(meeting):
    _, clients = meeting(2)
    clients[0].ready(10, 1, want_stop=True)
    clients[1].ready(10, 2, want_stop=False)
    assert [releases(c)[0].last_step for c in clients] == [10 + RUN_AHEAD_STEPS] * 2


def test_many_steps_in_flight_keep_their_order(meeting):
    _, clients = meeting(2)
    for step in range(200):
        clients[0].ready(step, step, want_stop=False)
    for step in range(200):
        clients[1].ready(step, 2 * step, want_stop=False)
    seen = []
    while len(seen) < 200:
        seen += releases(clients[0])
    assert [r.step for r in seen] == list(range(200))
    assert [r.elapsed_ns for r in seen] == [2 * step for step in range(200)]
