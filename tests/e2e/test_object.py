"""Runs and data sets on a real S3 server, through the command: bytes, faults, errors, secrets."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bench.spec.documents import ObjectPrefix
from bench.storage.object.access import open_access
from bench.storage.object.engines.target import engine_version
from bench.storage.object.store import ObjectStore
from tests.servers.fault_proxy import Held, proxy, seeded
from tests.servers.fixtures import bucket, s3, s3_server
from tests.servers.versitygw import running

__all__ = ["bucket", "s3", "s3_server"]

HOST_GUARDS = {"noise", "emulation_fidelity"}
MOST_TRIES = 4


def target(bucket: str, url: str) -> list[str]:
    return [
        "-s", "object-s3", "--set", f"storage.object.url=s3://{bucket}/pre",
        "--set", f"storage.object.endpoint_url={url}",
    ]  # fmt: skip


def small(*words: str, epochs: int = 1) -> list[str]:
    return [
        "--set", f"workload.access.epochs={epochs}",
        "--set", "workload.dataset.sample_bytes.mean=1MiB", "--dataset-size", "64MiB",
        "--set", "storage.io.block_bytes=1MiB", "--set", "plan.device.copy=none", *words,
    ]  # fmt: skip


def of_size(sample: str, total: str) -> list[str]:
    return ["--set", f"workload.dataset.sample_bytes.mean={sample}", "--dataset-size", total]


def objects(s3, bucket: str) -> dict[str, int]:
    root = s3.root / bucket
    return {
        str(path.relative_to(root)): path.stat().st_size
        for path in root.rglob("*")
        if path.is_file() and not str(path.relative_to(root)).startswith(".sgwtmp")
    }


def test_a_run_makes_its_data_set_and_measures_it(bench, s3, bucket):
    done = bench("run", "smoke", *target(bucket, s3.url), *small("-a", "none"), "--json")
    assert done.code == 0, done.stderr
    run = done.run
    repeat = run["repeats"][0]
    assert repeat["bytes_read"] == 64 * 2**20
    assert repeat["errors"] == dict.fromkeys(repeat["errors"], 0)
    assert run["plan"]["engine"] == "http"
    assert repeat["cache"]["verdict"] == "cold-verified"
    facts = run["storage"]["facts"]
    assert facts["addresses"] == ["127.0.0.1"]
    assert facts["tls"] is None
    assert facts["credentials"] == "env"
    names = objects(s3, bucket)
    assert sum(name.endswith(".bin") for name in names) == 64
    assert not [name for name in names if "/.journal/" in name]
    again = bench("prepare", "smoke", *target(bucket, s3.url), *small())
    assert again.stdout.startswith("found complete: 64 objects")
    verified = bench("prepare", "smoke", *target(bucket, s3.url), *small(), "--verify")
    assert verified.stdout.startswith("verified: 64 objects"), verified.stderr


def test_tuning_stores_its_curve_and_reads_with_its_knee(bench, s3, bucket):
    done = bench(
        "run", "smoke", *target(bucket, s3.url), *small("-a", "none", epochs=30), "--tune", "--json"
    )
    assert done.code == 0, done.stderr
    curve = done.run["storage"]["facts"]["tuning"]
    assert [point["in_flight"] for point in curve] == [4, 8, 16, 32, 64]
    (chosen,) = [point for point in curve if point["chosen"]]
    assert done.run["plan"]["threads"] == chosen["in_flight"]
    assert all(point["bytes_per_second"] > 0 for point in curve)


def test_a_changed_object_is_named(bench, s3, bucket):
    assert bench("prepare", "smoke", *target(bucket, s3.url), *small()).code == 0
    store = ObjectStore(open_access(ObjectPrefix(url=f"s3://{bucket}/pre", endpoint_url=s3.url)))
    (victim,) = [e for e in store.entries() if e.name.endswith("part-00000007.bin")]
    store.put(victim.name, b"x" * victim.size)
    done = bench("run", "smoke", *target(bucket, s3.url), *small())
    assert done.code == 2
    assert "part-00000007.bin was written anew" in done.stderr
    remade = bench("prepare", "smoke", *target(bucket, s3.url), *small(), "--remake")
    assert remade.code == 0, remade.stderr


def test_foreign_objects_are_left_alone(bench, s3, bucket):
    store = ObjectStore(open_access(ObjectPrefix(url=f"s3://{bucket}/pre", endpoint_url=s3.url)))
    store.put("other/thing", b"mine")
    made = bench("prepare", "smoke", *target(bucket, s3.url), *small())
    directory = made.stdout.splitlines()[1].rpartition("/")[2]
    store.put(f"{directory}/data/mine.txt", b"mine")
    refused = bench("prepare", "smoke", *target(bucket, s3.url), *small(), "--remake")
    assert refused.code == 2
    assert "bench did not make it" in refused.stderr
    assert store.get("other/thing") == store.get(f"{directory}/data/mine.txt") == b"mine"


@pytest.mark.parametrize("engine", ["http", "boto3"])
def test_one_request_in_twenty_fails_and_every_byte_arrives(bench, s3, bucket, engine):
    assert bench("prepare", "smoke", *target(bucket, s3.url), *small()).code == 0
    faults = ["status 503 SlowDown", "status 500 InternalError", "reset", "short"]
    with proxy(s3, seeded(11, 0.05, faults)) as between:
        done = bench(
            "run", "smoke", *target(bucket, between.url),
            *small("-a", "none", "--engine", engine, epochs=4), "--json",
        )  # fmt: skip
        assert done.code == 0, done.stderr
        repeat = done.run["repeats"][0]
        assert len(between.faults) >= 5
        assert repeat["errors"]["retries"] == len(between.faults)
        slow = sum("SlowDown" in fault for fault in between.faults)
        assert repeat["errors"]["slow_downs"] == slow
        assert repeat["bytes_read"] == 4 * 64 * 2**20
        assert repeat["errors"]["reads_failed"] == 0


def test_a_read_that_fails_for_good_names_the_object(bench, s3, bucket):
    assert bench("prepare", "smoke", *target(bucket, s3.url), *small()).code == 0
    with proxy(s3, lambda n: "status 403 AccessDenied" if n >= 20 else "pass") as between:
        done = bench("run", "smoke", *target(bucket, between.url), *small("-a", "none"))
    assert done.code == 5
    assert re.search(r"bench-smoke-\w+/data/00000/part-\d+\.bin", done.stderr)
    assert "access is denied (HTTP 403)" in done.stderr


def wrong_key(environment):
    return environment | {"AWS_ACCESS_KEY_ID": "AKNOBODYKNOWSTHISONE"}


def wrong_secret(environment):
    return environment | {"AWS_SECRET_ACCESS_KEY": "x" * 40}


def no_credentials(environment):
    return {k: v for k, v in environment.items() if k not in
            ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words", "expected"),
    [
        (wrong_key, [], "does not know the access key"),
        (wrong_secret, [], "refuses the signature"),
        (no_credentials, [], "there are no credentials"),
        (None, ["--set", "storage.object.url=s3://nosuchbucket/x"], "bucket does not exist"),
        (None, ["--set", "storage.object.endpoint_url=http://127.0.0.1:9"], "no connection"),
        (None, ["--set", "storage.object.endpoint_url=http://nosuch.invalid"], "resolved"),
        (None, ["--set", "storage.object.url=gs://bucket/x"], "is not s3://BUCKET/PREFIX"),
        (None, ["--set", "storage.object.endpoint_url=ftp://x"], "endpoint"),
        (None, ["--set", "storage.object.region=eu-north-1"], "region"),
    ],
)
def test_what_is_wrong_with_a_target_is_said_before_anything_is_made(
    bench, s3, bucket, monkeypatch, change, words, expected
):
    if change is not None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        for name, value in change(s3.environment).items():
            monkeypatch.setenv(name, value)
    begin = time.monotonic()
    done = bench("prepare", "smoke", *target(bucket, s3.url), *words, *small())
    assert done.code == 2, done.stdout + done.stderr
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert time.monotonic() - begin < 60
    assert objects(s3, bucket) == {}


def test_no_output_holds_a_secret(bench, s3, bucket, monkeypatch):
    token = "TOKENTOKENTOKEN" + "z" * 40
    outputs = []
    for words in ([], ["--engine", "boto3"]):
        done = bench("run", "smoke", *target(bucket, s3.url), *small(*words))
        outputs += [done.stdout, done.stderr]
    monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    refused = bench("run", "smoke", *target(bucket, s3.url), *small())
    outputs += [refused.stdout, refused.stderr]
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    child = bench.start(
        "run", "smoke", *target(bucket, s3.url), *small("--duration", "2", epochs=1000)
    )
    while child.poll() is None:
        for pid in [child.pid, *bench.children(child.pid)]:
            outputs.append(bench.command_line(pid))
        time.sleep(0.05)
    outputs += child.communicate()
    assert any("bench.loader.reader" in words for words in outputs)
    files = [path for path in bench.results.rglob("*") if path.is_file()]
    assert any(path.name == "run.json" for path in files)
    everything = "\n".join(outputs).encode() + b"".join(path.read_bytes() for path in files)
    for secret in (s3.secret_key, s3.access_key, token):
        assert secret.encode() not in everything


def test_a_prepare_that_is_killed_leaves_uploads_that_the_next_one_aborts(bench, s3, bucket):
    words = ["prepare", "smoke", *target(bucket, s3.url), *of_size("64MiB", "512MiB")]
    store = ObjectStore(open_access(ObjectPrefix(url=f"s3://{bucket}/pre", endpoint_url=s3.url)))
    child = bench.start(*words)
    bench.wait_for(lambda: len(store.uploads("")) >= 2)
    session = bench.wait_for(
        lambda: [e for e in store.entries() if e.name.endswith(".journal/session.json")]
    )
    journaled = bench.wait_for(lambda: json.loads(store.get(session[0].name))["uploads"])
    child.send_signal(signal.SIGKILL)
    child.communicate()
    left = store.uploads("")
    assert left
    assert set(journaled) <= {name for name, _ in left} | {e.name for e in store.entries()}
    done = bench(*words)
    assert done.code == 0, done.stderr
    assert store.uploads("") == []
    assert not [e.name for e in store.entries() if "/.journal/" in e.name]
    assert bench(*words, "--verify").code == 0


def test_an_interrupted_prepare_keeps_whole_objects_and_aborts_the_rest(bench, s3, bucket):
    words = ["prepare", "smoke", *target(bucket, s3.url), *of_size("12MiB", "768MiB")]
    store = ObjectStore(open_access(ObjectPrefix(url=f"s3://{bucket}/pre", endpoint_url=s3.url)))
    child = bench.start(*words)
    bench.wait_for(lambda: sum(e.name.endswith(".bin") for e in store.entries()) >= 4)
    child.send_signal(signal.SIGTERM)
    _, told = child.communicate(timeout=60)
    assert child.returncode == 130, told
    assert store.uploads("") == []
    before = {e.name: e.etag for e in store.entries() if e.name.endswith(".bin")}
    seen = {name: os.stat(s3.root / bucket / "pre" / name).st_mtime_ns for name in before}
    done = bench(*words)
    assert done.code == 0, done.stderr
    after = {name: os.stat(s3.root / bucket / "pre" / name).st_mtime_ns for name in before}
    assert after == seen


def test_two_makers_at_a_time_are_refused(bench, s3, bucket):
    words = ["prepare", "smoke", *target(bucket, s3.url), *of_size("64MiB", "2GiB")]
    store = ObjectStore(open_access(ObjectPrefix(url=f"s3://{bucket}/pre", endpoint_url=s3.url)))
    child = bench.start(*words)
    bench.wait_for(lambda: [e for e in store.entries() if e.name.endswith("session.json")])
    refused = [bench(*words), bench(*words, "--remake")]
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=60)
    for done in refused:
        assert done.code == 2
        assert f"process {child.pid} on" in done.stderr


def authority(directory: Path) -> tuple[Path, Path, Path]:
    """Make a private authority and a certificate of 127.0.0.1 that it signed."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def name(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.now(UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def certificate(subject, public, *, is_ca):
        made = (
            x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name("test ca"))
            .public_key(public).serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(public), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
                critical=False,
            )
        )  # fmt: skip
        if is_ca:
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            made = made.add_extension(usage, critical=True)
        else:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            made = made.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return made.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    files = tuple(directory / n for n in ("ca.pem", "server.pem", "server.key"))
    files[0].write_bytes(certificate("test ca", ca_key.public_key(), is_ca=True))
    files[1].write_bytes(certificate("server", key.public_key(), is_ca=False))
    files[2].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


