"""Which paths, methods and media types there are, and how the others are refused."""

from __future__ import annotations

import orjson
import pytest

from tests.apiserver.apiworld import World, config_map, run
from tiphys.apiserver.endpoints.accept import JSON, WRITTEN, YAML, choose, is_produced, read_accept
from tiphys.client import resources as R
from tiphys.wire.http import Response

MAPS = "/api/v1/namespaces/a/configmaps"
NO_METHOD = "the server does not allow this method on the requested resource"
NO_PATH = "the server could not find the requested resource"
TEXT = "404 page not found"

ANSWERS = [
    ("HEAD", f"{MAPS}/x", 405, ""),
    ("HEAD", "/api/v1", 405, ""),
    ("PUT", MAPS, 405, NO_METHOD),
    ("PATCH", MAPS, 405, NO_METHOD),
    ("POST", f"{MAPS}/x", 405, NO_METHOD),
    ("TRACE", f"{MAPS}/x", 405, NO_METHOD),
    ("DELETE", "/api/v1/configmaps", 405, NO_METHOD),
    ("GET", "/api/v1/configmaps/x", 404, NO_PATH),
    ("GET", "/api/v1/watch/configmaps/x", 404, NO_PATH),
    ("GET", "/api/v1/bindings", 404, NO_PATH),
    ("GET", "/api/v1/namespaces/a/namespaces", 404, NO_PATH),
    ("GET", "/api/v1/namespaces/a/nodes", 404, NO_PATH),
    ("GET", "/api/v1/proxy/namespaces/a/pods/x", 404, NO_PATH),
    ("GET", f"{MAPS}/..", 400, "Name parameter invalid: \"..\": may not be '..'"),
    ("DELETE", f"{MAPS}/a%25b", 400, "Name parameter invalid: \"a%b\": may not contain '%'"),
    ("GET", f"{MAPS}/%zz", 400, "400 Bad Request"),
    ("GET", "/api/v1/watch", 500, 'Internal Server Error: "/api/v1/watch": failed to create RequestInfo: unable to'),
    ("POST", "/api/v1/namespaces/a/pods/x/exec?dryRun=All", 400, "dryRun is not supported"),
    ("GET", "//api/v1/nodes", 404, TEXT),
    ("GET", "/healthz/", 404, TEXT),
    ("GET", "/readyz/nope", 404, TEXT),
    ("GET", "/apis/nope/v1/x", 404, TEXT),
    ("GET", "/version/x", 404, NO_PATH),
    ("POST", "/version", 405, NO_METHOD),
    ("POST", "/healthz", 200, "ok"),
    ("POST", "/apis/apps", 200, "APIGroup"),
    ("GET", "/apis/apps/v1/", 200, "APIResourceList"),
]


def text_of(response: Response) -> str:
    assert isinstance(response.body, bytes)
    return response.body.decode()


def test_paths_and_methods() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        for method, path, code, text in ANSWERS:
            response = await world.raw(method, path)
            assert (method, path, response.status) == (method, path, code)
            found = text_of(response)
            message = orjson.loads(found).get("message", found) if found.startswith("{") else found
            assert text in message, (method, path)

    run(work)


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("text/html, application/json;q=0.1", JSON),
        ("application/json;q=0.5,application/yaml;q=0.9", YAML),
        ("application/json;q=0", JSON),
        ("application/yaml;q=x,application/json;q=0.1", JSON),
        ("*/*,application/yaml", YAML),
        ("application/json;stream=watch", JSON),
        ("application/json;stream=other", None),
        ("application/json;sv=v1", None),
        ("application/json;v=v1", None),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/yaml", YAML),
        ("a/b/c,json,;,application/json;=;q", JSON),
        ("Application/JSON", None),
        ("application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf"),
    ],
)
def test_what_is_written_for_an_accept_header(accept: str, media: str | None) -> None:
    chosen = choose(accept, lambda media, view: view is None)
    assert (chosen[0] if chosen else None) == media


def test_clauses_go_by_weight_and_wildcards_last() -> None:
    header = "*/*;q=0.9, a/b;q=0.1, c/*, d/e;x=y ;q=1"
    assert [f"{c.type}/{c.subtype}" for c in read_accept(header)] == ["d/e", "c/*", "a/b", "*/*"]
    assert read_accept(header)[0].parameters == {"x": "y"}


