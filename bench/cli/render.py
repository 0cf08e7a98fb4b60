"""`bench render`: YAML that a platform team applies once, or keeps in a repository."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from bench.cli.admission import admission
from bench.errors import UsageError

__all__ = ["command"]

NAMESPACE_NAME = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"


def _namespace(
    _context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    import re

    if value is not None and not re.fullmatch(NAMESPACE_NAME, value):
        raise click.BadParameter(
            f"{value!r} is no name of a namespace: small letters, digits and dashes",
            param=parameter,
        )
    return value


def _pairs(place: str, given: Sequence[str]) -> dict[str, str]:
    """Return the pairs of repeated KEY=VALUE options.

    Raises:
        UsageError: One has no sign of equality.
    """
    pairs = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(place, f"{text!r} is no KEY=VALUE", "write it with a sign of equality")
        pairs[key] = value
    return pairs


def namespace_option(function: Callable[..., None]) -> Callable[..., None]:
    """Add -n: in which namespace runs take place."""
    return click.option(
        "-n",
        "--namespace",
        default="bench",
        show_default=True,
        callback=_namespace,
        help="Namespace of the runs.",
    )(function)


@click.group(name="render")
def command() -> None:
    """Print Kubernetes YAML: namespace, rbac, schedule or admission.

    The same arguments always print the same bytes; nothing is applied and no cluster is asked.
    """


command.add_command(admission)


@command.command()
@namespace_option
@click.option("--cpu", default=64, show_default=True, type=click.IntRange(1), help="CPUs.")
@click.option("--memory", default="256Gi", show_default=True, help="Memory.")
@click.option("--gpus", default=8, show_default=True, type=click.IntRange(0), help="GPUs.")
@click.option("--gpu-resource-name", default="nvidia.com/gpu", show_default=True)
@click.option("--storage", default="2Ti", show_default=True, help="Storage over all claims.")
@click.option(
    "--class-storage",
    multiple=True,
    metavar="CLASS=SIZE",
    help="Storage of one class; may be repeated.",
)
@click.option("--jobs", default=100, show_default=True, type=click.IntRange(1), help="Jobs.")
@click.option("--claims", default=50, show_default=True, type=click.IntRange(1), help="Claims.")
@click.option(
    "--object-cidr",
    "object_cidrs",
    multiple=True,
    metavar="CIDR",
    help="Addresses of object endpoints that pods may reach; may be repeated.",
)
@click.option(
    "--object-port",
    "object_ports",
    multiple=True,
    default=(443,),
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Their ports; may be repeated.",
)
@click.option(
    "--api-server-cidr",
    "api_server_cidrs",
    multiple=True,
    metavar="CIDR",
    help="Addresses of the API server, for a launcher in the cluster; may be repeated.",
)
def namespace(*, namespace: str, class_storage: tuple[str, ...], **amounts: Any) -> None:
    """Print a namespace with quota, limits, Pod Security and network policies."""
    from bench.launch.kubernetes.namespace import Allowance, namespace_objects
    from bench.launch.kubernetes.yaml import dump

    allowance = Allowance(class_storage=_pairs("--class-storage", class_storage), **amounts)
    header = (
        f"Namespace {namespace} for runs of bench; made by `bench render namespace`.\n"
        "What the network policies do depends on the network plugin: some enforce none.\n"
        "They do not govern the traffic of CSI drivers and file system clients."
    )
    click.echo(dump(namespace_objects(namespace, allowance=allowance), header=header), nl=False)


@command.command()
@namespace_option
@click.option("--dra", is_flag=True, help="Runs claim GPUs by resource claims.")
@click.option(
    "--co-tenants", is_flag=True, help="Let results count other pods of a node: lists all pods."
)
@click.option(
    "--lease-namespace", callback=_namespace, help="Where Leases on storage classes lie, if apart."
)
@click.option("--user", "users", multiple=True, help="Who else may run; may be repeated.")
@click.option("--group", "groups", multiple=True, help="Which groups may; may be repeated.")
@click.option(
    "--worker-annotation",
    "worker_annotations",
    multiple=True,
    metavar="KEY=VALUE",
    help="Of the pods' account, for a cloud's workload identity; may be repeated.",
)
def rbac(*, namespace: str, worker_annotations: tuple[str, ...], **options: Any) -> None:
    """Print accounts, roles and bindings: the launcher's rights, and the pods' none."""
    from bench.launch.kubernetes.rbac import rbac as objects
    from bench.launch.kubernetes.yaml import dump

    annotations = _pairs("--worker-annotation", worker_annotations)
    header = (
        f"Rights of the launcher in namespace {namespace}; made by `bench render rbac`.\n"
        "The ClusterRole is optional: without it results say `unknown` where it reads."
    )
    made = objects(namespace, worker_annotations=annotations, **options)
    click.echo(dump(made, header=header), nl=False)


@command.command(context_settings={"ignore_unknown_options": True})
@namespace_option
@click.argument("workload")
@click.option("-s", "--storage", required=True, help="Storage target: name or file.")
@click.option("--image", required=True, help="Image of the launcher and of the pods.")
@click.option("--cron", help='When, such as "0 3 * * 1"; once without it.')
@click.option("--time-zone", help="Of --cron, such as Europe/Berlin.")
@click.option("--results", help="URL of a results store.")
@click.option("--results-claim", help="Existing claim that results are written to.")
@click.option(
    "--deadline-seconds",
    default=12 * 3600,
    show_default=True,
    type=click.IntRange(1),
    help="Longest life of one launcher.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- RUN OPTIONS]")
def schedule(*, workload: str, storage: str, arguments: tuple[str, ...], **options: Any) -> None:
    """Print a CronJob, or a Job, that runs WORKLOAD on a storage target from in the cluster.

    What stands behind -- goes to `bench run`: -- --nodes 4 --repeats 5
    """
    from bench.launch.kubernetes.schedule import Schedule
    from bench.launch.kubernetes.schedule import schedule as objects
    from bench.launch.kubernetes.yaml import dump
    from bench.spec.load import load_storage, load_workload
    from bench.spec.lookup import find, read_text

    overrides = _check_run_options(workload, storage, arguments)
    request = Schedule(
        workload_name=load_workload(workload, overrides=overrides).metadata.name,
        workload_text=read_text(find(workload, "workloads"))[0],
        storage_name=load_storage(storage, overrides=overrides).metadata.name,
        storage_text=read_text(find(storage, "storageclasses"))[0],
        arguments=arguments,
        **options,
    )
    header = (
        "A run of bench from in the cluster; made by `bench render schedule`.\n"
        f"Needs what `bench render rbac -n {request.namespace}` prints."
    )
    click.echo(dump(objects(request), header=header), nl=False)


def _check_run_options(workload: str, storage: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """Refuse options that `bench run` would refuse, now rather than at three in the morning.

    Returns:
        The overrides among them.

    Raises:
        click.UsageError: An option is unknown or wrong.
        UsageError: One is set by the schedule itself, or an override is wrong.
    """
    from bench.cli.run import command as run
    from bench.spec.overrides import plan_settings

    given = run.make_context("bench run", [workload, "-s", storage, *arguments])
    for name, option in (("launcher", "--launcher"), ("results", "--results")):
        if given.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise UsageError(f"-- {option}", "is set by the schedule", "leave it out")
    overrides: tuple[str, ...] = given.params["overrides"]
    for key in ("plan.cluster.image", "plan.cluster.namespace"):
        if any(text.partition("=")[0].strip() == key for text in overrides):
            raise UsageError(f"-- --set {key}", "is set by the schedule", "use --image or -n")
    plan_settings(overrides)
    return overrides
