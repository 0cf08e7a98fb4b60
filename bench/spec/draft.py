"""A document between its text and its model: plain values that know where they came from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bench.errors import DocumentError
from bench.spec.documents import API_VERSION
from bench.spec.keys import Shape, canonical, nearest
from bench.spec.wording import dotted, problems_of, shown
from bench.spec.yamltext import Parsed, Path, YamlProblem, parse_documents

__all__ = ["Draft", "draft_of", "validated"]

Model = TypeVar("Model", bound=BaseModel)

KINDS = ("Workload", "StorageTarget", "Requirements")


@dataclass(slots=True)
class Draft:
    """Plain values of one document, keys canonical, and the place that each came from.

    Attributes:
        label: The file as a person would name it.
        value: The document.
        lines: Line of each path in the file.
        overridden: Canonical path -> the --set path that wrote it.
        problems: (line, text) found so far; line 0 for overrides.
    """

    label: str
    value: dict[str, Any]
    lines: dict[Path, int]
    overridden: dict[Path, str] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)

    def report(self, path: Path, problem: str) -> None:
        """Note a problem at a path, worded with the file and line, or the --set, it came from."""
        for length in range(len(path), -1, -1):
            prefix = path[:length]
            if prefix in self.overridden:
                rest = dotted(path[length:])
                option = self.overridden[prefix] + (f".{rest}" if rest else "")
                self.problems.append((0, f"--set {option}: {problem}"))
                return
            if prefix in self.lines:
                line = self.lines[prefix]
                where = f"{dotted(path)}: " if path else ""
                self.problems.append((line, f"{self.label}:{line}: {where}{problem}"))
                return
        self.problems.append((1, f"{self.label}: {dotted(path)}: {problem}"))

    def override(self, path: Path, name: str) -> None:
        """Note that a --set option now stands where the file, or an earlier option, did."""
        places: tuple[dict[Path, Any], ...] = (self.lines, self.overridden)
        for known in places:
            for below in [p for p in known if p[: len(path)] == path]:
                del known[below]
        self.overridden[path] = name

    def refuse(self) -> None:
        """Raise what was found, in the order of the file.

        Raises:
            DocumentError: There are problems.
        """
        if self.problems:
            ordered = sorted(self.problems, key=lambda p: p[0])
            raise DocumentError([text for _, text in ordered])


def _chosen(documents: Sequence[Parsed], kind: str, label: str) -> Parsed:
    """Return the one document of a kind.

    Raises:
        DocumentError: There is none, or more than one.
    """
    if not documents:
        raise DocumentError([f"{label}: is empty; a {kind} document was expected"])
    found = [d for d in documents if isinstance(d.value, dict) and d.value.get("kind") == kind]
    if len(found) == 1:
        return found[0]
    if found:
        lines = " and ".join(str(d.lines[()]) for d in found)
        raise DocumentError(
            [f"{label}: holds {len(found)} {kind} documents (lines {lines}); keep one in a file"]
        )
    first = documents[0]
    line = first.lines[()]
    if not isinstance(first.value, dict):
        raise DocumentError([f"{label}:{line}: must be a mapping (got {shown(first.value)})"])
    if "kind" not in first.value:
        near = nearest("kind", first.value)
        hint = f"; did you mean it by {near}?" if near else f"; set kind: {kind}"
        raise DocumentError([f"{label}:{line}: kind: is missing{hint}"])
    given = first.value["kind"]
    line = first.lines[("kind",)]
    hint = ""
    if isinstance(given, str) and given not in KINDS:
        near = nearest(given, KINDS)
        hint = f"; did you mean {near}?" if near else ""
    raise DocumentError([f"{label}:{line}: kind: must be {kind} (got {shown(given)}){hint}"])


def draft_of(text: str, model: type[BaseModel], label: str) -> Draft:
    """Return the draft of the one document of a model's kind in a text.

    Raises:
        DocumentError: The text is no YAML, or holds no single such document.
    """
    kind = model.__name__
    try:
        documents = parse_documents(text)
    except YamlProblem as error:
        raise DocumentError([f"{label}:{error.line}: {error.problem}"]) from error
    parsed = _chosen(documents, kind, label)
    draft = Draft(label, {}, dict(parsed.lines))
    for line, path, problem in parsed.problems:
        draft.problems.append((line, f"{label}:{line}: {dotted(path)}: {problem}"))

    def renamed(written: Path, name: Path) -> None:
        for path, line in list(draft.lines.items()):
            if path[: len(written)] == written:
                draft.lines.setdefault((*name, *path[len(written) :]), line)

    value = canonical(
        parsed.value, Shape("model", model=model), (), report=draft.report, renamed=renamed
    )
    assert isinstance(value, dict)  # noqa: S101 - `_chosen` returns mappings only
    draft.value = value
    version = value.get("apiVersion")
    if version is not None and version != API_VERSION:
        draft.report(("apiVersion",), f"must be {API_VERSION} (got {shown(version)})")
        draft.refuse()  # what another version means by its keys is not known here
    return draft


def validated(draft: Draft, model: type[Model]) -> Model:
    """Return the model of a draft.

    Validation is strict, as for JSON: a quoted number is text, and `yes` is not true.

    Raises:
        DocumentError: With every problem of the draft.
    """
    try:
        result = model.model_validate_json(json.dumps(draft.value), strict=True)
    except ValidationError as error:
        for path, problem in problems_of(error, draft.value):
            draft.report(path, problem)
        draft.refuse()
        raise  # unreachable: validation found something
    draft.refuse()
    return result
