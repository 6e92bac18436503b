"""Admission webhooks: who is asked, what they are sent, and what their answers do."""

from __future__ import annotations

import asyncio
import base64
import errno
import json
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.apiserver.apiworld import World, config_map, pod, run
from tests.wire.certificates import Authority
from tiphys.api.object import Object
from tiphys.apiserver.webhooks.client import CallFailed, WebhookClient
from tiphys.client import resources as R
from tiphys.client.errors import ApiError, BadRequest, Forbidden
from tiphys.client.resources import ResourcePath
from tiphys.wire.http import Handler, Request, Response, Sink
from tiphys.wire.server import serve
from tiphys.wire.tls import contexts
from tiphys.wire.wording import connection_failure

MUTATING = ResourcePath("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", namespaced=False)
VALIDATING = ResourcePath("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", namespaced=False)


class Hook:
    """Stands for the webhooks of a world: ``answer`` makes the response of a request; ``asked`` are the requests."""

    def __init__(self, world: World, answer: Callable[[Object], Object]) -> None:
        self.asked: list[Object] = []
        self._answer = answer
        world.server.webhooks.call = self.call  # type: ignore[method-assign]

    async def call(self, config: Object, body: Object, timeout: float) -> Object:
        request = json.loads(json.dumps(body["request"])) | {"hook": config["url"].rpartition("/")[2]}
        self.asked.append(request)
        response = self._answer(request)
        return {
            "kind": "AdmissionReview",
            "apiVersion": body["apiVersion"],
            "response": {"uid": request["uid"], "allowed": True, **response},
        }


def webhook(name: str, **more: Any) -> Object:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}
    return {
        "name": f"{name}.example.com",
        "clientConfig": {"url": f"https://127.0.0.1:1/{name}"},
        "rules": [rule],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **more,
    }


async def register(world: World, resource: ResourcePath, *hooks: Object, name: str = "hooks") -> None:
    await world.admin.create(resource, {"metadata": {"name": name}, "webhooks": list(hooks)})
    await world.settle()


def patch(*operations: Object) -> Object:
    return {"patch": base64.b64encode(json.dumps(operations).encode()).decode(), "patchType": "JSONPatch"}


def add(path: str, value: Any) -> Object:
    return {"op": "add", "path": path, "value": value}


def test_a_webhook_refuses() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        hook = Hook(world, lambda r: {"allowed": False, "status": {"message": "not on a Friday", "code": 403}})
        await register(world, VALIDATING, webhook("w"))
        with pytest.raises(
            ApiError, match=r'403 : admission webhook "w\.example\.com" denied the request: not on a Friday'
        ):
            await world.admin.create(R.CONFIG_MAPS, config_map("x"), namespace="a")
        (asked,) = hook.asked
        assert asked["object"]["metadata"]["name"] == "x"
        told = {key: value for key, value in asked.items() if key not in ("object", "uid", "hook")}
        kind, resource = {"group": "", "version": "v1", "kind": "ConfigMap"}, {"group": "", "version": "v1"}
        assert told == {
            "kind": kind,
            "requestKind": kind,
            "resource": resource | {"resource": "configmaps"},
            "requestResource": resource | {"resource": "configmaps"},
            "name": "x",
            "namespace": "a",
            "operation": "CREATE",
            "userInfo": {"username": "admin", "groups": ["system:masters", "system:authenticated"]},
            "oldObject": None,
            "dryRun": False,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        }

    run(work)


