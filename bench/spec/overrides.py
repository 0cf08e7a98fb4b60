"""`--set PATH=VALUE`: paths into the documents' `spec` and into the plan's settings."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from bench.errors import DocumentError
from bench.spec.documents import PLACES, StorageSpec, WorkloadSpec
from bench.spec.draft import Draft
from bench.spec.keys import Shape, canonical, child, nearest, suggestion
from bench.spec.plan import PlanSettings
from bench.spec.wording import dotted, problems_of
from bench.spec.yamltext import Path, YamlProblem, parse_value

__all__ = ["Override", "Overrides", "apply", "parse_overrides", "plan_settings"]

Part = Literal["workload", "storage", "plan"]

SHAPES: dict[str, Shape] = {
    "workload": Shape("model", model=WorkloadSpec),
    "storage": Shape("model", model=StorageSpec),
    "plan": Shape("model", model=PlanSettings),
}

KEY = re.compile(r'\.?(?:"([^"]*)"|([^".]+))')

OPTIONS = {
    "accelerator": "-a",
    "dataset_bytes": "--dataset-size",
    "max_steps": "--steps",
    "max_seconds": "--duration",
}
"""Command line options whose name is not that of the setting."""


@dataclass(frozen=True, slots=True)
class Override:
    """One --set option.

    Attributes:
        name: The path as written: "workload.batch_size".
        path: Canonical keys below `spec`, or below the plan's settings.
        value: Plain value, not yet checked by the model.
    """

    name: str
    path: Path
    value: object


@dataclass(frozen=True, slots=True)
class Overrides:
    """--set options by the document that they change, in the order given."""

    workload: tuple[Override, ...] = ()
    storage: tuple[Override, ...] = ()
    plan: tuple[Override, ...] = ()


def _keys(name: str) -> list[str] | None:
    """Split a path at its dots; keys that hold dots stand in double quotes."""
    keys, end = [], 0
    while end < len(name):
        match = KEY.match(name, end)
        if match is None or (end > 0) != match.group().startswith("."):
            return None
        keys.append(match.group(1) if match.group(1) is not None else match.group(2))
        end = match.end()
    return keys or None


def _resolve(keys: Sequence[str], shape: Shape) -> Path:
    """Return the canonical path of keys as written.

    Raises:
        ValueError: A key is unknown; names the nearest.
    """
    path: list[str | int] = []
    for key in keys:
        if shape.kind == "value":
            raise ValueError(f"{path[-1]} holds one value and has no key {key}")
        step: str | int = key
        if shape.kind == "model":
            known = shape.keys()
            if key not in known:
                raise ValueError(f"unknown key {key}; {suggestion(key, known.values())}")
            step = known[key]
        elif shape.kind == "list":
            if not key.isdecimal() or len(key) > 4:
                raise ValueError(f"{path[-1]} is a list; {key} is no position in it, such as 0")
            step = int(key)
        path.append(step)
        shape = child(shape, step) or Shape("value")
    return tuple(path)


def _parse(text: str) -> tuple[str, Override]:
    """Return the part and the override of one option.

    Raises:
        ValueError: The option is malformed; the message is a whole line.
    """
    name, equals, value_text = text.partition("=")
    name = name.strip()
    if not equals or not name:
        raise ValueError(f"--set {text}: must be PATH=VALUE, such as workload.batch_size=4")
    keys = _keys(name)
    if keys is None:
        raise ValueError(f"--set {name}: is no path of keys with dots between them")
    part = keys[0]
    if part not in SHAPES:
        near = nearest(part, SHAPES)
        hint = f"; did you mean {near}?" if near else ""
        raise ValueError(f"--set {name}: must start with workload., storage. or plan.{hint}")
    if len(keys) == 1:
        raise ValueError(f"--set {name}: must name a setting below {part}")
    try:
        path = _resolve(keys[1:], SHAPES[part])
        value = parse_value(value_text)
    except ValueError as error:
        raise ValueError(f"--set {name}: {error}") from error
    except YamlProblem as error:
        raise ValueError(f"--set {name}: {error.problem} (got {value_text!r})") from error
    return part, Override(name, path, value)


def parse_overrides(overrides: Sequence[str]) -> Overrides:
    """Return --set options by the document that they change.

    Args:
        overrides: "PATH=VALUE", paths beginning with workload., storage. or plan.

    Raises:
        DocumentError: With one line for each malformed option.
    """
    found: dict[str, list[Override]] = {part: [] for part in SHAPES}
    problems = []
    for text in overrides:
        try:
            part, override = _parse(text)
        except ValueError as error:
            problems.append(str(error))
        else:
            found[part].append(override)
    if problems:
        raise DocumentError(problems)
    return Overrides(
        workload=tuple(found["workload"]),
        storage=tuple(found["storage"]),
        plan=tuple(found["plan"]),
    )


def _assign(root: dict[str, Any], path: Path, value: object) -> str:
    """Write a value into plain values; return what is in the way, or nothing."""
    here: Any = root
    for step, following in zip(path, [*path[1:], None], strict=True):
        if isinstance(here, list):
            if not isinstance(step, int) or step > len(here):
                return f"the list has {len(here)} items, so there is no item {step}"
            if step == len(here):
                here.append({})
        elif not isinstance(here, dict):
            return "the document holds no mapping there"
        if following is None:
            here[step] = value
            return ""
        if isinstance(here, dict) and here.get(step) is None:
            here[step] = [] if isinstance(following, int) else {}
        here = here[step]
    return ""


def apply(draft: Draft, overrides: Sequence[Override], part: Part) -> None:
    """Write overrides into a draft's `spec`; problems are added to the draft's.

    A storage target's kind of place cannot be changed by an override: the result would bear
    the name of one target and measure another.
    """
    spec = draft.value.setdefault("spec", {})
    if not isinstance(spec, dict):
        return  # validation says so
    places = [p for p in PLACES if spec.get(p) is not None] if part == "storage" else []
    for override in overrides:
        path: Path = ("spec", *override.path)
        draft.override(path, override.name)
        place = override.path[0]
        if part == "storage" and places and place in PLACES and place not in places:
            draft.report(
                path,
                f"storage target {_name(draft)} is of kind {places[0]}; choose a target of "
                f"kind {place} with -s",
            )
            continue
        value = _canonical(draft, override, part)
        problem = _assign(spec, override.path, value)
        if problem:
            draft.report(path, problem)


def _name(draft: Draft) -> str:
    metadata = draft.value.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return str(name or draft.label)


def _canonical(draft: Draft, override: Override, part: Part) -> object:
    shape = SHAPES[part]
    for step in override.path:
        shape = child(shape, step) or Shape("value")

    def renamed(_written: Path, _name: Path) -> None:
        """Do nothing: an override has no lines to keep."""

    path: Path = ("spec", *override.path)
    return canonical(override.value, shape, path, report=draft.report, renamed=renamed)


def plan_settings(overrides: Sequence[str] = (), **values: object) -> PlanSettings:
    """Return the plan's settings from options of the command line and --set plan.NAME=VALUE.

    Args:
        overrides: All --set options; those of other documents are left alone. They win over
            `values`.
        **values: Settings by field name, None where the option was not given.

    Raises:
        DocumentError: With one line for each wrong value, naming the option.
    """
    given = {k: v for k, v in values.items() if v is not None}
    draft = Draft("plan", {"spec": given}, {})
    for name in given:
        if name not in PlanSettings.model_fields:
            raise TypeError(f"PlanSettings has no field {name}")
    apply(draft, parse_overrides(overrides).plan, "plan")
    tree = draft.value["spec"]
    try:
        result = PlanSettings.model_validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        for path, problem in problems_of(error, tree):
            _report_setting(draft, path, problem)
        draft.refuse()
        raise  # unreachable: validation found something
    draft.refuse()
    return result


def _report_setting(draft: Draft, path: Path, problem: str) -> None:
    full: Path = ("spec", *path)
    if any(full[:n] in draft.overridden for n in range(len(full) + 1)):
        draft.report(full, problem)
        return
    name = str(path[0]) if path else ""
    option = OPTIONS.get(name, "--" + name.replace("_", "-"))
    rest = dotted(path[1:])
    draft.problems.append((0, f"{option}{' ' + rest if rest else ''}: {problem}"))
