"""JSON Web Tokens of service accounts, signed and read: RS256, ES256, ES384 and ES512, keys by the hash of their
public part.

A few functions over ``cryptography``: a JOSE library costs 100 ms to import, more than the API server's whole start.
Source: RFC 7515, RFC 7518 §3.3, §3.4 and §6.2, RFC 7517, RFC 7519.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

Claims = dict[str, Any]
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

_KEYS = "a service account key must be an RSA key, or an EC key on P-256, P-384 or P-521"


@dataclass(frozen=True, slots=True)
class _Curve:
    """How the keys of one elliptic curve sign."""

    name: str
    algorithm: str
    size: int
    """Bytes of a coordinate, and of each half of a signature."""
    hash: hashes.HashAlgorithm


_CURVES = {
    "secp256r1": _Curve("P-256", "ES256", 32, hashes.SHA256()),
    "secp384r1": _Curve("P-384", "ES384", 48, hashes.SHA384()),
    "secp521r1": _Curve("P-521", "ES512", 66, hashes.SHA512()),
}


class BadToken(Exception):
    """The text is no token, or none that one of the keys has signed."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    private: PrivateKey
    id: str

    @property
    def algorithm(self) -> str:
        return algorithm(self.private.public_key())

    def sign(self, claims: Claims) -> str:
        header = {"alg": self.algorithm, "kid": self.id}
        text = f"{_encode(orjson.dumps(header))}.{_encode(orjson.dumps(claims))}"
        return f"{text}.{_encode(self._signature(text.encode()))}"

    def _signature(self, data: bytes) -> bytes:
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(data, padding.PKCS1v15(), hashes.SHA256())
        curve = _CURVES[self.private.curve.name]
        r, s = decode_dss_signature(self.private.sign(data, ec.ECDSA(curve.hash)))
        return r.to_bytes(curve.size, "big") + s.to_bytes(curve.size, "big")


def new_key() -> bytes:
    """A new private key, EC P-256, in PEM."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def signing_key(pem: bytes) -> SigningKey:
    """The key of a PEM text. Raises ``ValueError`` for one of a kind that tokens are not signed with."""
    private = serialization.load_pem_private_key(pem, None)
    if not isinstance(private, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise ValueError(_KEYS)
    return SigningKey(private, key_id(_checked(private.public_key())))


def public_key(pem: bytes) -> PublicKey:
    """The public key in a PEM text, which may hold a public or a private key, or a certificate."""
    if b"PRIVATE KEY" in pem:
        return signing_key(pem).private.public_key()
    if b"BEGIN CERTIFICATE" in pem:
        from cryptography.x509 import load_pem_x509_certificate

        return _checked(load_pem_x509_certificate(pem).public_key())
    return _checked(serialization.load_pem_public_key(pem))


def _checked(key: object) -> PublicKey:
    if isinstance(key, rsa.RSAPublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return key
    raise ValueError(_KEYS)


def key_id(key: PublicKey) -> str:
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return _encode(hashlib.sha256(der).digest())


def algorithm(key: PublicKey) -> str:
    return "RS256" if isinstance(key, rsa.RSAPublicKey) else _CURVES[key.curve.name].algorithm


def verify(token: str, keys: dict[str, PublicKey]) -> Claims:
    """The claims of a token that one of ``keys`` (by id) has signed. Raises ``BadToken``. Times are not looked at."""
    header, claims, signature, signed = _parse(token)
    named = keys.get(str(header.get("kid", "")))
    for key in [named] if named is not None else keys.values():
        if header.get("alg") == algorithm(key) and _is_signed_by(key, signature, signed):
            return claims
    raise BadToken("invalid signature")


def unverified_claims(token: str) -> Claims:
    """Raises ``BadToken`` if the text is no token at all."""
    return _parse(token)[1]


def _parse(token: str) -> tuple[Claims, Claims, bytes, bytes]:
    parts = token.split(".")
    if len(parts) != 3:
        raise BadToken("not a signed token")
    try:
        header, claims = orjson.loads(_decode(parts[0])), orjson.loads(_decode(parts[1]))
        signature = _decode(parts[2])
    except (binascii.Error, orjson.JSONDecodeError, ValueError):
        raise BadToken("not a signed token") from None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise BadToken("not a signed token")
    return header, claims, signature, f"{parts[0]}.{parts[1]}".encode()


def _is_signed_by(key: PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
        else:
            curve = _CURVES[key.curve.name]
            if len(signature) != 2 * curve.size:
                return False
            r, s = signature[: curve.size], signature[curve.size :]
            der = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
            key.verify(der, signed, ec.ECDSA(curve.hash))
    except InvalidSignature:
        return False
    return True


def jwk(key: PublicKey) -> Claims:
    """The public key as a JSON Web Key."""
    common = {"use": "sig", "kid": key_id(key), "alg": algorithm(key)}
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return {"kty": "RSA", **common, "n": _number(numbers.n), "e": _number(numbers.e)}
    curve, point = _CURVES[key.curve.name], key.public_numbers()
    x, y = (value.to_bytes(curve.size, "big") for value in (point.x, point.y))
    return {"kty": "EC", **common, "crv": curve.name, "x": _encode(x), "y": _encode(y)}


def _number(value: int) -> str:
    return _encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    if not text.isascii() or not text.replace("-", "").replace("_", "").isalnum():
        raise ValueError("not in base64url without padding")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
