"""The parameters of lists, watches and deletes: which are taken, and in which words the others are refused.

One world answers all the requests of a table, as they change nothing.
"""

from __future__ import annotations

import asyncio
import base64

import pytest

from tests.apiserver.apiworld import World, config_map, pod, run
from tiphys.api import codec
from tiphys.api.errors import StatusError
from tiphys.apiserver.storage import continuation
from tiphys.client import resources as R
from tiphys.wire.http import parse_query

MAPS = "/api/v1/namespaces/a/configmaps"
NOT_A_NUMBER = 'resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax'
EXACT_OF_ANY = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'

REFUSED = [
    (f"{MAPS}?limit=", 400, 'strconv.ParseInt: parsing "": invalid syntax'),
    (f"{MAPS}?limit=%201", 400, 'strconv.ParseInt: parsing " 1": invalid syntax'),
    (f"{MAPS}?timeoutSeconds=9223372036854775808", 400, 'parsing "9223372036854775808": value out of range'),
    (f"{MAPS}?resourceVersion=x", 400, f"invalid resource version: {NOT_A_NUMBER}"),
    (f"{MAPS}?resourceVersion=18446744073709551616", 400, "value out of range"),
    (f"{MAPS}/c0?resourceVersion=x", 500, NOT_A_NUMBER),
    (f"{MAPS}?watch=1&resourceVersion=x", 500, NOT_A_NUMBER),
    (f"{MAPS}?resourceVersion=0&resourceVersionMatch=Exact", 422, EXACT_OF_ANY),
    (f"{MAPS}?resourceVersionMatch=Exact", 422, "resourceVersionMatch is forbidden unless resourceVersion is provided"),
    (f"{MAPS}?timeout=x", 400, 'invalid timeout specified in the request URL - time: invalid duration "x"'),
    (f"{MAPS}?fieldSelector=spec.x%3D1", 400, '"spec.x" is not a known field selector: only "metadata.name"'),
    ("/api/v1/pods?fieldSelector=spec.x%3D1", 400, "field label not supported: spec.x"),
    ("/apis/batch/v1/jobs?fieldSelector=spec.x%3D1", 400, 'field label "spec.x" not supported for Job'),
    ("/api/v1/nodes?fieldSelector=metadata.namespace%3Dx", 400, "field label not supported: metadata.namespace"),
    ("/apis/apps/v1/replicasets?fieldSelector=status.replicas%3D1", 400, '"status.replicas" is not a known'),
    (
        "/apis/resource.k8s.io/v1/resourceslices?fieldSelector=x%3D1",
        400,
        "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: x",
    ),
]

TAKEN = [
    (f"{MAPS}?limit=2", 2),
    (f"{MAPS}?limit=-1", 3),
    (f"{MAPS}?limit=2&resourceVersion=0", 3),  # any state is given in one piece
    (f"{MAPS}?limit=2&resourceVersion=0&resourceVersionMatch=NotOlderThan", 3),
    (f"{MAPS}?limit=2;x", 3),  # a parameter with a semicolon is none
    (f"{MAPS}?labelSelector=%zz", 3),
    (f"{MAPS}?fieldSelector=%3D", 3),
    ("/api/v1/persistentvolumes?fieldSelector=metadata.namespace%3Dx", 0),
    (f"{MAPS}?timeout=-1s", 3),
]


async def filled(world: World) -> None:
    await world.namespace("a")
    for i in range(3):
        await world.admin.create(R.CONFIG_MAPS, config_map(f"c{i}"), namespace="a")


def test_parameters_that_are_refused() -> None:
    async def work(world: World) -> None:
        await filled(world)
        for path, code, text in REFUSED:
            found = await world.json("GET", path)
            assert (found.get("code"), path) == (code, path), found
            assert text in found["message"]

    run(work)


def test_parameters_that_are_taken() -> None:
    async def work(world: World) -> None:
        await filled(world)
        for path, count in TAKEN:
            found = await world.json("GET", path)
            assert (path, len(found["items"])) == (path, count)

    run(work)


def test_a_watch_without_initial_events_starts_now() -> None:
    async def work(world: World) -> None:
        await filled(world)
        query = "watch=1&timeoutSeconds=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan"
        for revision in ("", "0"):
            response = await world.raw("GET", f"{MAPS}?{query}&resourceVersion={revision}")
            assert response.status == 200
            sink = Lines()
            await response.body(sink)  # type: ignore[operator]
            assert sink.data == b""

    run(work)


