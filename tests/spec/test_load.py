"""Documents are read strictly; every problem of a file is one line that says where and what."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import BenchError, DocumentError, UsageError
from bench.spec.documents import Workload
from bench.spec.draft import draft_of, validated
from bench.spec.load import load_requirements, load_storage, load_workload

Problems = Callable[..., list[str]]

WORKLOAD = """\
apiVersion: bench/v1alpha1
kind: Workload
metadata:
  name: x
spec:
  dataset:
    format: raw
    samples: 10
    sample_bytes:
      mean: 4KiB
  batch_size: 2
  accelerators:
    h100:
      step_seconds: 20ms
"""

STORAGE = """\
apiVersion: bench/v1alpha1
kind: StorageTarget
metadata:
  name: s
spec:
  directory:
    path: ./data
"""

REQUIREMENTS = """\
apiVersion: bench/v1alpha1
kind: Requirements
metadata:
  name: r
spec:
  requirements:
    - workload: unet3d
      target: fast
      accelerator: h100
      max_stall_ratio: 0.05
      min_throughput: 2GB/s
"""

LOADERS = {
    "workload": (WORKLOAD, load_workload),
    "storage": (STORAGE, load_storage),
    "requirements": (REQUIREMENTS, load_requirements),
}


@pytest.fixture
def problems(here: Path) -> Callable[..., list[str]]:
    """Return a function: the problems of a document in which `old` was replaced by `new`."""

    def find(old: str = "", new: str = "", *, kind: str = "workload") -> list[str]:
        text, load = LOADERS[kind]
        assert old in text
        (here / "x.yaml").write_text(text.replace(old, new, 1) if old else text + new)
        with pytest.raises(DocumentError) as caught:
            load("x.yaml")
        return caught.value.problems

    return find


NAME_RULE = "must be a name of lower-case letters, digits and inner dashes, at most 63 long"
UNITS = "B, KB, MB, GB, TB, PB, EB, kB, KiB, MiB, GiB, TiB, PiB, EiB, Ki, Mi, Gi, Ti, Pi, Ei"

CASES = [
    # kind, old, new, messages
    (
        "workload",
        "samples: 10",
        "samples: -3",
        "8: spec.dataset.samples: must be greater than 0 (got -3)",
    ),
    (
        "workload",
        "samples: 10",
        "samples: 0",
        "8: spec.dataset.samples: must be greater than 0 (got 0)",
    ),
    (
        "workload",
        "samples: 10",
        "samples: 1.5",
        "8: spec.dataset.samples: must be a whole number (got 1.5)",
    ),
    (
        "workload",
        "samples: 10",
        "samples: true",
        "8: spec.dataset.samples: must be a whole number (got true)",
    ),
    (
        "workload",
        "samples: 10",
        "samples: '10'",
        "8: spec.dataset.samples: must be a whole number (got '10')",
    ),
    (
        "workload",
        "samples: 10",
        "samples: 010",
        "8: spec.dataset.samples: must be a whole number (got '010')",
    ),
    (
        "workload",
        "samples: 10",
        "samples: 1:30",
        "8: spec.dataset.samples: must be a whole number (got '1:30')",
    ),
    (
        "workload",
        "samples: 10",
        "samples: 99999999999999999999",
        "8: spec.dataset.samples: must be at most 1000000000000 (got 99999999999999999999)",
    ),
    (
        "workload",
        "samples: 10",
        "samples:",
        "8: spec.dataset.samples: must be a whole number (got nothing)",
    ),
    (
        "workload",
        "samples: 10",
        "samples: [1]",
        "8: spec.dataset.samples: must be a whole number (got a list)",
    ),
    (
        "workload",
        "samples: 10",
        "sampels: 10",
        "6: spec.dataset.samples: is missing",
        "8: spec.dataset.sampels: unknown key; did you mean samples?",
    ),
    (
        "workload",
        "  batch_size: 2",
        "  batch_size: 2\n  xyzzy: 1",
        (
            "12: spec.xyzzy: unknown key; known keys are source, dataset, access, batch_size, "
            "accelerators, reader_threads, decode"
        ),
    ),
    (
        "workload",
        "  batch_size: 2",
        "  batch_size: 2\n  batch_size: 3",
        "12: spec.batch_size: given twice (first on line 11)",
    ),
    (
        "workload",
        "  batch_size: 2",
        "  batch_size: 2\n  batchSize: 3",
        "12: spec.batchSize: given twice (also as batch_size)",
    ),
    ("workload", "  batch_size: 2\n", "", "5: spec.batch_size: is missing"),
    (
        "workload",
        "format: raw",
        "format: rwa",
        "7: spec.dataset.format: must be npz, tfrecord, jpeg or raw (got 'rwa')",
    ),
    (
        "workload",
        "mean: 4KiB",
        "mean: 4QB",
        (
            "10: spec.dataset.sample_bytes.mean: has the unknown unit 'QB'; known units are "
            f"{UNITS} (got '4QB')"
        ),
    ),
    (
        "workload",
        "mean: 4KiB",
        "mean: -4KiB",
        "10: spec.dataset.sample_bytes.mean: must be greater than 0 (got '-4KiB')",
    ),
    (
        "workload",
        "mean: 4KiB",
        "mean: large",
        "10: spec.dataset.sample_bytes.mean: must be a size, such as 2GiB or 500MB (got 'large')",
    ),
    (
        "workload",
        "mean: 4KiB",
        "mean: true",
        "10: spec.dataset.sample_bytes.mean: must be a size, such as 2GiB or 500MB (got true)",
    ),
    (
        "workload",
        "mean: 4KiB",
        "mean: 0.3KB1",
        "10: spec.dataset.sample_bytes.mean: must be a size, such as 2GiB or 500MB (got '0.3KB1')",
    ),
    (
        "workload",
        "mean: 4KiB",
        "mean: 0.0001KB",
        "10: spec.dataset.sample_bytes.mean: must be a whole number of bytes (got '0.0001KB')",
    ),
    (
        "workload",
        "mean: 4KiB",
        "mean: 1e300",
        "10: spec.dataset.sample_bytes.mean: must be at most 9223372036854775807 (got 1e+300)",
    ),
    (
        "workload",
        "mean: 4KiB",
        "mean: 9e900EiB",
        "10: spec.dataset.sample_bytes.mean: must be at most 9223372036854775807 (got '9e900EiB')",
    ),
    (
        "workload",
        "step_seconds: 20ms",
        "step_seconds: 0",
        "14: spec.accelerators.h100.step_seconds: must be greater than 0 (got 0)",
    ),
    (
        "workload",
        "step_seconds: 20ms",
        "step_seconds: .inf",
        "14: spec.accelerators.h100.step_seconds: must be a finite number (got inf)",
    ),
    (
        "workload",
        "step_seconds: 20ms",
        "step_seconds: 20msec",
        (
            "14: spec.accelerators.h100.step_seconds: has the unknown unit 'msec'; known units are "
            "s, ms, us, ns, m, h (got '20msec')"
        ),
    ),
    (
        "workload",
        "h100:\n",
        "H_100:\n",
        f"13: spec.accelerators.H_100: {NAME_RULE} (got 'H_100')",
    ),
    (
        "workload",
        "\n    h100:\n      step_seconds: 20ms",
        " {}",
        "12: spec.accelerators: must not be empty (got a mapping)",
    ),
    (
        "workload",
        "\n    h100:\n      step_seconds: 20ms",
        " h100",
        "12: spec.accelerators: must be a mapping (got 'h100')",
    ),
    (
        "workload",
        "\n    format: raw\n    samples: 10\n    sample_bytes:\n      mean: 4KiB",
        "",
        "6: spec.dataset: must be a mapping (got nothing)",
    ),
    ("workload", "  name: x", "  name: X y", f"4: metadata.name: {NAME_RULE} (got 'X y')"),
    (
        "workload",
        "  name: x",
        "  name: x\n  labels: {rack: 12}",
        "5: metadata.labels.rack: must be text; put it in quotes (got 12)",
    ),
    (
        "workload",
        "  batch_size: 2",
        "  batch_size: 2\n  access: {drain: no}",
        "12: spec.access.drain: must be true or false (got 'no')",
    ),
    (
        "workload",
        "format: raw",
        "format: npz\n    samples_per_file: 2",
        "6: spec.dataset: a npz file holds one sample; set samples_per_file: 1",
    ),
    (
        "storage",
        "",
        "  pvc: {claimName: c}\n",
        (
            "5: spec: give exactly one of directory, pvc, ephemeral, object, simulated "
            "(found directory and pvc)"
        ),
    ),
    (
        "storage",
        "  directory:\n    path: ./data\n",
        "  io: {}\n",
        "5: spec: give exactly one of directory, pvc, ephemeral, object, simulated (found none)",
    ),
    ("storage", "path: ./data", "path: ''", "7: spec.directory.path: must not be empty (got '')"),
    (
        "storage",
        "",
        "  io: {block_bytes: 1KiB, threads: 5000, mode: odirect}\n",
        "8: spec.io.mode: must be direct, buffered or dontcache (got 'odirect')",
        "8: spec.io.block_bytes: must be at least 4096 (got '1KiB')",
        "8: spec.io.threads: must be at most 1024 (got 5000)",
    ),
    (
        "storage",
        "",
        "  pod: {tolerations: [{key: {}}]}\n",
        "8: spec.pod.tolerations.0.key: must be text or a whole number (got a mapping)",
    ),
    (
        "storage",
        "directory:\n    path: ./data",
        "object: {url: bucket}",
        "6: spec.object.url: must be a URL, such as s3://bucket/prefix (got 'bucket')",
    ),
    (
        "storage",
        "directory:\n    path: ./data",
        "object: {url: 's3://b', credentials: {secret_key: abc}}",
        "6: spec.object.credentials.secret_key: unknown key; did you mean secretName?",
    ),
    (
        "storage",
        "directory:\n    path: ./data",
        "pvc: {storageClassName: fast}",
        "6: spec.pvc: storageClassName needs size",
    ),
    (
        "storage",
        "directory:\n    path: ./data",
        "simulated: {bandwidth_bytes_per_second: fast}",
        "6: spec.simulated.bandwidth_bytes_per_second: must be a rate, such as 3GB/s (got 'fast')",
    ),
    (
        "requirements",
        "max_stall_ratio: 0.05",
        "max_stall_ratio: 5",
        "10: spec.requirements.0.max_stall_ratio: must be at most 1 (got 5)",
    ),
    (
        "requirements",
        "accelerator: h100",
        "acelerator: h100",
        "7: spec.requirements.0.accelerator: is missing",
        "9: spec.requirements.0.acelerator: unknown key; did you mean accelerator?",
    ),
]


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{i}-{c[2].strip()[:30]}" for i, c in enumerate(CASES)]
)
def test_a_bad_document_is_refused_with_file_line_path_and_reason(
    problems: Problems, case: tuple[str, ...]
) -> None:
    kind, old, new, *messages = case
    assert problems(old, new, kind=kind) == [f"x.yaml:{m}" for m in messages]


def test_all_problems_of_a_file_are_told_at_once_in_the_order_of_the_file(
    here: Path,
) -> None:
    text = WORKLOAD.replace("samples: 10", "samples: -3").replace("4KiB", "4QB")
    text = text.replace("batch_size: 2", "batch_sise: 2").replace("20ms", "-1")
    (here / "x.yaml").write_text(text)
    with pytest.raises(DocumentError) as caught:
        load_workload("x.yaml")
    lines = [int(p.split(":")[1]) for p in caught.value.problems]
    assert lines == [5, 8, 10, 11, 14]
    assert caught.value.exit_code == 2


TEXTS = [
    ("", "x.yaml: is empty; a Workload document was expected"),
    ("---\n# nothing\n", "x.yaml: is empty; a Workload document was expected"),
    ("- a\n", "x.yaml:1: must be a mapping (got a list)"),
    ("a: [1\n", "x.yaml:2: not valid YAML: expected ',' or ']', but got '<stream end>'"),
    (
        "a:\n\tb: 1\n",
        "x.yaml:2: not valid YAML: found character '\\t' that cannot start any token",
    ),
    ("a: \x00\n", "x.yaml:1: not valid YAML: character 0"),
    ("kind: &k Workload\nother: *k\n", "x.yaml:2: aliases (*name) are not taken; write the"),
    ("a: !!python/name:os.system x\n", "x.yaml:1: tags (tag:yaml.org,2002:python/name:os.sys"),
    ("? [a]\n: b\n", "x.yaml:1: a key must be text"),
    ("a: " + "[" * 50 + "]" * 50, "x.yaml:1: nested more than 32 levels deep"),
    ("a: " + "[" * 5000 + "]" * 5000, "x.yaml:1: nested more than 32 levels deep"),
    ("metadata: {name: x}\n", "x.yaml:1: kind: is missing; set kind: Workload"),
    (WORKLOAD.replace("kind: Workload", "knd: Workload"), "x.yaml:1: kind: is missing; did you"),
    (STORAGE, "x.yaml:2: kind: must be Workload (got 'StorageTarget')"),
    (
        WORKLOAD.replace("kind: Workload", "kind: Worklod"),
        "x.yaml:2: kind: must be Workload (got 'Worklod'); did you mean Workload?",
    ),
    (
        WORKLOAD.replace("v1alpha1", "v2") + "  other: 1\n",
        "x.yaml:1: apiVersion: must be bench/v1alpha1 (got 'bench/v2')",
    ),
    (WORKLOAD + "---\n" + WORKLOAD, "x.yaml: holds 2 Workload documents (lines 1 and 16); keep"),
]


@pytest.mark.parametrize(
    ("text", "start"), TEXTS, ids=[f"{i}-{m[7:40]}" for i, (_, m) in enumerate(TEXTS)]
)
def test_a_text_that_is_no_document_is_refused_in_one_line(
    here: Path, text: str, start: str
) -> None:
    (here / "x.yaml").write_text(text)
    with pytest.raises(DocumentError) as caught:
        load_workload("x.yaml")
    first, *rest = caught.value.problems
    assert first.startswith(start)
    assert "\n" not in first
    assert all("apiVersion" not in line for line in rest)


def test_a_file_may_hold_one_document_of_each_kind(here: Path) -> None:
    (here / "both.yaml").write_text(WORKLOAD + "---\n" + STORAGE + "---\n" + REQUIREMENTS)
    assert load_workload("both.yaml").metadata.name == "x"
    assert load_storage("both.yaml").metadata.name == "s"
    assert load_requirements("both.yaml").spec.requirements[0].min_throughput == 2e9


def test_lines_count_from_the_start_of_the_file_in_a_second_document(here: Path) -> None:
    text = STORAGE + "---\n" + WORKLOAD.replace("samples: 10", "samples: -1")
    (here / "both.yaml").write_text(text)
    with pytest.raises(DocumentError) as caught:
        load_workload("both.yaml")
    number = text.splitlines().index("    samples: -1") + 1
    assert caught.value.problems == [
        f"both.yaml:{number}: spec.dataset.samples: must be greater than 0 (got -1)"
    ]


def test_keys_are_taken_in_camel_case_and_snake_case(here: Path) -> None:
    camel = WORKLOAD.replace("sample_bytes", "sampleBytes").replace("batch_size", "batchSize")
    camel = camel.replace("apiVersion", "api_version").replace("4KiB", "-4KiB")
    (here / "x.yaml").write_text(camel)
    with pytest.raises(DocumentError) as caught:
        load_workload("x.yaml")
    assert caught.value.problems == [
        "x.yaml:10: spec.dataset.sample_bytes.mean: must be greater than 0 (got '-4KiB')"
    ]
    (here / "x.yaml").write_text(camel.replace("-4KiB", "4KiB"))
    assert load_workload("x.yaml").spec.batch_size == 2


def test_a_file_that_cannot_be_read_is_named(here: Path) -> None:
    (here / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    (here / "big.yaml").write_text("# " + "x" * 2**20)
    for name, problem in {
        "bytes.yaml": "bytes.yaml: is not UTF-8 text; save it as UTF-8",
        "big.yaml": "big.yaml: is larger than 1048576 bytes; name a document",
    }.items():
        with pytest.raises(UsageError) as caught:
            load_workload(name)
        assert str(caught.value) == problem
    with pytest.raises(UsageError) as caught:
        load_requirements("none.yaml")
    assert (
        str(caught.value) == "none.yaml: cannot be read: No such file or directory; check the path"
    )


@given(st.text(max_size=200))
def test_any_text_ends_in_a_deliberate_error_and_nothing_else(text: str) -> None:
    with pytest.raises(BenchError):
        validated(draft_of(text, Workload, "x"), Workload)


@given(st.sampled_from(WORKLOAD.splitlines()), st.text(max_size=20))
def test_any_change_of_a_line_gives_a_document_or_a_deliberate_error(line: str, new: str) -> None:
    text = WORKLOAD.replace(line, line.split(":", maxsplit=1)[0] + ": " + new, 1)
    with contextlib.suppress(DocumentError):
        assert validated(draft_of(text, Workload, "x"), Workload).kind == "Workload"
