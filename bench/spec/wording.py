"""pydantic's findings in this project's words: path, what must be, what was found."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bench.spec.yamltext import Path

__all__ = ["dotted", "problems_of", "shown"]

NAME = "must be a name of lower-case letters, digits and inner dashes, at most 63 long"

FIXED = {
    "missing": "is missing",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
}

BOUNDS = {
    "greater_than": ("must be greater than", "gt"),
    "greater_than_equal": ("must be at least", "ge"),
    "less_than": ("must be less than", "lt"),
    "less_than_equal": ("must be at most", "le"),
}


def dotted(path: Path) -> str:
    """Return a path as people write it: spec.cache_tiers.0.name."""
    return ".".join(f'"{p}"' if isinstance(p, str) and "." in p else str(p) for p in path)


def shown(value: object) -> str:
    """Return a short form of a value for a message."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _bound(value: object) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:g}"
    return str(value)


def _worded(error: ErrorDetails) -> str:
    kind = error["type"]
    context: dict[str, Any] = error.get("ctx", {})
    if kind in FIXED:
        text = FIXED[kind]
    elif kind in BOUNDS:
        words, key = BOUNDS[kind]
        text = f"{words} {_bound(context[key])}"
    elif kind == "literal_error":
        text = "must be " + context["expected"].replace("'", "")
    elif kind == "value_error":
        text = str(context["error"])
    elif kind == "string_pattern_mismatch":
        text = "must be a URL, such as s3://bucket/prefix" if "://" in error["msg"] else NAME
    else:
        text = error["msg"]
    return text


def _place(loc: tuple[int | str, ...], value: object, *, missing: bool) -> tuple[Path, object]:
    """Return the part of pydantic's location that is a path of the document, and what is there.

    What follows it names a branch of a union or the key of a mapping.
    """
    place: list[str | int] = []
    for part in loc:
        inside = (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        )
        if not inside:
            if missing and part == loc[-1]:
                place.append(part)
            break
        place.append(part)
        value = value[part]  # type: ignore[index] # it is inside
    return tuple(place), value


def problems_of(error: ValidationError, value: object) -> list[tuple[Path, str]]:
    """Return path and problem of everything that pydantic found.

    Args:
        error: What validation raised.
        value: What was validated, with canonical keys.
    """
    found: dict[Path, list[ErrorDetails]] = {}
    written: dict[Path, object] = {}
    for item in error.errors(include_url=False):
        place, there = _place(item["loc"], value, missing=item["type"] == "missing")
        if item["type"] == "too_short" and there:
            continue  # its items were refused, which is told of each
        found.setdefault(place, []).append(item)
        written[place] = there
    return [(place, _joined(items, written[place])) for place, items in found.items()]


def _joined(items: list[ErrorDetails], value: object) -> str:
    """Return one problem of one place; the branches of a union are alternatives.

    Args:
        items: What pydantic found there.
        value: What stands there as written: "-4KiB" and not -4096.
    """
    words = list(dict.fromkeys(_worded(item) for item in items))
    text = words[0] + "".join(f" or {w.removeprefix('must be ')}" for w in words[1:])
    first = items[0]
    if first["type"] == "missing":
        return text
    is_key = bool(first["loc"]) and first["loc"][-1] == "[key]"
    if is_key:
        value = first["loc"][-2]
    if isinstance(value, dict | list) and first["type"] == "value_error":
        return text  # a rule over several keys names them itself
    if first["type"] == "string_type" and isinstance(value, int | float):
        text += "; put it in quotes"
    return f"{text} (got {shown(value)})"
