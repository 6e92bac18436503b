"""The body of a delete: ``DeleteOptions``, whatever API version it names.

Upstream reads it with its own scheme, which knows the types of ``meta.k8s.io`` only, and reports what is wrong
without naming the type that it wanted. Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from typing import Any

import orjson

from tiphys.api import errors, protobuf
from tiphys.api.codec import yamltext
from tiphys.api.codec.decoding import YAML, head_of, media_type
from tiphys.api.codec.jsontext import JSONError, Pairs, read
from tiphys.api.codec.typed import DecodeError, TypedDecoder
from tiphys.api.gotext import quote
from tiphys.api.schema import schema_for
from tiphys.api.scheme import GroupVersionKind

_KIND = GroupVersionKind("meta.k8s.io", "v1", "DeleteOptions")
_SCHEME = "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27"
_OTHERS = frozenset(
    ("CreateOptions", "UpdateOptions", "PatchOptions", "GetOptions", "ListOptions", "WatchEvent", "Table",
     "TableOptions", "PartialObjectMetadata", "PartialObjectMetadataList")
)  # fmt: skip
"""What else that scheme knows; the first two in any version."""


def decode_delete_options(data: bytes, content_type: str) -> dict[str, Any]:
    """The options as sent; unknown fields are left out. Raises 400 and 415."""
    try:
        text = _as_json(data, media_type(content_type))
        node = read(text)
    except JSONError as error:
        raise errors.bad_request(f"couldn't get version/kind; json parse error: {error}") from error
    except (yamltext.YAMLError, protobuf.ProtobufError) as error:
        raise errors.bad_request(str(error)) from error
    try:
        api_version, kind = head_of(node)
    except JSONError as error:
        raise errors.bad_request(f"couldn't get version/kind; json parse error: {error}") from error
    _check_kind(api_version or _KIND.api_version, kind or _KIND.kind)
    try:
        return TypedDecoder().decode(node if isinstance(node, Pairs) else Pairs(), schema_for(_KIND))
    except DecodeError as error:
        raise errors.bad_request(str(error)) from error


def _as_json(data: bytes, media: str) -> bytes:
    if media == YAML:
        return yamltext.to_json(data)[0]
    return orjson.dumps(protobuf.decode(data)) if media == protobuf.CONTENT_TYPE else data


def _check_kind(api_version: str, kind: str) -> None:
    if api_version.count("/") > 1:
        raise errors.bad_request(f"unexpected GroupVersion string: {api_version}")
    if kind == _KIND.kind:
        return
    if kind in _OTHERS and (api_version == _KIND.api_version or kind in ("CreateOptions", "UpdateOptions")):
        raise errors.bad_request("decoded object cannot be converted to DeleteOptions")
    why = f"no kind {quote(kind)} is registered for version {quote(api_version)} in scheme {quote(_SCHEME)}"
    raise errors.bad_request(why)
