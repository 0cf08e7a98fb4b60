"""A comparison in every format that it is handed on in; one document, nothing computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.analysis.comparison.document import Comparison
from bench.analysis.comparison.seal import comparison_text

__all__ = ["FORMATS", "render"]


def _html(comparison: Comparison) -> str:
    from bench.report.comparison_page import comparison_page

    return comparison_page(comparison)


def _markdown(comparison: Comparison) -> str:
    from bench.report.comparison_markdown import comparison_markdown

    return comparison_markdown(comparison)


def _csv(comparison: Comparison) -> str:
    from bench.report.comparison_tables import comparison_csv

    return comparison_csv(comparison)


def _junit(comparison: Comparison) -> str:
    from bench.report.comparison_tables import comparison_junit

    return comparison_junit(comparison)


FORMATS: Mapping[str, Callable[[Comparison], str]] = {
    ".json": comparison_text,
    ".md": _markdown,
    ".html": _html,
    ".csv": _csv,
    ".xml": _junit,
}
"""By the end of a file's name: document, pull-request comment, page, table, JUnit."""


def render(comparison: Comparison, suffix: str) -> str:
    """Return a comparison as the text of a file; the same bytes for the same document.

    Args:
        comparison: The document.
        suffix: One of FORMATS.
    """
    return FORMATS[suffix](comparison)