def test_a_webhook_changes_the_object_and_the_rest_of_the_way_sees_it() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        Hook(world, lambda r: patch(add("/spec/containers/-", {"name": "sidecar", "image": "s"})))
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
        await register(world, MUTATING, webhook("w", rules=[rule]))
        made = await world.admin.create(R.PODS, pod("p"), namespace="a")
        sidecar = made["spec"]["containers"][1]
        # Defaults were set, and the built-in plugins ran once more: the token is mounted.
        assert sidecar["terminationMessagePath"] == "/dev/termination-log"
        assert sidecar["volumeMounts"][0]["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
        Hook(world, lambda r: patch({"op": "remove", "path": "/spec/containers/0"}))
        with pytest.raises(ApiError, match=r"spec\.containers: Required value"):
            await world.admin.create(R.PODS, pod("q"), namespace="a")

    run(work)


def test_webhooks_are_called_again_after_a_change_where_they_ask_for_it() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")

        def answer(request: Object) -> Object:
            if request["hook"] == "second" and "marked" not in request["object"]["data"]:
                return patch(add("/data/marked", "yes"))
            return {}

        hook = Hook(world, answer)
        again = webhook("first", reinvocationPolicy="IfNeeded")
        await register(world, MUTATING, again, webhook("second", reinvocationPolicy="IfNeeded"), webhook("third"))
        made = await world.admin.create(R.CONFIG_MAPS, config_map("x"), namespace="a")
        assert made["data"]["marked"] == "yes"
        assert [request["hook"] for request in hook.asked] == ["first", "second", "third", "first"]
        assert hook.asked[3]["object"]["data"]["marked"] == "yes"

    run(work)


def test_who_is_asked() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        await world.admin.patch(R.NAMESPACES, "a", {"metadata": {"labels": {"team": "x"}}})
        await world.namespace("b")
        hook = Hook(world, lambda r: {})
        only = webhook("selected", namespaceSelector={"matchLabels": {"team": "x"}})
        marked = webhook("marked", objectSelector={"matchExpressions": [{"key": "mark", "operator": "Exists"}]})
        wide = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["DELETE"], "resources": ["*/*"]}
        deletes = webhook("deletes", rules=[wide], sideEffects="NoneOnDryRun")
        await register(world, VALIDATING, only, marked, deletes)

        async def asked(call: Any) -> list[str]:
            hook.asked.clear()
            await call
            return [request["hook"] for request in hook.asked]

        admin = world.admin
        assert await asked(admin.create(R.CONFIG_MAPS, config_map("x"), namespace="a")) == ["selected"]
        assert await asked(admin.create(R.CONFIG_MAPS, config_map("x"), namespace="b")) == []
        mark = {"metadata": {"labels": {"mark": "1"}}}
        assert await asked(admin.patch(R.CONFIG_MAPS, "x", mark, "b")) == ["marked"]
        unmark = {"metadata": {"labels": {"mark": None}}}
        assert await asked(admin.patch(R.CONFIG_MAPS, "x", unmark, "b")) == ["marked"]
        assert await asked(admin.delete(R.CONFIG_MAPS, "x", "b")) == ["deletes"]
        assert hook.asked[0]["oldObject"]["metadata"]["name"] == "x"
        assert hook.asked[0]["object"] is None
        # What a webhook breaks can always be mended.
        assert await asked(admin.delete(VALIDATING, "hooks")) == []

    run(work)


def test_conditions_decide_who_is_asked() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        hook = Hook(world, lambda r: {})

        def condition(text: str) -> Object:
            return {"matchConditions": [{"name": "c", "expression": text}]}

        await register(
            world,
            VALIDATING,
            webhook("named", **condition("object.metadata.name.startsWith('x')")),
            webhook("others", **condition("request.userInfo.username != 'admin'")),
            webhook("allowed", **condition("authorizer.group('').resource('pods').check('create').allowed()")),
            webhook("lax", failurePolicy="Ignore", **condition("object.data.missing == 'x'")),
        )
        await world.admin.create(R.CONFIG_MAPS, config_map("x"), namespace="a")
        assert [request["hook"] for request in hook.asked] == ["named", "allowed"]
        await register(world, VALIDATING, webhook("w", **condition("object.data.missing == 'x'")), name="strict")
        with pytest.raises(Forbidden, match="no such key: missing"):
            await world.admin.create(R.CONFIG_MAPS, config_map("y"), namespace="a")

    run(work)


