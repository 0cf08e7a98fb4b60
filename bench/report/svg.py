"""From a matplotlib figure to SVG that stands inside a page.

Ink and grid take the page's colours, so one drawing serves light, dark and print. The bytes
depend on the drawing alone: no date, no random ids.
"""

from __future__ import annotations

import contextlib
import html
import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["GRID", "INK", "inline_svg", "new_figure", "style"]

INK = "#010203"
GRID = "#030201"
"""Stand-ins for the page's colours, used by nothing else."""

PAGE_COLOURS = {INK: "var(--ink)", GRID: "var(--grid)"}

SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bench",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "hatch.linewidth": 0.5,
    "hatch.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
}
"""DejaVu Sans comes with matplotlib and is the wider one of what pages use, so texts fit."""


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw with the settings of pages."""
    import matplotlib as mpl

    settings: Any = SETTINGS  # its type lists every known key
    with mpl.rc_context(settings):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches; nothing global is touched."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def inline_svg(figure: Figure, *, name: str, label: str) -> str:
    """Return a figure as an SVG element.

    Args:
        figure: The drawing.
        name: Short word that no other drawing of the page has; keeps ids apart.
        label: What it shows, for people who do not see it.
    """
    sink = io.StringIO()
    figure.savefig(sink, format="svg", transparent=True, metadata={"Date": None})
    text = sink.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"<style.*?</style>", "", text, count=1, flags=re.DOTALL)  # stands in the page
    text = text.replace("xlink:href", "href")
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', text)
    text = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'href="#([^"]*)"', rf'href="#{name}-\1"', text)
    text = text.replace("'DejaVu Sans'", "system-ui, sans-serif")
    for stand_in, colour in PAGE_COLOURS.items():
        text = text.replace(stand_in, colour)
    size = re.search(r'viewBox="[^"]*"', text)
    if size is None:
        raise ValueError("matplotlib wrote SVG without a viewBox")
    opening = f'<svg role="img" aria-label="{html.escape(label)}" {size[0]}>'
    return opening + text[text.index(">") + 1 :].strip()
