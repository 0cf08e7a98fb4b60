"""Makes the helpers of this folder and of the results' tests importable; compares golden files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "results")]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-comparisons", action="store_true", help="write the golden files anew"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare with a golden file; `pytest tests/comparison --update-comparisons` writes it."""

    def check(name: str, text: str) -> None:
        path = HERE / "golden" / name
        if request.config.getoption("--update-comparisons", default=False):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert path.read_text() == text

    return check
