"""OpenAPI documents against what the original publishes: a sample of its paths and operations, by heart."""

from __future__ import annotations

import gzip
from importlib.resources import files
from typing import Any

import orjson
import pytest

from tiphys.api.openapi import document_v2, document_v3, group_versions
from tiphys.api.resources import builtin_scheme

SCHEME = builtin_scheme()
DEFINITIONS = orjson.loads(gzip.decompress(files("tiphys.api").joinpath("data/definitions.json.gz").read_bytes()))


@pytest.fixture(scope="module")
def apps() -> dict[str, Any]:
    return document_v3(SCHEME, DEFINITIONS, "apps", "v1")


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(v) for v in value.values()))
    return set().union(*(references(v) for v in value)) if isinstance(value, list) else set()


def test_each_served_version_has_a_document() -> None:
    names = group_versions(SCHEME)
    assert {"api/v1", "apis/apps/v1", "apis/autoscaling/v2", "apis/resource.k8s.io/v1"} <= names.keys()


@pytest.mark.parametrize(
    ("path", "method", "operation", "action"),
    [
        ("/apis/apps/v1/deployments", "get", "listAppsV1DeploymentForAllNamespaces", "list"),
        ("/apis/apps/v1/namespaces/{namespace}/deployments", "post", "createAppsV1NamespacedDeployment", "post"),
        (
            "/apis/apps/v1/namespaces/{namespace}/deployments",
            "delete",
            "deleteAppsV1CollectionNamespacedDeployment",
            "deletecollection",
        ),
        (
            "/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale",
            "patch",
            "patchAppsV1NamespacedDeploymentScale",
            "patch",
        ),
    ],
)
def test_operations_have_the_originals_names(
    apps: dict[str, Any], path: str, method: str, operation: str, action: str
) -> None:
    found = apps["paths"][path][method]
    assert (found["operationId"], found["x-kubernetes-action"]) == (operation, action)


def test_a_scale_is_of_another_group(apps: dict[str, Any]) -> None:
    scale = apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["get"]
    assert scale["x-kubernetes-group-version-kind"] == {"group": "autoscaling", "kind": "Scale", "version": "v1"}


def test_every_reference_is_there_and_has_no_siblings(apps: dict[str, Any]) -> None:
    prefix = "#/components/schemas/"
    assert {r.removeprefix(prefix) for r in references(apps)} <= apps["components"]["schemas"].keys()
    pod_spec = apps["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]
    assert set(pod_spec["properties"]["affinity"]) == {"allOf", "description"}
    assert pod_spec["properties"]["hostname"]["type"] == "string"


def test_the_old_document_holds_everything_once() -> None:
    document = document_v2(SCHEME, DEFINITIONS)
    assert {r.removeprefix("#/definitions/") for r in references(document)} <= document["definitions"].keys()
    ids = [o["operationId"] for p in document["paths"].values() for m, o in p.items() if m != "parameters"]
    assert len(ids) == len(set(ids))
    pods = document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/log"]["get"]
    assert pods["operationId"] == "readCoreV1NamespacedPodLog"
