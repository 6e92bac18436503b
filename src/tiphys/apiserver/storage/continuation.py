"""Continue tokens: where the next page of a list starts, and at which revision all pages are read.

The form is upstream's, so that a client may read its pages from servers of both kinds:
https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks
"""

from __future__ import annotations

import base64
import posixpath
import re
from typing import Any

import orjson

from tiphys.api import errors
from tiphys.api.codec.jsontext import JSONError, Pairs, read
from tiphys.api.codec.typed import DecodeError, TypedDecoder, type_name
from tiphys.api.schema import INTEGER, OBJECT, STRING, Field, Schema

_VERSION = "meta.k8s.io/v1"
_FOREIGN = re.compile(rb"[^A-Za-z0-9_\r\n-]").search
_TOKEN = Schema(
    OBJECT,
    go="storage.continueToken",
    fields={
        "v": Field("v", Schema(STRING, go="string"), pointer=False),
        "rv": Field("rv", Schema(INTEGER, go="int64"), pointer=False),
        "start": Field("start", Schema(STRING, go="string"), pointer=False),
    },
)


def encode(key: str, prefix: str, revision: int) -> str:
    """A token for the page behind ``key``; ``revision`` -1 means: read the rest at the newest revision."""
    token = {"v": _VERSION, "rv": revision, "start": key.removeprefix(prefix) + "\0"}
    return base64.urlsafe_b64encode(orjson.dumps(token)).rstrip(b"=").decode()


def decode(token: str, prefix: str) -> tuple[str, int]:
    """The key to start from, and the revision. Raises 400 if the token was not made by ``encode``."""
    try:
        start = _read(token)
        return prefix + _start(start), _revision(start)
    except (JSONError, DecodeError, _InvalidToken) as error:
        raise errors.bad_request(f"invalid continue token: continue key is not valid: {error}") from None


class _InvalidToken(ValueError):
    """The token was not made by ``encode``."""


def _read(token: str) -> dict[str, Any]:
    node = read(_bytes_of(token))
    if isinstance(node, Pairs):
        node.pairs = [(name.lower(), value) for name, value in node.pairs]
    elif node is not None:
        raise DecodeError(f"json: cannot unmarshal {type_name(node)} into Go value of type {_TOKEN.go}")
    fields = TypedDecoder().decode(node, _TOKEN) if node is not None else {}
    if (version := fields.get("v", "")) != _VERSION:
        raise _InvalidToken(f"server does not recognize this encoded version {version}")
    return fields


def _bytes_of(token: str) -> bytes:
    """What the token encodes: base64 for URLs, unpadded, in which line ends do not count."""
    text = token.encode()
    foreign = _FOREIGN(text)
    bare = text.translate(None, b"\r\n")
    if foreign or len(bare) % 4 == 1:
        at = foreign.start() if foreign else len(text) - 1
        raise _InvalidToken(f"illegal base64 data at input byte {at}")
    return base64.urlsafe_b64decode(bare + b"=" * (-len(bare) % 4))


def _revision(fields: dict[str, Any]) -> int:
    value: int = fields.get("rv", 0)
    if value == 0:
        raise _InvalidToken("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
    return value


def _start(fields: dict[str, Any]) -> str:
    """The key behind the prefix; a token must not lead out of it."""
    _revision(fields)
    value: str = fields.get("start", "")
    if not value:
        raise _InvalidToken("encoded start key empty (version meta.k8s.io/v1)")
    path = value if value.startswith("/") else f"/{value}"
    if path.startswith("//") or posixpath.normpath(path) != path:
        raise _InvalidToken(value)
    return path[1:]