def test_encrypted_connections_are_checked_against_a_private_authority(
    bench, s3, tmp_path, monkeypatch
):
    ca, certificate, key = authority(tmp_path)
    (tmp_path / "tls").mkdir()
    from tests.servers.versitygw import program

    with running(program(), tmp_path / "tls", tls=(certificate, key)) as server:
        server.bucket("encrypted")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        refused = bench("prepare", "smoke", *target("encrypted", server.url), *small())
        assert refused.code == 2
        assert "TLS handshake failed" in refused.stderr
        for engine in ("http", "boto3", "s3fs", "obstore", "s3torchconnector"):
            if engine != "http" and engine_version(engine) is None:
                continue
            done = bench(
                "run", "smoke", *target("encrypted", server.url),
                *small("-a", "none", "--engine", engine),
                "--set", f"storage.object.ca_bundle={ca}", "--json",
            )  # fmt: skip
            assert done.code == 0, done.stderr
            assert done.run["storage"]["facts"]["tls"].startswith("TLSv1.")
            assert done.run["repeats"][0]["bytes_read"] == 64 * 2**20


def storage_bound(num_steps, *, batch_bytes, bandwidth, step_seconds, latency=0.0):
    """Stall ratio of one rank on a pipe: batch i is there at (i + 1) transfers."""
    end = stall = 0.0
    for step in range(num_steps):
        start = max(latency + (step + 1) * batch_bytes / bandwidth, end)
        stall += start - end
        end = start + step_seconds
    return stall / end


