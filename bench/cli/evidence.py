"""`bench evidence`: sign an approval with all that it rests on, and check such a bundle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from bench.cli.terminal import clean
from bench.errors import InvalidMeasurement, UsageError
from bench.policy import attest
from bench.policy.document import parse_approval
from bench.results.files import DirectoryFiles

__all__ = ["command"]

BUNDLE = "evidence.dsse.json"
PASSPHRASE = "BENCH_KEY_PASSPHRASE"  # noqa: S105 - a variable's name
INCOMPLETE = 3
"""Exit code where the signature is good and files are missing: undecided."""


@click.group(name="evidence")
def command() -> None:
    """Sign an approval and the digests of its runs, or verify what was signed."""


def _read(path: Path) -> bytes:
    return DirectoryFiles(str(path.parent)).read(path.name)


@command.command()
@click.argument("approval")
@click.option("-k", "--key", required=True, metavar="PEM", help="Private key; yours, made by you.")
@click.option("-o", "--output", metavar="FILE", help=f"By default {BUNDLE} beside the approval.")
def sign(*, approval: str, key: str, output: str | None) -> None:
    """Sign APPROVAL, an approval.json, as an in-toto statement in a DSSE envelope.

    The passphrase of an encrypted key is read from BENCH_KEY_PASSPHRASE.
    """
    path = Path(approval)
    data = _read(path)
    document = parse_approval(data, place=approval)
    files = {path.name: hashlib.sha256(data).hexdigest()}
    beside = path.with_suffix(".md")
    if beside.is_file():
        files[beside.name] = hashlib.sha256(_read(beside)).hexdigest()
    secret = os.environ.get(PASSPHRASE)
    private = attest.load_private_key(
        _read(Path(key)), passphrase=secret.encode() if secret else None, place=key
    )
    envelope = attest.sign(attest.statement(document, files=files), key=private)
    target = Path(output) if output is not None else path.with_name(BUNDLE)
    text = json.dumps(envelope, indent=1) + "\n"
    DirectoryFiles(str(target.parent)).write_atomic(target.name, text.encode(), existing="refuse")
    print(target)


@command.command()
@click.argument("bundle")
@click.option(
    "-k", "--key", "keys", required=True, multiple=True, metavar="PEM", help="Trusted public key."
)
@click.option(
    "--results",
    default="./bench-results",
    show_default=True,
    metavar="DIR",
    help="Store that holds the runs.",
)
def verify(*, bundle: str, keys: tuple[str, ...], results: str) -> int:
    """Verify the signature of BUNDLE, and every file that it names.

    Files are looked for beside the bundle and in the results directory.
    """
    path = Path(bundle)
    trusted = [attest.load_public_key(_read(Path(key)), place=key) for key in keys]
    statement = attest.verify(_read(path), keys=trusted, place=bundle)
    states = list(_states(statement, [path.parent, Path(results)]))
    approval = statement["predicate"]
    print(f"signed     {clean(approval.get('verdict'))}, by {clean(approval.get('approved_by'))}")
    for name, state in states:
        print(f"{state:<10} {clean(name)}")
    changed = [name for name, state in states if state == "changed"]
    if changed:
        raise InvalidMeasurement(
            changed[0], "is not the file that was signed", "restore it from a copy"
        )
    return INCOMPLETE if any(state == "missing" for _, state in states) else 0


def _states(statement: dict[str, Any], places: list[Path]) -> Iterator[tuple[str, str]]:
    """Yield each file of a statement: same, changed or missing."""
    for subject in statement["subject"]:
        name, wanted = str(subject["name"]), subject["digest"]["sha256"]
        parts = Path(name)
        if parts.is_absolute() or ".." in parts.parts:
            raise UsageError(name, "is no name inside a bundle")
        found = [place / parts for place in places if (place / parts).is_file()]
        digests = [hashlib.sha256(_read(file)).hexdigest() for file in found]
        yield name, "same" if wanted in digests else "changed" if digests else "missing"
