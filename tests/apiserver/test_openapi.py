"""The OpenAPI endpoints: every form that clients ask for, entity tags, compression, and what a definition changes."""

from __future__ import annotations

import gzip

import orjson
import pytest

from tests.apiserver.apiworld import World, run
from tiphys.api import openapi
from tiphys.api.openapi.operations import RETURNED
from tiphys.api.resources import builtin_scheme
from tiphys.wire.http import Response

V2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
V3 = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"

WHEELS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "wheels.parts.test"},
    "spec": {
        "group": "parts.test",
        "scope": "Namespaced",
        "names": {"plural": "wheels", "kind": "Wheel"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "selectableFields": [{"jsonPath": ".spec.c"}],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": {"type": "object", "properties": {"c": {"type": "string"}}}},
                    }
                },
            }
        ],
    },
}


def body_of(response: Response) -> bytes:
    assert isinstance(response.body, bytes)
    return response.body


FORMS: list[tuple[str, str | None, str | None]] = [
    ("/openapi/v2", None, "application/json"),
    ("/openapi/v2", "*/*", "application/json"),
    ("/openapi/v2", "application/*", "application/json"),
    ("/openapi/v2", V2, V2),
    ("/openapi/v2", V2.replace(".v1.0", "@v1.0"), V2),
    ("/openapi/v2", f"application/json;q=0.5, {V2}", V2),
    ("/openapi/v2", f"text/html, {V2};q=0.1", V2),
    ("/openapi/v2", V3, None),
    ("/openapi/v2", "application/yaml", None),
    ("/openapi/v3/api/v1", "application/json", "application/json"),
    ("/openapi/v3/api/v1", V3.replace(".v1.0", "@v1.0"), V3),
    ("/openapi/v3/api/v1", V3, V3),
    ("/openapi/v3/api/v1", "application/yaml", None),
]
"""A path, what is accepted, and the form of the answer; None where it is refused."""


def test_a_document_is_in_the_form_asked_for_or_refused() -> None:
    async def work(world: World) -> None:
        for path, accept, media in FORMS:
            response = await world.raw("GET", path, **({"accept": accept} if accept else {}))
            start = b"{" if media == "application/json" else b"\n" if media else b""
            given = (response.status, response.headers.get("Content-Type"), body_of(response)[:1])
            assert given == (200 if media else 406, media, start), (path, accept)

    run(work)


@pytest.mark.parametrize(("path", "binary"), [("/openapi/v2", V2), ("/openapi/v3/apis/node.k8s.io/v1", V3)])
def test_all_forms_of_a_document_have_one_tag(path: str, binary: str) -> None:
    async def work(world: World) -> None:
        plain = await world.raw("GET", path)
        tag = plain.headers["ETag"]
        assert (await world.raw("GET", path, accept=binary)).headers["ETag"] == tag
        for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
            again = await world.raw("GET", path, accept=binary, if_none_match=known)
            assert (again.status, again.body) == (304, b"")
        assert (await world.raw("GET", path, if_none_match='"other"')).status == 200

    run(work)


@pytest.mark.parametrize("accept", ["application/json", V2])
def test_the_old_document_is_compressed_where_the_client_takes_it(accept: str) -> None:
    async def work(world: World) -> None:
        plain = await world.raw("GET", "/openapi/v2", accept=accept)
        assert "Content-Encoding" not in plain.headers
        packed = await world.raw("GET", "/openapi/v2", accept=accept, accept_encoding="deflate, gzip")
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(body_of(packed)) == body_of(plain)
        refused = await world.raw("GET", "/openapi/v2", accept=accept, accept_encoding="gzip;q=0")
        assert "Content-Encoding" not in refused.headers

    run(work)


def test_a_definition_makes_new_documents() -> None:
    async def work(world: World) -> None:
        before = await world.raw("GET", "/openapi/v2", accept=V2)
        await world.json("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", WHEELS)
        await world.clock.sleep(5)
        after = await world.raw("GET", "/openapi/v2", accept=V2)
        assert after.headers["ETag"] != before.headers["ETag"]
        assert (b"test.parts.v1.Wheel" in body_of(after), b"test.parts.v1.Wheel" in body_of(before)) == (True, False)
        assert "test.parts.v1.Wheel" in orjson.loads(body_of(await world.raw("GET", "/openapi/v2")))["definitions"]
        group = "apis/parts.test/v1"
        assert group in orjson.loads(body_of(await world.raw("GET", "/openapi/v3")))["paths"]
        described = await world.raw("GET", f"/openapi/v3/{group}")
        await world.raw("DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/wheels.parts.test")
        await world.clock.sleep(5)
        assert described.status == 200
        assert (await world.raw("GET", f"/openapi/v3/{group}")).status == 404
        assert (await world.raw("GET", "/openapi/v2")).headers["ETag"] == before.headers["ETag"]


def test_documents_of_built_in_kinds_outlive_a_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    render = openapi.document_v3
    monkeypatch.setattr(openapi, "document_v3", lambda s, d, name: made.append(name) or render(s, d, name))

    async def work(world: World) -> None:
        await world.raw("GET", "/openapi/v3")
        assert "api/v1" in made
        made.clear()
        await world.json("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", WHEELS)
        await world.clock.sleep(5)
        await world.raw("GET", "/openapi/v3")
        assert made == ["apis/parts.test/v1"]

    run(work)


def test_deletions_are_described_as_they_are_answered() -> None:
    async def work(world: World) -> None:
        for resource in builtin_scheme().resources():
            if "delete" in resource.verbs and (resource.group, resource.plural) != ("", "namespaces"):
                strategy = world.server.registries.get(resource.group, resource.plural).strategy
                described = (resource.group, resource.plural) in RETURNED
                assert strategy.returns_deleted == described, resource.plural

    run(work)
