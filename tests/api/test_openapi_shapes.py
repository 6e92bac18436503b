"""OpenAPI documents against those of kube-apiserver v1.36 for the same kinds, built in and custom: all but the words.

The recorded documents have no descriptions, and parameters in the place of references to them, sorted.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tiphys.api.custom.definition import resource_of
from tiphys.api.definitions import definitions
from tiphys.api.object import Object
from tiphys.api.openapi import custom_definitions, document_names, document_v2, document_v3
from tiphys.api.resources import builtin_scheme
from tiphys.api.scheme import Scheme

RECORDED = Path(__file__).parent / "recorded"
UPSTREAM: Object = orjson.loads(gzip.decompress((RECORDED / "openapi_shapes.json.gz").read_bytes()))


def scheme() -> Scheme:
    found = Scheme(builtin_scheme().resources())
    for definition in orjson.loads((RECORDED / "openapi_definitions.json").read_bytes()):
        conditions = [{"type": kind, "status": "True"} for kind in ("NamesAccepted", "Established")]
        names = {"kind": definition["spec"]["names"]["kind"], "plural": definition["spec"]["names"]["plural"]}
        names |= {"singular": names["kind"].lower(), "listKind": f"{names['kind']}List"}
        definition["spec"]["names"] = names
        resource = resource_of({**definition, "status": {"conditions": conditions, "acceptedNames": names}})
        assert resource is not None
        found.add(resource)
    return found


SCHEME = scheme()


def ours(name: str) -> Object:
    known = {**definitions(), **custom_definitions(SCHEME, for_v2=name == "v2")}
    document = document_v2(SCHEME, known) if name == "v2" else document_v3(SCHEME, known, name)
    assert document is not None
    bare: Object = without_words(with_parameters(document))
    return bare


def with_parameters(document: Object) -> Object:
    shared = document.pop("parameters", {})

    def whole(parameters: list[Object]) -> list[Object]:
        found = [shared[p["$ref"].rpartition("/")[2]] if "$ref" in p else p for p in parameters]
        return sorted(found, key=lambda p: (p["in"], p["name"]))

    for path in document["paths"].values():
        for holder in (path, *(part for part in path.values() if isinstance(part, dict))):
            if "parameters" in holder:
                holder["parameters"] = whole(holder["parameters"])
    return document


def without_words(value: Any, *, named: bool = False) -> Any:
    """``named``: the keys are names of fields, of which one may be called description."""
    if isinstance(value, dict):
        maps = ("properties", "definitions", "schemas", "paths")
        return {
            key: without_words(item, named=key in maps) for key, item in value.items() if named or key != "description"
        }
    return [without_words(item) for item in value] if isinstance(value, list) else value


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            if key not in one or key not in other:
                yield f"{path}/{key}: only {'upstream' if key in other else 'we'}"
            else:
                yield from differences(one[key], other[key], f"{path}/{key}")
    elif one != other:
        yield f"{path}: {one!r}, upstream {other!r}"


OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
LEFT = f"/components/schemas/{OPTIONS}/x-kubernetes-group-version-kind: [{{'group': ''"
"""In documents of custom resources: groups that upstream knows and does not serve have such options, too."""


def test_the_same_documents_are_served() -> None:
    assert ["v2", *document_names(SCHEME)] == sorted(UPSTREAM, key=lambda name: (name != "v2", name))


@pytest.mark.parametrize("name", sorted(UPSTREAM))
def test_a_document_is_upstreams_but_for_its_words(name: str) -> None:
    found = [line for line in differences(ours(name), UPSTREAM[name]) if not line.startswith(LEFT)]
    assert found == []


def test_every_parameter_and_operation_is_described() -> None:
    for path, item in document_v2(SCHEME, {**definitions(), **custom_definitions(SCHEME, for_v2=True)})[
        "paths"
    ].items():
        for method, operation in item.items():
            if method != "parameters":
                assert operation["description"], (path, method)
            for parameter in operation if method == "parameters" else operation.get("parameters", ()):
                assert "$ref" in parameter or parameter["in"] == "body" or parameter["description"], (path, parameter)
