"""Signed evidence: what is accepted, and everything that must not be."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from made_evidence import approved, run

from bench.errors import InvalidMeasurement, UsageError
from bench.policy import attest

MAKERS = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 3072),
}


def private_pem(key, passphrase: bytes | None = None) -> bytes:
    lock = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)


def public(key):
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return attest.load_public_key(pem, place="key.pub")


@pytest.fixture(scope="module")
def payload() -> bytes:
    return attest.statement(approved([run()]), files={"approval.json": "a" * 64})


def signed(payload: bytes, key) -> bytes:
    return json.dumps(attest.sign(payload, key=key)).encode()


def test_the_encoding_is_the_published_one() -> None:
    # the test vector of the DSSE specification
    vector = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert attest.pae("http://example.com/HelloWorld", b"hello world") == vector


@pytest.mark.parametrize("kind", MAKERS)
def test_what_was_signed_is_verified(kind: str, payload: bytes) -> None:
    key = attest.load_private_key(private_pem(MAKERS[kind]()), passphrase=None, place="key")
    statement = attest.verify(signed(payload, key), keys=[public(key)], place="b")
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    names = [subject["name"] for subject in statement["subject"]]
    assert names == ["approval.json", f"shared-fs/unet3d/{run().id}/run.json"]
    assert statement["predicate"]["approved_by"] == "eva"


def test_one_of_several_trusted_keys_is_enough(payload: bytes) -> None:
    mine, other = MAKERS["ed25519"](), MAKERS["p256"]()
    attest.verify(signed(payload, mine), keys=[public(other), public(mine)], place="b")


def test_another_key_does_not_verify(payload: bytes) -> None:
    mine, other = MAKERS["ed25519"](), MAKERS["ed25519"]()
    with pytest.raises(InvalidMeasurement, match="no signature of a trusted key"):
        attest.verify(signed(payload, mine), keys=[public(other)], place="b")


def change_payload(envelope: dict) -> None:
    content = base64.b64decode(envelope["payload"]).replace(b'"eva"', b'"eve"')
    envelope["payload"] = base64.b64encode(content).decode()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (change_payload, InvalidMeasurement),
        (lambda e: e["signatures"].clear(), InvalidMeasurement),
        (lambda e: e.update(payloadType="text/plain"), UsageError),
        (lambda e: e.update(payload="!"), UsageError),
        (lambda e: e.pop("payload"), UsageError),
        (lambda e: e.update(signatures=[{"keyid": "x"}]), UsageError),
    ],
    ids=["payload", "no-signature", "type", "base64", "no-payload", "no-sig"],
)
def test_a_changed_envelope_is_refused(change, error, payload: bytes) -> None:
    key = MAKERS["ed25519"]()
    envelope = attest.sign(payload, key=key)
    change(envelope)
    with pytest.raises(error):
        attest.verify(json.dumps(envelope).encode(), keys=[public(key)], place="b")


@pytest.mark.parametrize("content", [b"[]", b"{}", b"not json", b'{"_type": "x"}'])
def test_a_signed_thing_that_is_no_approval_is_refused(content: bytes) -> None:
    key = MAKERS["ed25519"]()
    with pytest.raises(UsageError, match="is signed, but"):
        attest.verify(signed(content, key), keys=[public(key)], place="b")


def test_weak_and_foreign_keys_are_refused() -> None:
    small = rsa.generate_private_key(65537, 2048)
    foreign = dsa.generate_private_key(2048)
    for key in (small, foreign, ec.generate_private_key(ec.SECP256K1())):
        with pytest.raises(UsageError, match="a kind that is not used here"):
            attest.load_private_key(private_pem(key), passphrase=None, place="key")
        with pytest.raises(UsageError, match="a kind that is not used here"):
            public(key)


def test_an_encrypted_key_needs_its_passphrase() -> None:
    key = MAKERS["ed25519"]()
    pem = private_pem(key, b"secret")
    assert attest.load_private_key(pem, passphrase=b"secret", place="key")
    for wrong in (None, b"other"):
        with pytest.raises(UsageError):
            attest.load_private_key(pem, passphrase=wrong, place="key")
    with pytest.raises(UsageError, match="does not go with the passphrase"):
        attest.load_private_key(private_pem(key), passphrase=b"secret", place="key")
    with pytest.raises(UsageError, match="no private key in PEM"):
        attest.load_private_key(b"", passphrase=None, place="key")