@pytest.mark.parametrize(
    ("held", "epochs", "bandwidth", "cause"),
    [
        # One pipe of 200 MB/s; a batch of 8 x 1 MiB takes 42 ms, a step 20 ms.
        (Held(bytes_per_second=200e6), 8, 200e6, "storage_read"),
        # Eight requests of 1 MiB at a time, one batch, every 200 ms.
        (Held(latency_seconds=0.2), 4, 2**23 / 0.2, "storage_first_byte"),
    ],
)
def test_a_server_of_known_speed_gives_the_stall_that_follows(
    bench, s3, bucket, held, epochs, bandwidth, cause
):
    words = ["--set", "workload.batch_size=8", "--set", "storage.io.threads=8"]
    assert bench("prepare", "smoke", *target(bucket, s3.url), *small(*words)).code == 0
    with proxy(s3, held=held) as between:
        for _ in range(MOST_TRIES):
            done = bench(
                "run", "smoke", *target(bucket, between.url),
                *small("-a", "h100", epochs=epochs), *words, "--json",
            )  # fmt: skip
            assert done.code in (0, 4), done.stderr
            (repeat,) = done.run["repeats"]
            failed = {g["name"] for g in repeat["guards"] if g["status"] == "fail"}
            assert failed <= HOST_GUARDS, done.stderr
            if done.code == 0:
                break
        else:
            raise AssertionError(f"the host is too busy to measure: {done.stderr}")
    truth = storage_bound(8 * epochs, batch_bytes=2**23, bandwidth=bandwidth, step_seconds=0.02)
    assert repeat["stall"]["ratio"] == pytest.approx(truth, abs=0.01)
    causes = repeat["stall"]["causes"]
    assert causes[cause] / sum(causes.values()) >= 0.8, causes
