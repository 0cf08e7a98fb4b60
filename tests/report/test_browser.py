"""The page in a real browser: it draws its charts, asks nobody for anything, says no error."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from made_runs import make_run, put_in, tables_in

from bench.report.page import render_page
from bench.results.store import open_store

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--allow-file-access-from-files", "--enable-logging=stderr"),
)

PROBE = """<!DOCTYPE html><html><head><meta charset="utf-8"></head><body>
<iframe id="page" src="{page}" style="width:1100px;height:6000px"></iframe>
<script>
document.getElementById("page").onload = (event) => {{
  const inner = event.target.contentDocument;
  const seen = [...inner.querySelectorAll("svg")].map((svg) => {{
    const box = svg.getBoundingClientRect();
    const shapes = [...svg.querySelectorAll("path, use, text")].filter((shape) => {{
      const size = shape.getBoundingClientRect();
      return size.width + size.height > 0;
    }});
    return `${{Math.round(box.width)}}x${{Math.round(box.height)}}:${{shapes.length}}`;
  }});
  const fetched = event.target.contentWindow.performance.getEntriesByType("resource");
  document.title = `charts ${{seen.join(" ")}} fetched ${{fetched.length}}`;
}};
</script></body></html>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_run(num_steps=130)
    store = open_store(str(tmp_path_factory.mktemp("results")))
    key = put_in(store, made)
    place = store.write_report(key, render_page(store.load(key), tables_in(store, key, made)))
    return Path(place)


def look(
    browser: str, tmp_path: Path, address: str, *flags: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [browser, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *flags, address],
        capture_output=True,
        text=True,
        check=True,
        timeout=90,
        env=os.environ | {"HOME": str(tmp_path)},
    )


def test_every_chart_is_drawn(browser: str, page: Path, tmp_path: Path) -> None:
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(page=page.as_uri()))
    flags = ("--virtual-time-budget=10000", "--window-size=1200,2000", "--dump-dom")
    found = look(browser, tmp_path, probe.as_uri(), *flags)
    title = re.search(r"<title>(.*?)</title>", found.stdout)
    assert title is not None, found.stdout[-2000:]
    charts, _, fetched = title[1].removeprefix("charts ").partition(" fetched ")
    assert fetched == "0"
    sizes = re.findall(r"(\d+)x(\d+):(\d+)", charts)
    assert len(sizes) == 7
    for width, height, shapes in sizes:
        assert int(width) > 900, charts
        assert int(height) > 80, charts
        assert int(shapes) > 10, charts


def test_the_browser_has_nothing_to_complain_of(browser: str, page: Path, tmp_path: Path) -> None:
    """Refused requests (the page's own policy allows none) and faults appear on its console."""
    shot = tmp_path / "page.png"
    flags = (f"--screenshot={shot}", "--window-size=1200,2600")
    assert "CONSOLE" not in look(browser, tmp_path, page.as_uri(), *flags).stderr
    assert shot.stat().st_size > 50_000
    page.write_text(
        page.read_text().replace("<main>", '<main><img src="http://127.0.0.1:9/x.png">')
    )
    assert "CONSOLE" in look(browser, tmp_path, page.as_uri(), *flags).stderr


@pytest.mark.parametrize(("scheme", "paper"), [("0", range(60)), ("1", range(200, 256))])
def test_it_follows_the_readers_colour_scheme(
    browser: str, page: Path, tmp_path: Path, scheme: str, paper: range
) -> None:
    from PIL import Image

    shot = tmp_path / "page.png"
    flags = (f"--screenshot={shot}", "--window-size=1200,2600")
    look(
        browser, tmp_path, page.as_uri(), f"--blink-settings=preferredColorScheme={scheme}", *flags
    )
    with Image.open(shot) as image:
        corner = image.convert("L").getpixel((2, 2))
        darkest, lightest = image.convert("L").getextrema()
    assert corner in paper
    assert lightest - darkest > 150  # ink stands out from paper either way
