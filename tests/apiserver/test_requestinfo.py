import pytest

from tiphys.apiserver.requestinfo import request_info
from tiphys.wire.http import Request


def info(method: str, path: str):
    path, _, query = path.partition("?")
    request = Request(method, path, query)
    return request_info(request, request.parameters())


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/api/v1/pods", ("list", "", "pods", "", "", "")),
        ("GET", "/api/v1/pods?watch=1", ("watch", "", "pods", "", "", "")),
        ("GET", "/api/v1/pods?watch=false", ("list", "", "pods", "", "", "")),
        ("GET", "/api/v1/watch/namespaces/a/pods", ("watch", "", "pods", "a", "", "")),
        ("GET", "/api/v1/namespaces/a/pods/p", ("get", "", "pods", "a", "p", "")),
        ("GET", "/api/v1/namespaces/a/pods/p/log", ("get", "", "pods", "a", "p", "log")),
        ("GET", "/api/v1/namespaces/a", ("get", "", "namespaces", "a", "a", "")),
        ("PUT", "/api/v1/namespaces/a/finalize", ("update", "", "namespaces", "a", "a", "finalize")),
        ("PATCH", "/api/v1/namespaces/a/status", ("patch", "", "namespaces", "a", "a", "status")),
        ("POST", "/apis/apps/v1/namespaces/a/deployments", ("create", "apps", "deployments", "a", "", "")),
        ("DELETE", "/apis/apps/v1/namespaces/a/deployments", ("deletecollection", "apps", "deployments", "a", "", "")),
        ("DELETE", "/api/v1/nodes/n", ("delete", "", "nodes", "", "n", "")),
        ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dp", ("list", "", "pods", "", "p", "")),
    ],
)
def test_reads_resource_paths(method, path, expected) -> None:
    found = info(method, path)
    assert found.is_resource
    assert (found.verb, found.group, found.resource, found.namespace, found.name, found.subresource) == expected


@pytest.mark.parametrize("path", ["/", "/healthz", "/apis", "/apis/apps", "/apis/apps/v1", "/api/v1", "/openapi/v2"])
def test_other_paths_are_no_resources(path) -> None:
    found = info("GET", path)
    assert not found.is_resource
    assert (found.verb, found.path) == ("get", path)


def test_keeps_what_follows_the_subresource() -> None:
    found = info("GET", "/api/v1/namespaces/a/services/s:80/proxy/x/y")
    assert (found.name, found.subresource, found.subpath) == ("s:80", "proxy", "x/y")


def test_decodes_names() -> None:
    assert info("GET", "/api/v1/namespaces/a/configmaps/x%20y").name == "x y"
