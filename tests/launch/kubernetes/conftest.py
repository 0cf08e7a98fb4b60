"""Makes the helpers beside the tests importable, and compares YAML with golden files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-manifests", action="store_true", help="write golden YAML anew")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare with a golden file; `pytest tests/launch/kubernetes --update-manifests` writes it."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-manifests", default=False):
            path.write_text(text)
        assert path.read_text() == text

    return check
