"""Directories do what every storage backend must do."""

from __future__ import annotations

import pytest

from bench.storage.conformance import StoreConformance, directory_subject


class TestDirectory(StoreConformance):
    @pytest.fixture(params=["buffered", "direct"])
    def subject(self, tmp_path, request):
        with directory_subject(str(tmp_path), mode=request.param) as subject:
            yield subject
