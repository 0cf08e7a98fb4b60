"""What keys the documents have: known ones, their spellings, the nearest to a misspelt one."""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from bench.spec.yamltext import Path

__all__ = ["Shape", "canonical", "child", "nearest", "shape_of", "suggestion"]


@dataclass(frozen=True, slots=True)
class Shape:
    """What may stand at a place of a document.

    Attributes:
        kind: A "model" has known keys, a "mapping" any keys, a "list" items, a "value" none.
        model: The model of a "model".
        item: Annotation of a mapping's values or a list's items.
    """

    kind: str
    model: type[BaseModel] | None = None
    item: Any = None

    def keys(self) -> dict[str, str]:
        """Return every accepted spelling of each known key -> the canonical one."""
        if self.model is None:
            return {}
        names: dict[str, str] = {}
        for name, info in self.model.model_fields.items():
            canonical_name = info.alias or name
            for spelling in (name, canonical_name, _camel(name)):
                names[spelling] = canonical_name
        return names


VALUE = Shape("value")


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def shape_of(annotation: Any) -> Shape:
    """Return the shape that a pydantic field's annotation stands for."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return shape_of(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        shapes = [shape_of(a) for a in get_args(annotation) if a is not type(None)]
        return shapes[0] if len(shapes) == 1 else VALUE
    if origin is dict:
        return Shape("mapping", item=get_args(annotation)[1])
    if origin in (list, tuple):
        return Shape("list", item=get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return Shape("model", model=annotation)
    return VALUE


def child(shape: Shape, key: str | int) -> Shape | None:
    """Return the shape below a canonical key, or None where there can be none."""
    if shape.kind == "mapping" or (shape.kind == "list" and isinstance(key, int)):
        return shape_of(shape.item)
    if shape.model is not None:
        for name, info in shape.model.model_fields.items():
            if key == (info.alias or name):
                return shape_of(info.annotation)
    return None


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that a person most likely meant, or None."""
    lowered = {k.lower().replace("_", ""): k for k in sorted(known, reverse=True)}
    found = difflib.get_close_matches(word.lower().replace("_", ""), lowered, n=1, cutoff=0.6)
    return lowered[found[0]] if found else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return "did you mean X?", or the known words where none is near."""
    known = list(dict.fromkeys(known))
    found = nearest(word, known)
    return f"did you mean {found}?" if found else f"known keys are {', '.join(known)}"


def canonical(
    value: object,
    shape: Shape,
    path: Path,
    *,
    report: Callable[[Path, str], None],
    renamed: Callable[[Path, Path], None],
) -> object:
    """Return `value` with keys in their canonical spelling and unknown ones left out.

    Args:
        value: Plain value as parsed.
        shape: What may stand there.
        path: Where it stands.
        report: Called with path and problem for each unknown or doubled key.
        renamed: Called with the path as written and the canonical one, where they differ.
    """
    if isinstance(value, list) and shape.kind == "list":
        inner = shape_of(shape.item)
        return [
            canonical(v, inner, (*path, i), report=report, renamed=renamed)
            for i, v in enumerate(value)
        ]
    if not isinstance(value, dict) or shape.kind not in ("model", "mapping"):
        return value
    known = shape.keys()
    result: dict[str, object] = {}
    for key, item in value.items():
        at = (*path, key)
        name = known.get(key) if shape.kind == "model" else key
        if name is None:
            report(at, f"unknown key; {suggestion(key, known.values())}")
            continue
        if name in result:
            report(at, f"given twice (also as {_other(value, known, key, name)})")
            continue
        if name != key:
            renamed(at, (*path, name))
        inner = child(shape, name) or VALUE
        result[name] = canonical(item, inner, (*path, name), report=report, renamed=renamed)
    return result


def _other(value: dict[str, object], known: dict[str, str], key: str, name: str) -> str:
    return next(k for k in value if k != key and known.get(k) == name)
