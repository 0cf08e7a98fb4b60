"""Manifests as YAML text: the same values always give the same bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml
from kubernetes import client

__all__ = ["dump", "plain"]

FIRST = ("apiVersion", "kind", "metadata", "name")
"""Keys that a reader looks for first; the others follow in the order of the alphabet."""


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks; no anchors for values that occur twice."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def plain(manifest: Any) -> Any:
    """Return a manifest as the mappings and lists that the API server is sent."""
    return client.ApiClient().sanitize_for_serialization(manifest)  # type: ignore[no-untyped-call]


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        keys = [key for key in FIRST if key in value]
        keys += sorted(value.keys() - set(FIRST))
        return {key: _ordered(value[key]) for key in keys}
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    return value


def dump(manifests: Iterable[Any], *, header: str = "") -> str:
    """Return one YAML document for each manifest.

    Args:
        manifests: Typed values of the client.
        header: Lines of a comment that goes before them.
    """
    comment = "".join(f"# {line}".rstrip() + "\n" for line in header.splitlines())
    documents = [
        yaml.dump(
            _ordered(plain(manifest)),
            Dumper=_Dumper,
            sort_keys=False,
            allow_unicode=True,
            width=10_000,
        )
        for manifest in manifests
    ]
    return comment + "".join(f"---\n{document}" for document in documents)
