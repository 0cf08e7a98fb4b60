"""`bench approve`, `evidence`, `reproduce` and `render admission` as a person uses them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from made_evidence import GOOD, run, three_occasions

from bench.cli.main import main
from bench.policy.document import parse_approval
from bench.results.store import open_store
from bench.spec.load import load_requirements

ROOT = Path(__file__).parents[2]
BAD = tuple(3 * value for value in GOOD)

REQUIREMENTS = """\
apiVersion: bench/v1alpha1
kind: Requirements
metadata: {name: training}
spec:
  requirements:
    - {workload: unet3d, target: shared-fs, accelerator: h100, max_stall_ratio: 0.02}
  review_after_days: 36500
"""


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """Run the command, in this process, in a directory with requirements and a store."""
    (tmp_path / "requirements.yaml").write_text(REQUIREMENTS)
    monkeypatch.chdir(tmp_path)

    def bench(*words: str) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(list(words))
        said = capsys.readouterr()
        return Done(stop.value.code, said.out, said.err)

    return bench


@pytest.fixture
def store(tmp_path):
    """Put runs into the store; return their ids."""

    def store(runs):
        opened = open_store(str(tmp_path / "bench-results"))
        for item in runs:
            opened.write_run(item)
        return [item.id for item in runs]

    return store


def approve(bench, *words: str):
    return bench("approve", "requirements.yaml", *words)


def test_good_runs_leave_two_documents_and_status_0(bench, store, tmp_path) -> None:
    ids = store(three_occasions())
    done = approve(bench, *ids, "--by", "Eva Example")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("approved: storage class fast (target shared-fs) for unet3d")
    (folder,) = (tmp_path / "approvals/training").iterdir()
    assert sorted(p.name for p in folder.iterdir()) == ["approval.json", "approval.md"]
    approval = parse_approval((folder / "approval.json").read_bytes(), place="x")
    assert approval.approved_by == "Eva Example"
    assert approval.id == folder.name


@pytest.mark.parametrize(
    ("runs", "status", "words"),
    [
        (lambda: three_occasions(BAD), 1, "not approved: storage class fast"),
        (lambda: three_occasions(division="exploratory"), 3, "exploratory"),
        (lambda: [run((0.001, 0.035, 0.004, 0.030, 0.012))], 3, "undecided"),
        (lambda: [run(status="invalid", repeat_changes={"status": "invalid"})], 4, "invalid"),
    ],
    ids=["not-met", "refused", "inconclusive", "invalid"],
)
def test_each_refusal_has_its_status_and_reason(bench, store, runs, status, words) -> None:
    store(runs())
    done = approve(bench, "bench-results")
    assert done.returncode == status, done.stderr
    assert words in done.stdout
    assert "valid until" not in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.yaml", "x"], "none.yaml: cannot be read"),
        (["requirements.yaml", "0123456789"], "no run of that id"),
        (["requirements.yaml", "empty"], "empty: holds no run"),
        (["requirements.yaml"], "missing argument"),
        (["requirements.yaml", "requirements.yaml"], "is not complete JSON"),
    ],
)
def test_bad_input_ends_with_2_and_one_line(bench, tmp_path, words, message) -> None:
    (tmp_path / "empty").mkdir()
    done = bench("approve", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr.lower() + done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_edited_run_is_not_evidence(bench, store, tmp_path) -> None:
    (one, *_) = store(three_occasions(BAD))
    (path,) = tmp_path.glob(f"bench-results/*/*/{one}/run.json")
    path.write_text(path.read_text().replace('"ratio": 0.03', '"ratio": 0.01'))
    done = approve(bench, "bench-results")
    assert done.returncode == 2
    assert "does not match its checksum" in done.stderr


def test_nothing_is_overwritten(bench, store, tmp_path) -> None:
    store(three_occasions())
    (tmp_path / "kept.md").write_text("mine")
    done = approve(bench, "bench-results", "-o", "kept.md")
    assert done.returncode == 2
    assert (tmp_path / "kept.md").read_text() == "mine"


def test_json_is_the_stored_document_and_nothing_else(bench, store, tmp_path) -> None:
    store(three_occasions())
    done = approve(bench, "bench-results", "--json", "-o", "a.json", "-o", "b.md")
    assert done.stdout == (tmp_path / "a.json").read_text()
    assert (tmp_path / "b.md").read_text().startswith("# Storage approval: training")


def test_another_suffix_is_refused(bench, store) -> None:
    store(three_occasions())
    done = approve(bench, "bench-results", "-o", "x.pdf")
    assert done.returncode == 2
    assert "no format of an approval" in done.stderr


def test_the_policy_of_an_approval_allows_its_class(bench, store, tmp_path) -> None:
    store(three_occasions())
    done = approve(bench, "bench-results", "--policy", "policy.yaml", "--location", "wiki/x")
    assert done.returncode == 0, done.stderr
    policy, binding = yaml.safe_load_all((tmp_path / "policy.yaml").read_text())
    assert policy["kind"] == "ValidatingAdmissionPolicy"
    assert '"fast"' in json.dumps(policy).replace('\\"', '"')
    again = bench("render", "admission", "approvals", "--location", "wiki/x")
    assert again.stdout == (tmp_path / "policy.yaml").read_text()
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]


def test_a_provisional_approval_is_enforced_only_on_request(bench, store) -> None:
    store([run()])
    assert "provisional: storage class fast" in approve(bench, "bench-results").stdout
    assert "Nothing is allowed" in bench("render", "admission", "approvals").stdout
    allowed = bench("render", "admission", "approvals", "--allow-provisional").stdout
    assert "Nothing is allowed" not in allowed


def test_cost_needs_hours_or_a_rate_and_is_said(bench, store) -> None:
    store(three_occasions())
    done = approve(bench, "bench-results", "--gpus", "64", "--gpu-hour-rate", "2.5")
    assert "at 64 GPUs that train unet3d around the clock, fast wastes" in " ".join(
        done.stdout.split()
    )


@pytest.fixture
def keys(tmp_path):
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = ed25519.Ed25519PrivateKey.generate()
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (tmp_path / "key.pub").write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )


def test_signed_evidence_is_verified_down_to_the_runs(bench, store, tmp_path, keys) -> None:
    ids = store(three_occasions())
    approve(bench, "bench-results", "-o", "here")
    done = bench("evidence", "sign", "here/approval.json", "-k", "key.pem")
    assert done.stdout == "here/evidence.dsse.json\n"
    verify = ["evidence", "verify", "here/evidence.dsse.json", "-k", "key.pub"]
    done = bench(*verify)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("same ") == 5
    (path,) = tmp_path.glob(f"bench-results/*/*/{ids[0]}/run.json")
    path.rename(tmp_path / "away")
    done = bench(*verify)
    assert done.returncode == 3
    assert f"missing    shared-fs/unet3d/{ids[0]}/run.json" in done.stdout
    path.write_text("changed")
    assert bench(*verify).returncode == 4


def test_a_signature_is_not_written_over_another(bench, store, keys) -> None:
    store(three_occasions())
    approve(bench, "bench-results", "-o", "here")
    sign = ["evidence", "sign", "here/approval.json", "-k", "key.pem"]
    assert [bench(*sign).returncode, bench(*sign).returncode] == [0, 2]


@pytest.mark.slow
def test_a_run_is_reproduced_and_compared(bench, tmp_path) -> None:
    # unthrottled: no emulated accelerator that could be late on a busy machine
    cell = ["smoke", "-s", "simulated", "--set", "storage.simulated.latency_seconds=0.001"]
    made = bench("run", *cell, "-a", "none", "--repeats", "2", "--steps", "10", "--json")
    assert made.returncode == 0, made.stderr
    first = json.loads(made.stdout)["id"]
    shown = bench("reproduce", first, "--dry-run").stdout
    assert shown.startswith("bench run smoke -s simulated -a none --steps 10 --repeats 2 --set ")
    done = bench("reproduce", first)
    words = {0: "agrees with", 1: "differs from", 3: "undecided"}  # which is the machine's affair
    assert words[done.returncode] in done.stdout.splitlines()[0], done.stderr
    ids = {path.parent.name for path in tmp_path.glob("bench-results/*/*/*/run.json")}
    assert len(ids) == 2
    (again,) = ids - {first}
    assert again in done.stdout
    assert "not the same cell" not in done.stdout


def test_an_exploratory_run_whose_documents_changed_is_not_passed_for_declared(
    bench, store
) -> None:
    (one,) = store([run(division="exploratory")])  # its target is in no folder here
    done = bench("reproduce", one, "--dry-run")
    assert done.returncode == 2
    assert "was exploratory, and its storage document is not as it was" in done.stderr


def test_a_certified_run_is_reproduced_from_its_own_documents(bench, store) -> None:
    (one,) = store([run(storage=run().storage | {"io": {}, "pod": {}})])
    shown = bench("reproduce", one, "--dry-run").stdout.split()
    assert shown[:3] == ["bench", "run", "unet3d"]
    assert shown[4].endswith("storage.yaml")  # the target is in no folder here


def test_a_run_that_did_not_end_well_cannot_be_reproduced(bench, store) -> None:
    (one,) = store([run(status="failed")])
    done = bench("reproduce", one)
    assert done.returncode == 2
    assert "is failed" in done.stderr


@pytest.mark.parametrize(
    "path", sorted((ROOT / "requirements").glob("*.yaml")), ids=lambda p: p.stem
)
def test_the_examples_load(path: Path) -> None:
    requirements = load_requirements(path)
    assert requirements.metadata.name == path.stem
    assert requirements.metadata.description


def test_requirements_that_demand_nothing_are_refused(bench, tmp_path) -> None:
    path = tmp_path / "requirements.yaml"
    path.write_text(REQUIREMENTS.replace(", max_stall_ratio: 0.02", ""))
    done = approve(bench, ".")
    assert done.returncode == 2
    assert "demands nothing" in done.stderr
    double = REQUIREMENTS.splitlines()
    path.write_text("\n".join([*double[:6], double[5], *double[6:]]))
    assert "twice" in approve(bench, ".").stderr
