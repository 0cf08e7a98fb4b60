"""YAML text to plain values, strictly, with the line of every key.

YAML 1.2's core schema is used, not PyYAML's 1.1: `no` and `on` are text, `1:30` is text and
not 90, `1e3` is a number. A number with a leading zero stays text, since the two versions
disagree on what it is. Duplicate keys, aliases and tags are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

__all__ = ["Parsed", "Path", "YamlProblem", "parse_documents", "parse_value"]

Path = tuple[str | int, ...]

MAX_DEPTH = 32
"""Documents are seven levels deep; deeper input is an attack or an accident."""

INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,299})")
FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
CONSTANTS: dict[str, object] = {
    "": None,
    **dict.fromkeys(("~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
    "-.inf": float("-inf"),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


class YamlProblem(Exception):  # noqa: N818 - becomes a line of a DocumentError
    """The text is no YAML that we take.

    Args:
        line: Line of the text, from 1.
        problem: What is wrong there.
    """

    def __init__(self, line: int, problem: str) -> None:
        self.line = line
        self.problem = problem
        super().__init__(f"line {line}: {problem}")


@dataclass(frozen=True, slots=True)
class Parsed:
    """One document of a file.

    Attributes:
        value: Of dict, list, str, int, float, bool and None.
        lines: Line of each key, list item and of the document itself, from 1.
        problems: (line, path, problem) of duplicate keys and the like.
    """

    value: object
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[tuple[int, Path, str]] = field(default_factory=list)


class _Loader(yaml.SafeLoader):
    """Composes nodes; refuses aliases, which make small files huge."""

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1 if event.start_mark is not None else 1
        if isinstance(event, yaml.AliasEvent):
            raise YamlProblem(line, "aliases (*name) are not taken; write the value out")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise YamlProblem(line, f"tags ({tag}) are not taken")
        return super().compose_node(parent, index)


def _scalar(node: ScalarNode) -> object:
    text: str = node.value
    if node.style is not None:  # quoted, or a block: text
        return text
    if text in CONSTANTS:
        return CONSTANTS[text]
    if INT.fullmatch(text):
        return int(text)
    if FLOAT.fullmatch(text):
        return float(text)
    return text


def _build(node: Node, path: Path, parsed: Parsed) -> object:
    line = node.start_mark.line + 1
    parsed.lines.setdefault(path, line)
    if len(path) > MAX_DEPTH:
        raise YamlProblem(line, f"nested more than {MAX_DEPTH} levels deep")
    if isinstance(node, ScalarNode):
        return _scalar(node)
    if isinstance(node, SequenceNode):
        return [_build(item, (*path, i), parsed) for i, item in enumerate(node.value)]
    assert isinstance(node, MappingNode)  # noqa: S101 - YAML has no fourth kind of node
    result: dict[str, object] = {}
    for key_node, value_node in node.value:
        key_line = key_node.start_mark.line + 1
        if not isinstance(key_node, ScalarNode):
            raise YamlProblem(key_line, "a key must be text")
        key: str = key_node.value
        at = (*path, key)
        if key in result:
            problem = f"given twice (first on line {parsed.lines[at]})"
            parsed.problems.append((key_line, at, problem))
            continue
        parsed.lines[at] = key_line
        result[key] = _build(value_node, at, parsed)
    return result


def parse_documents(text: str) -> list[Parsed]:
    """Return the documents of a text that are not empty.

    Raises:
        YamlProblem: The text is not YAML, or uses what is not taken.
    """
    documents = []
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            parsed = Parsed(None)
            value = _build(node, (), parsed) if node is not None else None
            if value is not None:
                documents.append(Parsed(value, parsed.lines, parsed.problems))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        raise YamlProblem(line, f"not valid YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlProblem(line, f"not valid YAML: character {error.character!r}") from error
    except RecursionError as error:
        raise YamlProblem(1, f"nested more than {MAX_DEPTH} levels deep") from error
    return documents


def parse_value(text: str) -> object:
    """Return the one value of a text such as "8MiB", "0.5" or "{a: 1}".

    Raises:
        YamlProblem: The text is not one value.
    """
    documents = parse_documents(text)
    if len(documents) > 1:
        raise YamlProblem(1, "must be one value")
    if not documents:
        return None
    if documents[0].problems:
        line, path, problem = documents[0].problems[0]
        raise YamlProblem(line, f"{'.'.join(map(str, path))} {problem}")
    return documents[0].value