def test_a_route_knows_media_types_by_their_exact_names() -> None:
    assert is_produced("", WRITTEN)
    assert is_produced("text/plain, application/yaml;q=0", WRITTEN)
    assert not is_produced("application/*", WRITTEN)
    assert not is_produced("APPLICATION/JSON", WRITTEN)


def test_answers_in_yaml_and_views_that_do_not_fit() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        await world.admin.create(R.CONFIG_MAPS, config_map("x"), namespace="a")
        response = await world.raw("GET", f"{MAPS}/x", accept="application/yaml")
        assert 'data:\n  a: "1"\n' in text_of(response)
        response = await world.raw("GET", f"{MAPS}/nope", accept="application/yaml")
        assert (response.status, response.headers["Content-Type"]) == (404, YAML)
        assert "reason: NotFound\n" in text_of(response)
        for path, kind, message in (
            (MAPS, "PartialObjectMetadata", "but the requested object is a list (*core.ConfigMapList)"),
            (f"{MAPS}/x", "PartialObjectMetadataList", "but the requested object is not a list (*core.ConfigMap)"),
        ):
            found = await world.json("GET", path, accept=f"{JSON};as={kind};v=v1;g=meta.k8s.io")
            assert (found["code"], found["message"]) == (406, f"you requested {kind}, {message}")
        response = await world.raw("GET", f"{MAPS}?watch=1", accept=YAML)
        assert (response.status, "application/json;stream=watch" in text_of(response)) == (406, True)

    run(work)


def test_the_aggregated_form_is_preferred_wherever_it_is_accepted() -> None:
    async def work(world: World) -> None:
        wanted = "g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        for accept, kind in (
            (f"{JSON},{JSON};{wanted}", "APIGroupDiscoveryList"),
            (f"{JSON};{wanted.replace('v2', 'v2beta1')},{JSON}", "APIGroupList"),
            (f"{JSON};{wanted.replace('v2', 'v2beta1')}", "Status"),
        ):
            assert (await world.json("GET", "/apis", accept=accept))["kind"] == kind
        response = await world.raw("GET", "/api", accept=f"{YAML};{wanted}")
        assert response.headers["Content-Type"] == f"{YAML};{wanted}"
        assert response.headers["Cache-Control"] == "public"

    run(work)


def test_the_address_of_a_document_names_its_content() -> None:
    async def work(world: World) -> None:
        paths = (await world.json("GET", "/openapi/v3"))["paths"]
        address = paths["apis/node.k8s.io/v1"]["serverRelativeURL"]
        response = await world.raw("GET", address)
        assert response.headers["Cache-Control"] == "public, immutable"
        again = await world.raw("GET", address, if_none_match=response.headers["ETag"])
        assert again.status == 304
        other = await world.raw("GET", f"{address}X")
        assert (other.status, other.headers["Location"]) == (301, address)
        assert (await world.raw("GET", "/openapi/v3/apis/nope/v1")).status == 404

    run(work)


REQUIRED = [
    "start-apiserver-admission-initializer",
    "generic-apiserver-start-informers",
    "start-apiextensions-informers",
    "start-apiextensions-controllers",
    "crd-informer-synced",
    "bootstrap-controller",
    "start-system-namespaces-controller",
    "start-service-ip-repair-controllers",
    "scheduling/bootstrap-system-priority-classes",
    "start-cluster-authentication-info-controller",
    "start-kube-aggregator-informers",
    "apiservice-registration-controller",
    "apiservice-status-local-available-controller",
    "apiservice-status-remote-available-controller",
    "kube-apiserver-autoregistration",
    "apiservice-openapi-controller",
    "storage-readiness",
]


@pytest.mark.parametrize("path", ["healthz", "livez", "readyz"])
def test_health_names_the_steps_that_upstreams_suite_asks_for(path: str) -> None:
    async def work(world: World) -> None:
        lines = text_of(await world.raw("GET", f"/{path}?verbose=1")).splitlines()
        wanted = {f"[+]{name} ok" for name in ("ping", "log", "autoregister-completion")}
        assert wanted | {f"[+]poststarthook/{name} ok" for name in REQUIRED} <= set(lines)
        world.server._started = False
        lines = text_of(await world.raw("GET", f"/{path}?verbose=1")).splitlines()
        assert "[-]poststarthook/storage-readiness failed: reason withheld" in lines
        world.server._started = True

    run(work)
