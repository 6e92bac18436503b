"""Objects in the protobuf form of the Kubernetes API, from and to the dicts that JSON gives.

Typed clients of the Go library send and accept built-in kinds so (``application/vnd.kubernetes.protobuf``). A body is
the four bytes ``k8s\\0`` and a ``runtime.Unknown``: API version, kind, and the object's own message. A watch sends
``meta.v1.WatchEvent`` messages, each behind its length in four bytes.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding
"""

from __future__ import annotations

from tiphys.api.protobuf.decoding import decode
from tiphys.api.protobuf.encoding import around, encode, frame, items_of, join, message_of, unwrap, watch_event, wrap
from tiphys.api.protobuf.messages import CONTENT_TYPE, MAGIC, ProtobufError, has_message

__all__ = [
    "CONTENT_TYPE",
    "MAGIC",
    "ProtobufError",
    "around",
    "decode",
    "encode",
    "frame",
    "has_message",
    "items_of",
    "join",
    "message_of",
    "unwrap",
    "watch_event",
    "wrap",
]
