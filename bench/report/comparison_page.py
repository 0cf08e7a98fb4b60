"""A comparison as one HTML page: self-contained, no script, readable light, dark and printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.analysis.comparison.document import Comparison
from bench.report.comparison_chart import forest_chart, sides_chart
from bench.report.comparison_rows import (
    banners,
    cell_rows,
    facts,
    meant_differences,
    rules,
    shared_notes,
)

if TYPE_CHECKING:
    import jinja2

__all__ = ["comparison_page", "environment"]

MAX_DRAWN = 60
"""Cells in a chart; the table holds all of them."""

MAX_DOTS = 12
"""Cells that are drawn repeat by repeat."""


def environment() -> jinja2.Environment:
    """Return the templates of this room: everything is escaped but drawings."""
    import jinja2
    from markupsafe import Markup

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("bench.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["drawing"] = Markup
    return made


def comparison_page(comparison: Comparison) -> str:
    """Return the page of a comparison; the same bytes for the same document."""
    return (
        environment()
        .get_template("comparison.html.j2")
        .render(
            comparison=comparison,
            cells=[
                (cell, [*cell_rows(cell, deciding=True)], [*cell_rows(cell, deciding=False)])
                for cell in comparison.cells
            ],
            banners=banners(comparison),
            facts=facts(comparison),
            rules=rules(comparison),
            notes=shared_notes(comparison),
            differing=meant_differences(comparison),
            forest=forest_chart(comparison, most=MAX_DRAWN),
            dots=sides_chart(comparison, most=MAX_DOTS),
            most_drawn=MAX_DRAWN,
            most_dots=MAX_DOTS,
        )
    )
