"""Hashes of pod templates and other specs, as they appear in labels and names.

Upstream hashes a dump of Go's structures, which means nothing elsewhere. Nothing depends on the value: a template
is recognised by comparing it, and the hash only makes names. So ours is FNV-32a over canonical JSON, in the same
alphabet. Source: https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pod-template-hash-label
"""

from __future__ import annotations

import orjson

from tiphys.api.object import Object
from tiphys.controlkit.objects import (
    copy,
    equal,
)
from tiphys.runtime.binary.fnv import fnv32a

HASH_LABEL = "pod-template-hash"

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def safe_encode(text: str) -> str:
    """``text`` in an alphabet without vowels and look-alikes, so that a hash never spells a word."""
    return "".join(_ALPHABET[ord(char) % len(_ALPHABET)] for char in text)


def compute_hash(template: Object, collision_count: int | None) -> str:
    """The hash of a pod template; ``collision_count`` makes another one if the name was taken."""
    data = orjson.dumps(_without_empty(template), option=orjson.OPT_SORT_KEYS)
    if collision_count is not None:
        data += collision_count.to_bytes(8, "little")
    return safe_encode(str(fnv32a(data)))


def _without_empty(value: object) -> object:
    """Absent, null and empty are one, so that they hash alike."""
    if isinstance(value, dict):
        kept = {key: _without_empty(item) for key, item in value.items() if item is not None and item != []}
        return {key: item for key, item in kept.items() if not (key in ("labels", "annotations") and item == {})}
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    return value


def equal_ignoring_hash(left: Object, right: Object) -> bool:
    """Whether two pod templates are the same but for the label that a Deployment adds."""
    return equal(_without_hash(left), _without_hash(right))


def _without_hash(template: Object) -> Object:
    meta = {key: value for key, value in (template.get("metadata") or {}).items() if value is not None}
    if HASH_LABEL in (meta.get("labels") or {}):
        meta["labels"] = {key: value for key, value in meta["labels"].items() if key != HASH_LABEL}
    meta = {key: value for key, value in meta.items() if value != {}}
    return {**template, "metadata": meta or None}


def with_label(template: Object, name: str, value: str) -> Object:
    """A copy of a pod template with one label more."""
    result: Object = copy(template)
    meta = result.get("metadata") or {}
    result["metadata"] = {**meta, "labels": {**(meta.get("labels") or {}), name: value}}
    return result