class Lines:
    """A sink that keeps what it is given."""

    data = b""
    buffered = 0
    closed = False

    def write(self, data: bytes) -> None:
        self.data += data

    async def drain(self) -> None:
        return

    async def wait_closed(self) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (b"{}", "server does not recognize this encoded version "),
        (b"[]", "json: cannot unmarshal array into Go value of type storage.continueToken"),
        (b"{", "unexpected end of JSON input"),
        (b'{"v":"meta.k8s.io/v1","rv":"5"}', "json: cannot unmarshal string into Go struct field continueToken.rv of"),
        (b'{"v":"meta.k8s.io/v1","start":"a"}', "incorrect encoded start resourceVersion (version meta.k8s.io/v1)"),
        (b'{"v":"meta.k8s.io/v1","rv":1}', "encoded start key empty (version meta.k8s.io/v1)"),
        (b'{"v":"meta.k8s.io/v1","rv":1,"start":"a/../b"}', "a/../b"),
        (b'{"v":"meta.k8s.io/v1","rv":1,"start":"//a"}', "//a"),
    ],
)
def test_continue_tokens_that_no_server_made(token: bytes, why: str) -> None:
    with pytest.raises(StatusError) as caught:
        continuation.decode(base64.urlsafe_b64encode(token).rstrip(b"=").decode(), "/registry/x/")
    assert str(caught.value.status["message"]).startswith(f"invalid continue token: continue key is not valid: {why}")


@pytest.mark.parametrize(("token", "at"), [("a", 0), ("****", 0), ("e30=", 3), ("a b", 1), ("é", 0)])
def test_continue_tokens_that_are_no_base64(token: str, at: int) -> None:
    with pytest.raises(StatusError, match=f"illegal base64 data at input byte {at}$"):
        continuation.decode(token, "/registry/x/")


def test_names_in_continue_tokens_may_be_written_in_any_case() -> None:
    token = base64.urlsafe_b64encode(b'{"V":"meta.k8s.io/v1","RV":-1,"Start":"a"}').rstrip(b"=").decode()
    assert continuation.decode(token, "/registry/x/") == ("/registry/x/a", -1)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[]", "couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type "),
        (b"nul", "couldn't get version/kind; json parse error: invalid character ' ' in literal null (expecting 'l')"),
        (b'{"kind":1}', "json: cannot unmarshal number into Go struct field .kind of type string"),
        (b'{"kind":"Pod","apiVersion":"v1"}', 'no kind "Pod" is registered for version "v1" in scheme "k8s.io/api'),
        (b'{"kind":"ListOptions"}', "decoded object cannot be converted to DeleteOptions"),
        (
            b'{"gracePeriodSeconds":"a"}',
            "cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds",
        ),
        (b'{"dryRun":[1]}', "json: cannot unmarshal number into Go struct field DeleteOptions.dryRun of type string"),
    ],
)
def test_bodies_of_deletes_that_are_refused(body: bytes, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        codec.decode_delete_options(body, "application/json")
    assert caught.value.code == 400
    assert message in caught.value.status["message"]


def test_bodies_of_deletes_that_are_taken() -> None:
    assert codec.decode_delete_options(b"null", "application/json") == {}
    found = codec.decode_delete_options(
        b"kind: DeleteOptions\napiVersion: apps/v1\nx: 1\ngracePeriodSeconds: 3", "application/yaml"
    )
    assert found == {"gracePeriodSeconds": 3} | {"kind": "DeleteOptions", "apiVersion": "apps/v1"}


def test_queries_are_read_as_go_reads_them() -> None:
    assert parse_query("a=1&a=2&b&&c=x+y%2B&=z") == {"a": ["1", "2"], "b": [""], "c": ["x y+"], "": ["z"]}
    assert parse_query("a=1;b=2&c=%zz&%&d=%20") == {"d": [" "]}


def test_views_of_what_has_none() -> None:
    async def work(world: World) -> None:
        await filled(world)
        table = "application/json;as=Table;v=v1;g=meta.k8s.io"
        found = await world.json("GET", f"{MAPS}/c0?includeObject=x", accept=table)
        text = "Unable to convert to Table as requested: includeObject: Invalid value: \"x\": must be 'Metadata', "
        assert (found["code"], found["message"]) == (400, f"{text}'Object', 'None', or empty")
        assert (await world.json("GET", f"{MAPS}?watch=1&includeObject=x", accept=table))["code"] == 400
        await world.admin.create(R.PODS, pod("p"), namespace="a")
        assert (await world.json("GET", "/api/v1/namespaces/a/pods/p/resize", accept=table))["code"] == 406
        assert (await world.json("GET", "/api/v1/namespaces/a/pods/p/status", accept=table))["kind"] == "Table"

    run(work)


def test_a_deleted_job_leaves_its_pods_and_says_so() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        jobs = "/apis/batch/v1/namespaces/a/jobs"
        response = await world.raw("DELETE", jobs)
        assert "child pods are preserved by default" in response.headers["Warning"]
        response = await world.raw("DELETE", f"{jobs}?propagationPolicy=Background")
        assert "Warning" not in response.headers

    run(work)


def test_a_watch_warns_as_a_list_does() -> None:
    async def work(world: World) -> None:
        response = await world.raw("GET", "/api/v1/endpoints?watch=1")
        assert "v1 Endpoints is deprecated" in response.headers["Warning"]

    run(work)
