"""`bench schema`: JSON Schemas of the documents, for editors and checks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from bench.errors import UsageError

__all__ = ["DOCUMENTS", "command", "schema_of"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

DOCUMENTS = (
    "workload",
    "storagetarget",
    "requirements",
    "plan",
    "run",
    "comparison",
    "history",
    "approval",
)


def schema_of(document: str) -> dict[str, Any]:
    """Return the JSON Schema of one of DOCUMENTS; the same for the same version of bench."""
    from pydantic import BaseModel

    from bench.analysis.comparison.document import Comparison
    from bench.analysis.history import History
    from bench.policy.document import Approval
    from bench.results.schema import Run
    from bench.spec.documents import StorageTarget, Workload
    from bench.spec.plan import Plan
    from bench.spec.requirements import Requirements

    models: dict[str, type[BaseModel]] = dict(
        zip(
            DOCUMENTS,
            (Workload, StorageTarget, Requirements, Plan, Run, Comparison, History, Approval),
            strict=True,
        )
    )
    schema = models[document].model_json_schema(by_alias=True)
    _drop_field_titles(schema)
    return {"$schema": DIALECT, **schema}


def _drop_field_titles(schema: dict[str, Any]) -> None:
    """Leave titles to whole objects: a field's would repeat its name in other letters."""
    for part in (schema, *schema.get("$defs", {}).values()):
        for field in part.get("properties", {}).values():
            field.pop("title", None)


@click.command()
@click.argument("document", metavar="DOCUMENT", type=click.Choice(DOCUMENTS, case_sensitive=False))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file instead of the standard output.",
)
def command(document: str, output: Path | None) -> None:
    """Print the JSON Schema of DOCUMENT.

    One of workload, storagetarget, requirements, plan, run, comparison, history and approval.

    An editor with the YAML language server checks a file that begins with the line
    "# yaml-language-server: $schema=FILE".
    """
    text = json.dumps(schema_of(document.lower()), indent=2, ensure_ascii=False) + "\n"
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(str(output), f"cannot be written: {reason}", "choose another") from error
