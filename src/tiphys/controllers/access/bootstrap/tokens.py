"""What a bootstrap token secret says, and the detached signature that it makes (RFC 7515, HS256)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from datetime import datetime

from tiphys.api.object import Object
from tiphys.controlkit.objects import (
    name_of,
)

NAMESPACE = "kube-system"
SECRET_TYPE = "bootstrap.kubernetes.io/token"

_NAME = re.compile(r"bootstrap-token-([a-z0-9]{6})\Z")


def value(secret: Object, key: str) -> str:
    """One field of the secret; empty if it is missing or no text."""
    try:
        return base64.b64decode((secret.get("data") or {}).get(key) or "", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def time_left(secret: Object, now: float) -> float | None:
    """Seconds until the token expires, 0 once it has; None if it never does.

    A time that cannot be read has passed: a typing error must not make a token eternal.
    """
    text = value(secret, "expiration")
    if not text:
        return None
    try:
        expires = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return max(expires.timestamp() - now, 0.0) if expires.tzinfo else 0.0


def for_signing(secret: Object, now: float) -> tuple[str, str] | None:
    """Id and secret of a token that may sign; None if it may not."""
    named = _NAME.match(name_of(secret))
    token_id, token_secret = value(secret, "token-id"), value(secret, "token-secret")
    if named is None or named.group(1) != token_id or not token_secret:
        return None
    if time_left(secret, now) == 0.0 or value(secret, "usage-bootstrap-signing") != "true":
        return None
    return token_id, token_secret


def signature(content: str, token_id: str, token_secret: str) -> str:
    """The compact serialization without its payload, which the reader has."""
    header = _encode(json.dumps({"alg": "HS256", "kid": token_id}, separators=(",", ":")).encode())
    signed = f"{header}.{_encode(content.encode())}".encode()
    return f"{header}..{_encode(hmac.digest(token_secret.encode(), signed, hashlib.sha256))}"


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