def test_a_webhook_sees_the_version_that_it_asks_for() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        hook = Hook(world, lambda r: patch(add("/spec/maxReplicas", 7)))
        rule = {"apiGroups": ["autoscaling"], "apiVersions": ["v1"], "operations": ["CREATE"]}
        rules = [rule | {"resources": ["horizontalpodautoscalers"]}]
        await register(world, MUTATING, webhook("w", rules=rules), webhook("exact", rules=rules, matchPolicy="Exact"))
        metric = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}
        metric["resource"]["target"]["averageUtilization"] = 50
        target = {"kind": "Deployment", "apiVersion": "apps/v1", "name": "d"}
        spec = {"scaleTargetRef": target, "maxReplicas": 3, "metrics": [metric]}
        path = "/apis/autoscaling/v2/namespaces/a/horizontalpodautoscalers"
        made = await world.json("POST", path, {"metadata": {"name": "h"}, "spec": spec})
        assert (made["apiVersion"], made["spec"]["maxReplicas"]) == ("autoscaling/v2", 7)
        assert made["spec"]["metrics"] == [metric]
        (asked,) = hook.asked
        assert asked["kind"]["version"] == "v1"
        assert asked["requestKind"]["version"] == "v2"
        assert asked["object"]["spec"]["targetCPUUtilizationPercentage"] == 50

    run(work)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        ({"uid": "other"}, "received invalid webhook response: expected response.uid="),
        ({"patch": "e30="}, "received invalid webhook response: validating webhook may not return response.patch"),
    ],
)
def test_answers_that_are_wrong(response: Object, message: str) -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        Hook(world, lambda r: response)
        await register(world, VALIDATING, webhook("w"))
        with pytest.raises(ApiError, match=message):
            await world.admin.create(R.CONFIG_MAPS, config_map("x"), namespace="a")

    run(work)


def test_a_webhook_that_cannot_be_asked() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")

        def fail(request: Object) -> Object:
            raise CallFailed('Post "https://127.0.0.1:1/w?timeout=10s": context deadline exceeded')

        Hook(world, fail)
        await register(world, VALIDATING, webhook("w", failurePolicy="Ignore"), name="lax")
        await world.admin.create(R.CONFIG_MAPS, config_map("x"), namespace="a")
        await register(world, VALIDATING, webhook("w"), name="strict")
        text = 'failed calling webhook "w.example.com": failed to call webhook: Post .* context deadline exceeded'
        with pytest.raises(ApiError, match=text):
            await world.admin.create(R.CONFIG_MAPS, config_map("y"), namespace="a")

    run(work)


def test_a_dry_run_is_not_shown_to_webhooks_with_side_effects() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        Hook(world, lambda r: {"warnings": ["mind the gap"]})
        body = {"metadata": {"name": "x"}}
        path = "/api/v1/namespaces/a/configmaps?dryRun=All"
        await register(world, VALIDATING, webhook("w"))
        response = await world.raw("POST", path, body)
        assert (response.status, "mind the gap" in response.headers["Warning"]) == (201, True)
        # v1 of the API allows no other value; older servers have stored them.
        key = b"/registry/validatingwebhookconfigurations/hooks"
        from tiphys.store.backend import Put, Range

        (stored,) = (await world.backend.range(Range(key))).kvs
        value = stored.value.replace(b'"sideEffects":"None"', b'"sideEffects":"Some"')
        await world.backend.put(Put(key, value))
        await world.settle()
        with pytest.raises(BadRequest, match=r"w\.example\.com. does not support dry run"):
            await world.admin.create(R.CONFIG_MAPS, body, namespace="a", params={"dryRun": "All"})

    run(work)


