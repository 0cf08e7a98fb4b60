"""`bench render admission`: from approval documents to what the cluster enforces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from bench.policy.document import Approval

__all__ = ["admission", "admission_yaml", "approvals_of", "policy_options"]


def policy_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what a policy needs beside the approvals."""
    decorators = (
        click.option(
            "--location",
            default="the platform team",
            show_default=True,
            help="Where the approvals can be read; every refusal names it.",
        ),
        click.option(
            "--allow-provisional", is_flag=True, help="Provisional approvals are good enough."
        ),
        click.option(
            "--action",
            type=click.Choice(["deny", "warn", "audit"]),
            default="deny",
            show_default=True,
            help="What a claim of another class brings.",
        ),
        click.option(
            "--namespace-label",
            default="bench/training-workload",
            show_default=True,
            help="Label of the namespaces that are held to it.",
        ),
    )
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


@click.command()
@click.argument("approvals", nargs=-1, required=True, metavar="APPROVAL...")
@policy_options
@click.option(
    "--at",
    metavar="TIME",
    help="Leave out what has ended by this time, ISO 8601. By default nothing is left out: the "
    "policy refuses what has ended by itself.",
)
def admission(*, approvals: tuple[str, ...], at: str | None, **options: Any) -> None:
    """Print the policy that lets training namespaces claim approved storage classes only.

    An APPROVAL is an approval.json, or a directory of them; the newest decision counts.
    """
    from bench.policy.occasions import instant

    now = instant(at, place="--at") if at is not None else None
    click.echo(admission_yaml(approvals_of(approvals), now=now, **options), nl=False)


def approvals_of(paths: Sequence[str]) -> list[Approval]:
    """Return the approval documents that a person named.

    Raises:
        ResultsError: One is damaged, edited or no approval.
        UsageError: A directory holds none.
    """
    from bench.errors import UsageError
    from bench.policy.document import parse_approval
    from bench.results.files import DirectoryFiles

    found: dict[str, Approval] = {}
    for name in paths:
        path = Path(name)
        files = sorted(path.rglob("approval.json")) if path.is_dir() else [path]
        if not files:
            raise UsageError(name, "holds no approval.json", "give what `bench approve` wrote")
        for file in files:
            data = DirectoryFiles(str(file.parent)).read(file.name)
            approval = parse_approval(data, place=str(file))
            found[approval.id] = approval
    return list(found.values())


def admission_yaml(
    approvals: Sequence[Approval],
    *,
    now: datetime | None,
    location: str,
    allow_provisional: bool,
    action: Any,
    namespace_label: str,
) -> str:
    """Return policy and binding as YAML, the platform contract as a comment before them.

    Args:
        approvals: All that count; of several decisions on a cell the newest one does.
        now: Leave out what has ended by then; None for nothing.
        location: Where the approvals can be read.
        allow_provisional: Whether provisional approvals are good enough.
        action: deny, warn or audit.
        namespace_label: Of the namespaces that are held to it.
    """
    from bench.launch.kubernetes.admission import admission_objects
    from bench.launch.kubernetes.yaml import dump
    from bench.policy.contract import contract, enforceable

    rows = contract(approvals)
    allowed = enforceable(rows, now=now, provisional=allow_provisional)
    lines = ["Approved storage for training; made by `bench render admission`."]
    for row in rows:
        taken = row.storage_class in allowed.get(row.workload, {})
        lines.append(
            f"{row.workload}: {row.storage_class}, {row.state} for {', '.join(row.scales)}, until "
            f"{row.valid_until}" + ("" if taken else " (left out)")
        )
    if not allowed:
        lines.append("Nothing is allowed: every claim in a labelled namespace is refused.")
    objects = admission_objects(
        allowed,
        location=location,
        approvals=tuple(sorted({i for row in rows for i in row.approvals})),
        action=action,
        namespace_label=namespace_label,
    )
    return dump(objects, header="\n".join(lines))
