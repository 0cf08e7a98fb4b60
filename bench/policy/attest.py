"""Evidence that can be signed: an in-toto statement in a DSSE envelope.

Statement: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
Envelope:  https://github.com/secure-systems-lab/dsse/blob/master/envelope.md
The statement's subjects are the files (name and sha256) that the decision rests on and that
it was written to; its predicate is the approval document. Keys are PEM files of the user;
Ed25519, ECDSA on P-256 or P-384, and RSA (PSS) from 3072 bits. Keys are made elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.errors import InvalidMeasurement, UsageError
from bench.policy.document import Approval, canonical

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
    PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey

__all__ = [
    "PAYLOAD_TYPE",
    "PREDICATE_TYPE",
    "load_private_key",
    "load_public_key",
    "pae",
    "sign",
    "statement",
    "verify",
]

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:bench:approval:v1"
MIN_RSA_BITS = 3072

KEY_KINDS = "Ed25519, ECDSA on P-256 or P-384, or RSA from 3072 bits"


def statement(approval: Approval, *, files: Mapping[str, str]) -> bytes:
    """Return the in-toto statement about an approval.

    Args:
        approval: Sealed.
        files: sha256 by name, of the approval's own files; those of the runs are added.
    """
    digests = dict(files)
    for cell in approval.cells:
        for run in cell.runs:
            digests[run.path] = run.sha256
    return canonical(
        {
            "_type": STATEMENT_TYPE,
            "subject": [
                {"name": name, "digest": {"sha256": digest}}
                for name, digest in sorted(digests.items())
            ],
            "predicateType": PREDICATE_TYPE,
            "predicate": approval.model_dump(mode="json"),
        }
    )


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding: what is signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, *, key: PrivateKey) -> dict[str, Any]:
    """Return the envelope of a statement with one signature."""
    signature = _signature(key, pae(PAYLOAD_TYPE, payload))
    return {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [
            {
                "keyid": _key_id(key.public_key()),
                "sig": base64.b64encode(signature).decode(),
            }
        ],
    }


def verify(data: bytes, *, keys: Sequence[PublicKey], place: str) -> dict[str, Any]:
    """Return the statement of an envelope, after one of the keys has verified it.

    Args:
        data: The envelope's JSON.
        keys: Trusted public keys.
        place: Where it came from, for messages.

    Raises:
        UsageError: It is no such envelope.
        InvalidMeasurement: No signature is by a trusted key over this very payload.
    """
    try:
        envelope = json.loads(data)
        kind = envelope["payloadType"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(s["sig"], validate=True) for s in envelope["signatures"]]
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise UsageError(place, "is no DSSE envelope", "give a file of `bench evidence`") from error
    if kind != PAYLOAD_TYPE:
        raise UsageError(place, f"holds {kind!r} and not {PAYLOAD_TYPE}")
    signed = pae(kind, payload)
    if not any(_is_valid(key, signature, signed) for key in keys for signature in signatures):
        raise InvalidMeasurement(
            place,
            "no signature of a trusted key fits its content",
            "it was changed, or signed by somebody else",
        )
    return _checked(payload, place)


def _checked(payload: bytes, place: str) -> dict[str, Any]:
    try:
        found = json.loads(payload)
        kinds = (found["_type"], found["predicateType"])
        names = [(item["name"], item["digest"]["sha256"]) for item in found["subject"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(place, "is signed, but holds no in-toto statement") from error
    if kinds != (STATEMENT_TYPE, PREDICATE_TYPE) or not names:
        raise UsageError(place, f"is signed, but states {kinds[1]!r} and no approval")
    statement: dict[str, Any] = found
    return statement


def load_private_key(pem: bytes, *, passphrase: bytes | None, place: str) -> PrivateKey:
    """Return a private key.

    Raises:
        UsageError: It is no key of a kind that is used here, or the passphrase is wrong.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password=passphrase)
    except TypeError as error:  # encrypted without a passphrase, or the other way round
        remedy = "set BENCH_KEY_PASSPHRASE for an encrypted key, and for no other"
        raise UsageError(place, "does not go with the passphrase", remedy) from error
    except ValueError as error:
        raise UsageError(place, "is no private key in PEM", f"use {KEY_KINDS}") from error
    return _private(key, place)


def load_public_key(pem: bytes, *, place: str) -> PublicKey:
    """Return a public key.

    Raises:
        UsageError: It is no key of a kind that is used here.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(place, "is no public key in PEM", f"use {KEY_KINDS}") from error
    return _public(key, place)


def _private(key: Any, place: str) -> PrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    known = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
    if not isinstance(key, known):
        raise UsageError(place, "is a key of a kind that is not used here", f"use {KEY_KINDS}")
    _public(key.public_key(), place)
    return key


def _public(key: Any, place: str) -> PublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in ("secp256r1", "secp384r1"):
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
        return key
    raise UsageError(place, "is a key of a kind that is not used here", f"use {KEY_KINDS}")


def _key_id(key: PublicKey) -> str:
    """Return a key's name: sha256 of its SubjectPublicKeyInfo."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()


def _signature(key: PrivateKey, data: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding

    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(_curve_hash(key.curve.name)))
    sha256 = hashes.SHA256()
    pss = padding.PSS(mgf=padding.MGF1(sha256), salt_length=padding.PSS.DIGEST_LENGTH)
    return key.sign(data, pss, sha256)


def _is_valid(key: PublicKey, signature: bytes, data: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding

    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(_curve_hash(key.curve.name)))
        else:
            sha256 = hashes.SHA256()
            pss = padding.PSS(mgf=padding.MGF1(sha256), salt_length=padding.PSS.AUTO)
            key.verify(signature, data, pss, sha256)
    except InvalidSignature:
        return False
    return True


def _curve_hash(curve: str) -> Any:
    from cryptography.hazmat.primitives import hashes

    return hashes.SHA384() if curve == "secp384r1" else hashes.SHA256()