def test_the_client_reaches_urls_by_tls() -> None:
    authority = Authority()

    async def handler(request: Request) -> Response:
        if request.path == "/slow":
            await asyncio.sleep(30)
        if request.path == "/broken":
            return Response(503, {}, b"out of order")
        if request.path == "/list":
            return Response(200, {}, b"[]")
        if request.path == "/text":
            return Response(200, {}, b"hello")
        if request.path == "/endless":
            return Response(200, {}, endless)
        return Response(200, {}, request.body)

    sent = 0

    async def endless(sink: Sink) -> None:
        nonlocal sent
        while not sink.closed:
            sink.write(bytes(1 << 20))
            sent += 1 << 20
            await sink.drain()

    async def main() -> None:
        server = await serve(
            handler, "127.0.0.1", 0, tls=contexts.server_context(*authority.issue("localhost", server=True))
        )
        port = server.port
        client = WebhookClient(None)  # type: ignore[arg-type]
        bundle = base64.b64encode(authority.pem).decode()

        async def ask(path: str, bundle: str = bundle, timeout: float = 5) -> Object:
            config = {"url": f"https://127.0.0.1:{port}{path}", "caBundle": bundle}
            return await client.call(config, {"a": 1}, timeout)

        assert await ask("/") == {"a": 1}
        with pytest.raises(CallFailed, match=r"an error on the server \(\"out of order\"\) has prevented"):
            await ask("/broken")
        unreadable = "couldn't get version/kind; json parse error:"
        with pytest.raises(CallFailed, match=f"{unreadable} invalid character 'h' looking for beginning of value"):
            await ask("/text")
        with pytest.raises(CallFailed, match=f"{unreadable} json: cannot unmarshal array into Go value of type struct"):
            await ask("/list")
        with pytest.raises(CallFailed, match="the body is larger than 16777216 bytes"):
            await ask("/endless")
        assert sent < 64 << 20
        with pytest.raises(
            CallFailed, match=r'Post "https://127.0.0.1:\d+/slow\?timeout=1s": context deadline exceeded'
        ):
            await ask("/slow", timeout=0.2)
        refused = "tls: failed to verify certificate: x509: certificate signed by unknown authority$"
        with pytest.raises(CallFailed, match=rf'^Post "https://127.0.0.1:\d+/\?timeout=5s": {refused}'):
            await ask("/", base64.b64encode(Authority("stranger").pem).decode())
        await server.close(0)
        refused = r": dial tcp 127\.0\.0\.1:\d+: connect: connection refused$"
        with pytest.raises(CallFailed, match=refused):
            await ask("/")
        await client.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "hops", "method", "sends_body"),
    [
        (301, 1, "GET", False),
        (302, 1, "GET", False),
        (303, 1, "GET", False),
        (307, 1, "POST", True),
        (308, 10, "POST", True),
    ],
)
def test_redirects_are_followed_as_by_gos_client(status: int, hops: int, method: str, sends_body: bool) -> None:
    asked: list[tuple[str, str, bytes]] = []

    async def handler(request: Request) -> Response:
        asked.append((request.method, request.path, request.body))
        count = int(request.path.strip("/") or "0")
        if count < hops:
            return Response(status, {"Location": f"/{count + 1}"})
        return Response(200, {}, b'{"a": 2}')

    answer = with_plain_server(handler, "/")
    assert answer == {"a": 2}
    assert len(asked) == hops + 1
    assert asked[-1] == (method, f"/{hops}", b'{"a":1}' if sends_body else b"")


def test_redirects_without_end_are_given_up() -> None:
    async def handler(request: Request) -> Response:
        return Response(307, {"Location": "/again"})

    assert re.fullmatch(
        r'Post "http://127.0.0.1:\d+/again": stopped after 10 redirects', str(with_plain_server(handler, "/"))
    )


def test_a_redirect_to_nowhere_is_an_answer() -> None:
    async def handler(request: Request) -> Response:
        return Response(301, {})

    assert "unknown reason (status 301)" in str(with_plain_server(handler, "/"))


