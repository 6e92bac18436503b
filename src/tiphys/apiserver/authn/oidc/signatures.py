"""Signatures of ID tokens: RSA (PKCS #1 v1.5 and PSS) and elliptic curves, by the keys of a JSON Web Key Set. Pure.

Source: RFC 7515, RFC 7517 and RFC 7518.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tiphys.api.object import Object

ALGORITHMS = ("ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512")
_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES: dict[str, tuple[ec.EllipticCurve, int, str]] = {
    "P-256": (ec.SECP256R1(), 32, "ES256"),
    "P-384": (ec.SECP384R1(), 48, "ES384"),
    "P-521": (ec.SECP521R1(), 66, "ES512"),
}
"""The curve, the bytes of a coordinate, and the one algorithm that signs with it."""
_MIN_BITS, _MAX_BITS = 1024, 16384


class BadSignature(Exception):
    """The text is no signed token, or none that the keys have signed; ``str`` says why."""


@dataclass(frozen=True, slots=True)
class SignedToken:
    header: Object
    claims: Object
    signature: bytes
    signed: bytes

    @property
    def key_id(self) -> str:
        return str(self.header.get("kid") or "")

    @property
    def algorithm(self) -> str:
        return str(self.header.get("alg") or "")


@dataclass(frozen=True, slots=True)
class VerificationKey:
    id: str
    public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    algorithms: tuple[str, ...]

    def has_signed(self, token: SignedToken) -> bool:
        """Whether this key made the token's signature with one of its algorithms."""
        algorithm = token.algorithm
        if algorithm not in self.algorithms:
            return False
        digest = _HASHES[algorithm[2:]]
        try:
            if isinstance(self.public, ec.EllipticCurvePublicKey):
                self.public.verify(_der(token.signature, self.public), token.signed, ec.ECDSA(digest))
            elif algorithm.startswith("PS"):
                scheme = padding.PSS(padding.MGF1(digest), padding.PSS.AUTO)
                self.public.verify(token.signature, token.signed, scheme, digest)
            else:
                self.public.verify(token.signature, token.signed, padding.PKCS1v15(), digest)
        except (InvalidSignature, ValueError):
            return False
        return True


def _der(signature: bytes, key: ec.EllipticCurvePublicKey) -> bytes:
    """Raises ``ValueError`` for one of a wrong length."""
    size = (key.curve.key_size + 7) // 8
    if len(signature) != 2 * size:
        raise ValueError("a signature of a wrong length")
    return encode_dss_signature(int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big"))


def read_token(text: str) -> SignedToken:
    """Raises ``BadSignature`` for what is no compact JSON Web Signature of claims."""
    parts = text.split(".")
    if len(parts) != 3:
        raise BadSignature("malformed token")
    try:
        header, claims = orjson.loads(_decoded(parts[0])), orjson.loads(_decoded(parts[1]))
        signature = _decoded(parts[2])
    except (binascii.Error, ValueError) as error:
        raise BadSignature(f"malformed token: {error}") from None
    if not isinstance(header, dict) or not isinstance(claims, dict) or "crit" in header:
        raise BadSignature("malformed token")
    return SignedToken(header, claims, signature, f"{parts[0]}.{parts[1]}".encode())


def read_keys(document: Any) -> list[VerificationKey]:
    """The keys of a set that signatures can be checked by; others are left out. Raises ``ValueError``."""
    rows = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise ValueError("it is no JSON Web Key Set")
    keys = []
    for row in rows:
        if isinstance(row, dict) and row.get("use", "sig") == "sig":
            try:
                key = _key(row)
            except (KeyError, TypeError, ValueError, binascii.Error):
                continue
            if key is not None:
                keys.append(key)
    return keys


def _key(row: Object) -> VerificationKey | None:
    named = str(row.get("alg") or "")
    if row["kty"] == "RSA":
        numbers = rsa.RSAPublicNumbers(_number(row["e"]), _number(row["n"]))
        if not _MIN_BITS <= numbers.n.bit_length() <= _MAX_BITS:
            return None
        fits = tuple(name for name in ALGORITHMS if name[0] in "RP" and named in ("", name))
        return VerificationKey(str(row.get("kid") or ""), numbers.public_key(), fits)
    if row["kty"] == "EC" and row.get("crv") in _CURVES:
        curve, _, algorithm = _CURVES[row["crv"]]
        point = ec.EllipticCurvePublicNumbers(_number(row["x"]), _number(row["y"]), curve)
        fits = (algorithm,) if named in ("", algorithm) else ()
        return VerificationKey(str(row.get("kid") or ""), point.public_key(), fits)
    return None


def _number(text: str) -> int:
    return int.from_bytes(_decoded(text), "big")


def _decoded(text: str) -> bytes:
    """Base64url without padding. Raises ``ValueError``."""
    if not text.isascii() or "=" in text:
        raise ValueError("not in base64url without padding")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
