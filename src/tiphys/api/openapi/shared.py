"""Parameters that many operations have, written once: ``#/parameters/NAME-HASH`` of a Swagger 2.0 document.

Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition
"""

from __future__ import annotations

import base64
from functools import lru_cache

import orjson

from tiphys.api.object import Object

_OWN = frozenset((("path", "name"), ("query", "name"), ("query", "dryRun"), ("query", "fieldValidation")))
"""Never shared: the name says whose it is, and clients look for the other two where they are used."""
_GENERIC = "#/definitions/io.k8s.apimachinery"


def share_parameters(paths: dict[str, Object]) -> Object:
    """Put references in the place of parameters, in ``paths``; returns what they refer to, by name."""
    shared: Object = {}
    for path in paths.values():
        for holder in path.values():
            if isinstance(holder, dict) and "parameters" in holder:
                holder["parameters"] = [_shared(parameter, shared) for parameter in holder["parameters"]]
        if "parameters" in path:
            path["parameters"] = [_shared(parameter, shared) for parameter in path["parameters"]]
    return dict(sorted(shared.items()))


def _shared(parameter: Object, shared: Object) -> Object:
    if (parameter["in"], parameter["name"]) in _OWN:
        return parameter
    if parameter["in"] == "body" and not parameter["schema"]["$ref"].startswith(_GENERIC):
        return parameter
    name = f"{parameter['name']}-{_hash(orjson.dumps(parameter, option=orjson.OPT_SORT_KEYS))}"
    shared[name] = parameter
    return {"$ref": f"#/parameters/{name}"}


@lru_cache(maxsize=256)
def _hash(text: bytes) -> str:
    """Few parameters are used thousands of times."""
    return base64.urlsafe_b64encode(_fnv64(text)[:6]).decode()


def _fnv64(text: bytes) -> bytes:
    """The hash FNV-1 of 64 bits."""
    value = 0xCBF29CE484222325
    for byte in text:
        value = value * 0x100000001B3 % (1 << 64) ^ byte
    return value.to_bytes(8, "big")
