"""Continue tokens: where the next page of a list starts, and at which revision all pages are read.

The form is upstream's, so that a client may read its pages from servers of both kinds:
https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks
"""

from __future__ import annotations

import base64
import binascii
import posixpath

import orjson

from tiphys.api import errors

_VERSION = "meta.k8s.io/v1"


def encode(key: str, prefix: str, revision: int) -> str:
    """A token for the page behind ``key``; ``revision`` -1 means: read the rest at the newest revision."""
    token = {"v": _VERSION, "rv": revision, "start": key.removeprefix(prefix) + "\0"}
    return base64.urlsafe_b64encode(orjson.dumps(token)).rstrip(b"=").decode()


def decode(token: str, prefix: str) -> tuple[str, int]:
    """The key to start from, and the revision. Raises 400 where the token was not made by ``encode``."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        found = orjson.loads(raw)
    except (binascii.Error, orjson.JSONDecodeError, ValueError) as error:
        raise errors.bad_request(f"continue key is not valid: {error}") from None
    if not isinstance(found, dict) or found.get("v") != _VERSION:
        version = found.get("v", "") if isinstance(found, dict) else ""
        raise errors.bad_request(f"continue key is not valid: server does not recognize this encoded version {version}")
    return prefix + _start(found.get("start")), _revision(found.get("rv"))


def _revision(value: object) -> int:
    if not isinstance(value, int) or value == 0:
        raise errors.bad_request(
            "continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)"
        )
    return value


def _start(value: object) -> str:
    """The key behind the prefix; a token must not lead out of it."""
    if not isinstance(value, str) or not value:
        raise errors.bad_request("continue key is not valid: encoded start key empty (version meta.k8s.io/v1)")
    path = value if value.startswith("/") else f"/{value}"
    if posixpath.normpath(path) != path:
        raise errors.bad_request(f"continue key is not valid: {value}")
    return path[1:]
