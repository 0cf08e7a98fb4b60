"""Representative plans as YAML, reviewed in the diff."""

from __future__ import annotations

import pytest
from made_plans import (
    EPHEMERAL,
    LOCAL_CLAIM,
    NEW_CLAIM,
    OBJECT,
    OLD_CLAIM,
    SIMULATED,
    UID,
    plan,
    settings,
)

from bench.launch.kubernetes.manifests import ExistingClaim, build, dry_run
from bench.launch.kubernetes.names import DRY_RUN_ID
from bench.launch.kubernetes.namespace import Allowance, namespace_objects
from bench.launch.kubernetes.rbac import rbac
from bench.launch.kubernetes.schedule import Schedule, schedule
from bench.launch.kubernetes.yaml import dump

RUNS = {
    "new-claim-four-nodes-gpus": lambda: build(
        plan(
            NEW_CLAIM,
            nodes=4,
            gpus_per_node=8,
            repeats=2,
            pod={
                "nodeSelector": {"nvidia.com/gpu.product": "H100"},
                "tolerations": [{"key": "training", "operator": "Exists"}],
                "resources": {"limits": {"rdma/hca": "1"}},
            },
        ),
        cluster=settings(
            gpu="device-plugin",
            queue_name="storage",
            queue_required_topology="example.com/rack",
            priority_class_name="batch-low",
            image_pull_policy="IfNotPresent",
            image_pull_secrets=["registry"],
            topology_spread_key="topology.kubernetes.io/zone",
        ),
        namespace="storage-bench",
        owner_uid=UID,
    ),
    "kept-claim-dra": lambda: build(
        plan(LOCAL_CLAIM, gpus_per_node=2),
        cluster=settings(
            gpu="dra",
            keep_dataset="keep",
            device_selector="device.attributes['gpu.nvidia.com'].productName == 'H100'",
        ),
        namespace="bench",
        owner_uid=UID,
    ),
    "existing-claim": lambda: build(
        plan(OLD_CLAIM, nodes=2),
        cluster=settings(supplemental_groups=[4000], cpu=8, memory_bytes="16GiB"),
        namespace="bench",
        owner_uid=UID,
        existing=ExistingClaim("gpfs", ("ReadWriteMany",)),
    ),
    "ephemeral-two-nodes": lambda: build(
        plan(EPHEMERAL, nodes=2), cluster=settings(), namespace="bench", owner_uid=UID
    ),
    "object-secret": lambda: build(plan(OBJECT), cluster=settings()),
    "simulated": lambda: build(
        plan(SIMULATED, workload="smoke", run_id=DRY_RUN_ID), cluster=settings()
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run(name: str, golden) -> None:
    made = RUNS[name]()
    owned = made.blueprint.owner_uid is not None
    golden(f"{name}.yaml", dump(made.objects()) if owned else dry_run(made))


def test_pinned_nodes_and_a_second_attempt(golden) -> None:
    made = build(plan(NEW_CLAIM, nodes=2, repeats=2), cluster=settings(), owner_uid=UID)
    golden("pinned.yaml", dump([made.measure(1, attempt=2, nodes=["node-a", "node-b"])]))


def test_a_namespace(golden) -> None:
    allowance = Allowance(
        class_storage={"lustre-fast": "1Ti"},
        object_cidrs=["10.9.0.0/16", "fd00:9::/64"],
        object_ports=[443, 9000],
        api_server_cidrs=["10.96.0.1/32"],
    )
    golden("namespace.yaml", dump(namespace_objects("bench", allowance=allowance)))


def test_rights(golden) -> None:
    golden("rbac.yaml", dump(rbac("bench")))
    everything = rbac(
        "bench",
        dra=True,
        co_tenants=True,
        lease_namespace="bench-leases",
        users=["eva"],
        groups=["platform"],
        worker_annotations={"iam.gke.io/gcp-service-account": "reader@example"},
    )
    golden("rbac-everything.yaml", dump(everything))


@pytest.mark.parametrize("cron", [None, "0 3 * * 1"])
def test_a_schedule(cron: str | None, golden) -> None:
    request = Schedule(
        namespace="bench",
        image="registry.example/bench:1",
        workload_name="smoke",
        workload_text="# a workload\nkind: Workload\n",
        storage_name="fast",
        storage_text="kind: StorageTarget\n",
        results="s3://results/bench" if cron else None,
        results_claim=None if cron else "results",
        arguments=["--repeats", "5"],
        cron=cron,
        time_zone="Europe/Berlin" if cron else None,
        deadline_seconds=3600,
    )
    golden("cronjob.yaml" if cron else "job.yaml", dump(schedule(request)))
