"""Shared by all areas: where the repository is, and a browser to look at pages with."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def browser() -> str:
    """A Chromium; without one nobody looks at the pages, which is a failure in CI."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        words = "no chromium: the pages were NOT looked at in a browser"
        if os.environ.get("CI") == "true":
            pytest.fail(words)
        pytest.skip(words)
    return found
