"""Bodies of endpoints whose kind is not that of the resource in the path.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from tiphys.api import codec
from tiphys.api.defaults import apply_defaults
from tiphys.api.object import Object
from tiphys.api.schema import schema_for
from tiphys.api.scheme import GroupVersionKind
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.options import WriteOptions


def decode_as(call: Call, gvk: GroupVersionKind, options: WriteOptions, also: tuple[str, ...] = ()) -> Object:
    """The object of kind ``gvk`` in the body, with defaults; ``also`` names further API versions that mean the same.

    Raises 400, 415.
    """
    schema = schema_for(gvk)
    request = call.request
    content_type = request.headers.get("content-type", "")
    decoded = codec.decode(request.body, content_type, gvk, schema, options.field_validation, also)
    for warning in decoded.warnings:
        call.warn(warning)
    obj = decoded.object
    obj["apiVersion"] = gvk.api_version
    obj.setdefault("metadata", {})
    apply_defaults(obj, gvk)
    return codec.complete(obj, schema)
