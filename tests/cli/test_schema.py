"""`bench schema` prints JSON Schemas that editors can use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench.cli.schema import DOCUMENTS, command


def printed(document: str) -> dict[str, Any]:
    result = CliRunner().invoke(command, [document])
    assert result.exit_code == 0
    schema: dict[str, Any] = json.loads(result.stdout)
    return schema


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_document_has_a_schema_that_says_what_fields_mean(document: str) -> None:
    schema = printed(document)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"].lower() == document
    assert schema["description"]
    assert schema["type"] == "object"
    assert "$id" not in schema


def test_a_schema_knows_keys_units_and_bounds() -> None:
    schema = printed("workload")
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"apiVersion", "kind", "metadata", "spec"}
    mean = schema["$defs"]["SampleBytes"]["properties"]["mean"]
    assert {branch["type"] for branch in mean["anyOf"]} == {"integer", "string"}
    assert mean["description"] == "Mean payload bytes of a sample."
    assert "title" not in mean
    assert schema["$defs"]["Dataset"]["properties"]["samples"]["exclusiveMinimum"] == 0


def test_storage_keys_are_spelt_as_kubernetes_spells_them() -> None:
    assert "claimName" in printed("storagetarget")["$defs"]["Pvc"]["properties"]


def test_the_same_bytes_come_out_of_every_process(tmp_path: Path) -> None:
    outputs = []
    for seed in ("1", "2"):
        path = tmp_path / seed
        subprocess.run(
            [sys.executable, "-m", "bench", "schema", "run", "-o", str(path)],
            check=True,
            env={"PYTHONHASHSEED": seed},
        )
        outputs.append(path.read_bytes())
    assert outputs[0] == outputs[1]
    assert outputs[0].endswith(b"}\n")


def test_a_file_that_cannot_be_written_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "schema", "run", "-o", "/proc/none/x"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("bench: error: /proc/none/x: cannot be written: ")
