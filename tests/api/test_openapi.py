"""OpenAPI documents against what the original publishes: a sample of its paths and operations, by heart."""

from __future__ import annotations

import gzip
from importlib.resources import files
from typing import Any

import orjson
import pytest

from tiphys.api.openapi import document_names, document_v2, document_v3
from tiphys.api.resources import builtin_scheme

SCHEME = builtin_scheme()
DEFINITIONS = orjson.loads(gzip.decompress(files("tiphys.api").joinpath("data/definitions.json.gz").read_bytes()))


@pytest.fixture(scope="module")
def apps() -> dict[str, Any]:
    found = document_v3(SCHEME, DEFINITIONS, "apis/apps/v1")
    assert found is not None
    return found


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(v) for v in value.values()))
    return set().union(*(references(v) for v in value)) if isinstance(value, list) else set()


def test_each_served_version_has_a_document() -> None:
    names = document_names(SCHEME)
    assert {"api/v1", "apis/apps/v1", "apis/autoscaling/v2", "apis/resource.k8s.io/v1"} <= set(names)
    assert {"api", "apis", "apis/apps", "version", "openid/v1/jwks"} <= set(names)
    group = document_v3(SCHEME, DEFINITIONS, "apis/rbac.authorization.k8s.io")
    assert group is not None
    assert group["paths"]["/apis/rbac.authorization.k8s.io/"]["get"]["tags"] == ["rbacAuthorization"]
    assert document_v3(SCHEME, DEFINITIONS, "apis/nope") is None


def test_zero_values_are_defaults_of_what_is_always_written() -> None:
    core = document_v3(SCHEME, DEFINITIONS, "api/v1")
    assert core is not None
    schemas = core["components"]["schemas"]
    port = schemas["io.k8s.api.core.v1.ContainerPort"]["properties"]
    assert (port["containerPort"]["default"], port["protocol"]["default"]) == (0, "TCP")
    assert "default" not in port["hostPort"]
    assert schemas["io.k8s.api.core.v1.Pod"]["properties"]["spec"]["default"] == {}
    assert schemas["io.k8s.api.core.v1.LocalObjectReference"]["properties"]["name"]["default"] == ""


def test_parameters_that_all_operations_have_are_those_of_the_path(apps: dict[str, Any]) -> None:
    path = apps["paths"]["/apis/apps/v1/deployments"]
    names = [parameter["name"] for parameter in path["parameters"]]
    assert names[:2] == ["allowWatchBookmarks", "continue"]
    assert "pretty" in names
    assert "parameters" not in path["get"]


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
    known = {f"#/{part}/{name}" for part in ("definitions", "parameters") for name in document[part]}
    assert references(document) <= known
    ids = [o["operationId"] for p in document["paths"].values() for m, o in p.items() if m != "parameters"]
    assert len(ids) == len(set(ids))
    pods = document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/log"]["get"]
    assert pods["operationId"] == "readCoreV1NamespacedPodLog"
