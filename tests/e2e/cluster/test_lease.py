"""Two runs do not measure the same storage at once, and a dead one gives way."""

from __future__ import annotations

import kubernetes.client
import pytest

from bench.errors import UsageError
from bench.launch.kubernetes.connect import connect
from bench.launch.kubernetes.lease import HeldLease, Holder

NAME = "bench-class-fast-12345678"
FIRST = Holder("01m842dnah10sf12jzz42x5v1q", "anna@one")
SECOND = Holder("01m842dnah10sf12jzz42x5v2r", "bert@two")


@pytest.fixture
def make(cluster, namespace):
    api = connect(context=None, kubeconfig=str(cluster.kubeconfig)).api_client

    def make(holder: Holder, **given) -> HeldLease:
        return HeldLease(api, NAME, namespace, "class/fast", holder, **given)

    return make


@pytest.fixture
def stored(cluster, namespace):
    """Read the Lease; None where there is none."""
    api = kubernetes.client.CoordinationV1Api(cluster.api_client)

    def stored():
        found = {lease.metadata.name: lease for lease in api.list_namespaced_lease(namespace).items}
        return found.get(NAME)

    return stored


def test_a_second_run_is_refused_with_who_holds_it(make, stored):
    with make(FIRST), pytest.raises(UsageError) as caught:
        make(SECOND).__enter__()
    assert f"class/fast is being measured by anna@one (run {FIRST.run_id}) since" in str(
        caught.value
    )
    assert "plan.cluster.exclusive=false" in caught.value.remedy
    assert stored() is None
    with make(SECOND):
        assert stored().spec.holder_identity == SECOND.run_id


def test_it_is_renewed_by_itself(cluster, make, stored):
    with make(FIRST, duration_seconds=1) as held:
        first = stored().spec.renew_time
        cluster.wait_for(lambda: stored().spec.renew_time > first, what="a renewal")
        assert not held.lost.is_set()


def abandon(held: HeldLease) -> None:
    """Stop renewing and give nothing back, as a process does that is killed."""
    held._stop.set()
    held._thread.join()


def test_what_a_killed_launcher_left_behind_is_taken_over_after_its_time(cluster, make, stored):
    killed = make(FIRST, duration_seconds=2)
    killed.__enter__()
    abandon(killed)

    def taken():
        try:
            return make(SECOND).__enter__()
        except UsageError:
            return None

    with pytest.raises(UsageError):
        make(SECOND).__enter__()
    held = cluster.wait_for(taken, what="the Lease expired")
    assert stored().spec.lease_transitions == 1
    held.__exit__(None, None, None)
    assert stored() is None


def test_the_same_run_takes_up_its_own_lease(make, stored):
    killed = make(FIRST)
    killed.__enter__()
    abandon(killed)
    since = stored().spec.acquire_time
    with make(FIRST):
        assert stored().spec.acquire_time == since


def test_clocks_of_launchers_need_not_agree(make):
    with make(FIRST), pytest.raises(UsageError, match="is being measured"):
        make(SECOND, clock=lambda: 4e9).__enter__()


def test_one_who_lost_it_is_told_and_leaves_the_others_alone(cluster, make, stored):
    killed = make(FIRST, duration_seconds=1)
    killed.__enter__()
    api = kubernetes.client.CoordinationV1Api(cluster.api_client)
    lease = stored()
    body = {"spec": {"holderIdentity": SECOND.run_id}}
    api.patch_namespaced_lease(NAME, lease.metadata.namespace, body)
    cluster.wait_for(killed.lost.is_set, what="the loss noticed")
    killed.__exit__(None, None, None)
    assert stored().spec.holder_identity == SECOND.run_id


def test_it_goes_with_the_job_that_owns_it(cluster, make, stored, namespace):
    batch = kubernetes.client.BatchV1Api(cluster.api_client)
    pod = {"restartPolicy": "Never", "containers": [{"name": "x", "image": "localhost/none:1"}]}
    spec = {"suspend": True, "template": {"spec": pod}}
    job = batch.create_namespaced_job(namespace, {"metadata": {"name": "anchor"}, "spec": spec})
    killed = make(FIRST)
    killed.__enter__()
    killed.own_by("anchor", job.metadata.uid)
    abandon(killed)
    assert stored() is not None
    batch.delete_namespaced_job("anchor", namespace, propagation_policy="Background")
    cluster.wait_for(lambda: stored() is None, what="the Lease collected")