def with_plain_server(handler: Handler, path: str, scheme: str = "http") -> Object | CallFailed:
    """The answer to a call, or its failure."""

    async def main() -> Object | CallFailed:
        server = await serve(handler, "127.0.0.1", 0)
        client = WebhookClient(None)  # type: ignore[arg-type]
        try:
            return await client.call({"url": f"{scheme}://127.0.0.1:{server.port}{path}"}, {"a": 1}, 5)
        except CallFailed as error:
            return error
        finally:
            await client.close()
            await server.close(0)

    return asyncio.run(main())


def test_a_service_that_is_not_there_is_told_with_its_address() -> None:
    async def work(world: World) -> None:
        service = {"namespace": "a", "name": "x", "path": "/p"}
        with pytest.raises(CallFailed, match=r'^Post "https://x\.a\.svc:443/p\?timeout=5s": service "x" not found$'):
            await world.server.webhooks.call({"service": service}, {}, 5)

    run(work)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "dial tcp h:443: connect: connection refused"),
        (OSError(errno.EHOSTUNREACH, "x"), "dial tcp h:443: connect: no route to host"),
        (socket.gaierror(-2, "x"), "dial tcp: lookup h: no such host"),
        (ConnectionError("closed"), "EOF"),
    ],
)
def test_failures_are_told_in_gos_words(error: OSError, text: str) -> None:
    assert connection_failure(error, "h", 443, "n") == text
    outer = ConnectionError("connect to h: something of Python's")
    outer.__cause__ = error
    assert connection_failure(outer, "h", 443, "n") == text


def test_reviews_are_admitted_like_other_creations() -> None:
    async def work(world: World) -> None:
        rule = {
            "apiGroups": ["authorization.k8s.io"],
            "apiVersions": ["v1"],
            "operations": ["CREATE"],
            "resources": ["*"],
        }
        hook = Hook(world, lambda r: {"allowed": False, "status": {"message": "nobody asks"}})
        await register(world, VALIDATING, webhook("w", rules=[rule]))
        attributes = {"verb": "get", "resource": "pods"}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = await world.json("POST", path, {"spec": {"resourceAttributes": attributes}})
        assert "nobody asks" in answer["message"]
        assert hook.asked[0]["resource"]["resource"] == "selfsubjectaccessreviews"

    run(work)


def test_access_is_reviewed_in_namespaces_that_are_not_there() -> None:
    async def work(world: World) -> None:
        path = "/apis/authorization.k8s.io/v1/namespaces/none/localsubjectaccessreviews"
        spec = {"user": "bob", "resourceAttributes": {"namespace": "none", "verb": "get", "resource": "pods"}}
        answer = await world.raw("POST", path, {"metadata": {"namespace": "none"}, "spec": spec})
        assert answer.status == 201, answer.body

    run(work)


def test_the_endpoints_of_a_service_take_turns() -> None:
    """One that hangs although it is ready must not fail every request."""
    service = {"metadata": {"name": "hook"}, "spec": {"clusterIP": "None", "ports": [{"name": "https", "port": 443}]}}
    slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"

    def endpoint_slice(name: str, *addresses: str, ready: bool = True) -> Object:
        return {
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "hook"}},
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": 8443}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": ready}} for address in addresses],
        }

    async def work(world: World) -> None:
        assert (await world.raw("POST", "/api/v1/namespaces/default/services", service)).status == 201
        some = (endpoint_slice("a", "10.0.0.1", "10.0.0.2"), endpoint_slice("b", "10.0.0.3"))
        for made in (*some, endpoint_slice("c", "10.0.0.4", ready=False)):
            assert (await world.raw("POST", slices, made)).status == 201
        await world.settle()
        client = WebhookClient(world.server.registries)
        reached = [await client._endpoint("default", "hook", 443) for _ in range(6)]
        assert reached == [(f"10.0.0.{number}", 8443) for number in (1, 2, 3, 1, 2, 3)]

    run(work)
