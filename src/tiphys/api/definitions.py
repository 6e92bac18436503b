"""The published OpenAPI definitions of Kubernetes v1.36, by name, as the build packed them (build_hooks/schema.py).

Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition
"""

from __future__ import annotations

import gzip
from functools import lru_cache
from importlib.resources import files
from typing import Any

import orjson


@lru_cache(maxsize=1)
def definitions() -> dict[str, Any]:
    """All definitions; 15 ms the first time. References in them are ``#/$defs/NAME``. Shared: do not change them."""
    packed = files("tiphys.api").joinpath("data/definitions.json.gz").read_bytes()
    documents: dict[str, Any] = orjson.loads(gzip.decompress(packed))
    return documents


def description(definition: str, name: str) -> str:
    """The description of a definition's field, empty if it has none."""
    text: str = definitions().get(definition, {}).get("properties", {}).get(name, {}).get("description", "")
    return text
