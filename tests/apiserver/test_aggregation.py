"""APIs that another server serves: a second API server behind TLS, reached through the first one by real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.apiserver.apiworld import ADMIN, World, run
from tests.apiserver.test_customresources import DEFINITIONS, definition, toy
from tests.wire.certificates import Authority
from tiphys.apiserver.aggregator.backends import Backends, Unroutable
from tiphys.apiserver.aggregator.merging import discovered, merged, part_of
from tiphys.apiserver.aggregator.proxying import with_user
from tiphys.apiserver.aggregator.services import Remote, remote_of
from tiphys.apiserver.call import User
from tiphys.apiserver.config import Config, FrontProxy, ProxyCertificate
from tiphys.apiserver.server import APIServer
from tiphys.client.errors import ApiError
from tiphys.client.resources import ResourcePath
from tiphys.client.rest import Client
from tiphys.runtime.clock import SystemClock
from tiphys.store.memory import MemoryBackend
from tiphys.wire.client import SocketTransport
from tiphys.wire.http import ByteStream, Handler, Headers, Request, Response, Upgrade
from tiphys.wire.inprocess import InProcessTransport
from tiphys.wire.server import serve
from tiphys.wire.tls import contexts
from tiphys.wire.tls.contexts import TLSPolicy

Object = dict[str, Any]

SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
TOYS = ResourcePath("example.com", "v1", "toys", namespaced=True)
PROXIES, SERVERS = Authority("front-proxy-ca"), Authority("servers")
NAME = "v1.example.com"


class Pair:
    """``front`` is the server that clients speak to; ``behind`` serves ``example.com``. ``asked`` are the requests that
    got there."""

    def __init__(self, front: APIServer, behind: APIServer, stack: AsyncExitStack) -> None:
        self.front = front
        self.behind = behind
        self.stack = stack
        self.client = Client(InProcessTransport(front.handler, ADMIN), user_agent="test/1")
        self.asked: list[Request] = []
        self.answer: Handler = behind.handler
        """What the server behind does with a request; another one stands for a server with a fault."""

    async def serve(self) -> int:
        async def handler(request: Request) -> Response:
            self.asked.append(replace(request, headers=request.headers.copy()))
            return await self.answer(request)

        pair = SERVERS.issue("ext.default.svc", server=True)
        context = contexts.server_context(*pair, PROXIES.pem, policy=TLSPolicy(asks=True))
        listener = await serve(handler, "127.0.0.1", 0, tls=context)
        self.stack.push_async_callback(listener.close, 0)
        return listener.port

    async def json(
        self, method: str, path: str, body: Any = None, accept: str = "application/json", to: APIServer | None = None
    ) -> Object:
        media = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"accept": accept, "content-type": media}
        path, _, query = path.partition("?")
        data = b"" if body is None else json.dumps(body).encode()
        transport = InProcessTransport((to or self.front).handler, ADMIN)
        response = await transport.send(Request(method, path, query, Headers(headers), data))
        text = await response.read()
        try:
            found: Object = json.loads(text)
        except ValueError:
            found = {"code": response.status, "text": text.decode()}
        return found

    async def condition(self, *wanted: str) -> Object:
        """The condition once its reason is one of ``wanted``."""
        while True:
            found = await self.json("GET", f"{SERVICES}/{NAME}")
            for condition in (found.get("status") or {}).get("conditions") or ():
                if condition["reason"] in wanted:
                    return dict(condition)
            await asyncio.sleep(0.02)

    async def register(self, port: int, **spec: Any) -> None:
        ports = [{"name": "https", "port": 443}]
        service = {
            "metadata": {"name": "ext"},
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": ports},
        }
        await self.json("POST", "/api/v1/namespaces/default/services", service)
        reference = {"namespace": "default", "name": "ext", "port": port}
        own = {"group": "example.com", "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 10}
        trust = {} if spec else {"caBundle": base64.b64encode(SERVERS.pem).decode()}
        body = {"metadata": {"name": NAME}, "spec": {**own, "service": reference, **trust, **spec}}
        made = await self.json("POST", SERVICES, body)
        assert made["kind"] == "APIService", made


def with_pair(work: Callable[[Pair], Awaitable[None]]) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack, asyncio.timeout(60):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            cert, key = PROXIES.issue("front-proxy-client")
            (folder / "cert").write_bytes(cert)
            (folder / "key").write_bytes(key)
            front = await start(
                stack, Config(seed=1, proxy_certificate=ProxyCertificate(folder / "cert", folder / "key"))
            )
            behind = await start(stack, Config(seed=2, front_proxy=FrontProxy(PROXIES.pem)))
            pair = Pair(front, behind, stack)
            await pair.json("POST", DEFINITIONS, definition(), to=behind)
            await work(pair)

    asyncio.run(main())


async def start(stack: AsyncExitStack, config: Config) -> APIServer:
    clock = SystemClock()
    backend = MemoryBackend(clock)
    stack.push_async_callback(backend.close)
    server = APIServer(config, backend, clock)
    await server.start()
    stack.push_async_callback(server.stop)
    return server


def test_what_another_server_serves_is_served_through_this_one() -> None:
    async def work(pair: Pair) -> None:
        await pair.register(await pair.serve())
        condition = await pair.condition("Passed")
        assert (condition["status"], condition["message"]) == ("True", "all checks passed")
        seen: list[tuple[str, str]] = []

        async def follow() -> None:
            async for event in pair.client.watch(TOYS, namespace="default"):
                seen.append((event.type, event.object["metadata"]["name"]))  # noqa: PERF401 - read while it goes on

        task = asyncio.ensure_future(follow())
        made = await pair.client.create(TOYS, toy("a", size=3), namespace="default")
        assert made["spec"]["size"] == 3
        assert (await pair.client.get(TOYS, "a", namespace="default"))["metadata"]["uid"] == made["metadata"]["uid"]
        with pytest.raises(ApiError, match=r"spec\.color"):
            await pair.client.create(TOYS, toy("b", color="turquoise"), namespace="default")
        while not seen:
            await asyncio.sleep(0.01)
        assert seen == [("ADDED", "a")]
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        # Who calls is told in headers, by the one who has found it out.
        headers = next(r.headers for r in pair.asked if r.method == "POST")
        assert headers["x-remote-user"] == "admin"
        assert headers.each("x-remote-group") == ["system:masters", "system:authenticated"]
        managers = [entry["manager"] for entry in made["metadata"]["managedFields"]]
        assert managers == ["test"]

    with_pair(work)


def test_a_caller_cannot_say_who_he_is() -> None:
    headers = Headers.of(
        [("x-remote-user", "root"), ("x-remote-extra-scopes", "all"), ("accept", "a"), ("accept", "b")]
    )
    user = User("jane", ("devs", "ops"), "7", (("example.com/scope", ("read", "write")),))
    passed = with_user(headers, user)
    assert passed.each("accept") == ["a", "b"]
    assert {name: passed.each(name) for name in passed if name != "accept"} == {
        "x-remote-user": ["jane"],
        "x-remote-uid": ["7"],
        "x-remote-group": ["devs", "ops"],
        "x-remote-extra-example.com%2fscope": ["read", "write"],
    }


def test_discovery_and_openapi_show_what_all_serve() -> None:
    async def work(pair: Pair) -> None:
        assert not [g for g in (await pair.json("GET", "/apis"))["groups"] if g["name"] == "example.com"]
        await pair.register(await pair.serve())
        await pair.condition("Passed")
        groups = [group["name"] for group in (await pair.json("GET", "/apis"))["groups"]]
        assert groups[-1] == "example.com"
        group = await pair.json("GET", "/apis/example.com")
        assert group["preferredVersion"] == {"groupVersion": "example.com/v1", "version": "v1"}
        rows = (await pair.json("GET", "/apis/example.com/v1"))["resources"]
        assert [row["name"] for row in rows] == ["toys"]
        aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        items = (await pair.json("GET", "/apis", accept=aggregated))["items"]
        (version,) = next(item["versions"] for item in items if item["metadata"]["name"] == "example.com")
        assert version["freshness"] == "Current"
        assert version["resources"][0]["resource"] == "toys"
        while "/apis/example.com/v1/toys" not in (document := await pair.json("GET", "/openapi/v2"))["paths"]:
            await asyncio.sleep(0.02)
        assert "com.example.v1.Toy" in document["definitions"]
        assert "io.k8s.api.core.v1.Pod" in document["definitions"]
        while "apis/example.com/v1" not in (index := (await pair.json("GET", "/openapi/v3"))["paths"]):
            await asyncio.sleep(0.02)
        third = await pair.json("GET", index["apis/example.com/v1"]["serverRelativeURL"])
        assert "com.example.v1.Toy" in third["components"]["schemas"]
        await pair.json("DELETE", f"{SERVICES}/{NAME}")
        while (await pair.json("GET", "/apis/example.com")).get("code") != 404:
            await asyncio.sleep(0.02)
        while "/apis/example.com/v1/toys" in (await pair.json("GET", "/openapi/v2"))["paths"]:
            await asyncio.sleep(0.02)

    with_pair(work)


def test_a_server_that_cannot_be_trusted_or_reached_is_not_available() -> None:
    async def work(pair: Pair) -> None:
        port = await pair.serve()
        stranger = base64.b64encode(Authority("stranger").pem).decode()
        await pair.register(port, caBundle=stranger)
        url = f"https://localhost:{port}/apis/example.com/v1"
        condition = await pair.condition("FailedDiscoveryCheck")
        problem = "tls: failed to verify certificate: x509: certificate signed by unknown authority"
        assert condition["message"] == f'failing or missing response from {url}: Get "{url}": {problem}'
        refused = await pair.json("GET", "/apis/example.com/v1/toys")
        assert refused == {"code": 503, "text": "service unavailable\n"}
        aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        items = (await pair.json("GET", "/apis", accept=aggregated))["items"]
        shown = next(item["versions"] for item in items if item["metadata"]["name"] == "example.com")
        assert shown == [{"version": "v1", "freshness": "Stale"}]
        registry = CollectorRegistry()
        registry.register(pair.front.metrics)
        text = generate_latest(registry).decode()
        assert f'aggregator_unavailable_apiservice{{name="{NAME}"}} 1.0' in text
        assert f'aggregator_unavailable_apiservice_total{{name="{NAME}",reason="FailedDiscoveryCheck"}} 1.0' in text
        # The change is looked at without waiting for the next round.
        patch = {"spec": {"caBundle": None, "insecureSkipTLSVerify": True}}
        await pair.json("PATCH", f"{SERVICES}/{NAME}", patch)
        await pair.condition("Passed")

        async def broken(request: Request) -> Response:
            return Response(500)

        async def elsewhere(request: Request) -> Response:
            return Response(302, {"Location": "https://elsewhere.example/"})

        pair.answer = elsewhere
        redirected = await pair.json("GET", "/apis/example.com/v1/toys")
        told = "the backend attempted to redirect this request, which is not permitted"
        assert redirected == {"code": 502, "text": told}
        pair.answer = broken
        label = {"spec": {"versionPriority": 11}}
        await pair.json("PATCH", f"{SERVICES}/{NAME}", label)
        condition = await pair.condition("FailedDiscoveryCheck")
        assert condition["message"] == f"failing or missing response from {url}: bad status from {url}: 500"

    with_pair(work)


def test_one_that_does_not_answer_keeps_no_other_waiting() -> None:
    async def work(pair: Pair) -> None:
        port = await pair.serve()
        silent = asyncio.Event()

        async def wait(request: Request) -> Response:
            if request.path.startswith("/apis/silent.example"):
                silent.set()
                await asyncio.sleep(3600)
            return await pair.behind.handler(request)

        pair.answer = wait
        reference = {"namespace": "default", "name": "ext", "port": port}
        spec = {"group": "silent.example", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}
        body = {
            "metadata": {"name": "v1.silent.example"},
            "spec": {**spec, "service": reference, "insecureSkipTLSVerify": True},
        }
        service = {"metadata": {"name": "ext"}, "spec": {"type": "ExternalName", "externalName": "localhost"}}
        await pair.json("POST", "/api/v1/namespaces/default/services", service)
        await pair.json("POST", SERVICES, body)
        await silent.wait()
        await pair.register(port)
        await pair.condition("Passed")
        assert "conditions" not in (await pair.json("GET", f"{SERVICES}/v1.silent.example"))["status"]

    with_pair(work)


def test_upgrades_go_through() -> None:
    async def work(pair: Pair) -> None:
        async def echo(stream: ByteStream) -> None:
            while data := await stream.read():
                stream.write(data.upper())
            stream.close()

        async def handler(request: Request) -> Response:
            if request.path.endswith("/exec"):
                assert request.query == "command=ls"
                assert request.headers["x-remote-user"] == "system:anonymous"
                return Response(101, {"Connection": "Upgrade", "Upgrade": "echo/1"}, Upgrade(echo))
            return await pair.behind.handler(request)

        pair.answer = handler
        await pair.register(await pair.serve())
        await pair.condition("Passed")
        rule = {"apiGroups": ["example.com"], "resources": ["*"], "verbs": ["*"]}
        roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
        await pair.json("POST", roles, {"metadata": {"name": "toys"}, "rules": [rule]})
        subject = {"kind": "User", "name": "system:anonymous", "apiGroup": "rbac.authorization.k8s.io"}
        ref = {"kind": "ClusterRole", "name": "toys", "apiGroup": "rbac.authorization.k8s.io"}
        await pair.json(
            "POST",
            f"{roles}bindings".replace("rolesb", "roleb"),
            {"metadata": {"name": "toys"}, "subjects": [subject], "roleRef": ref},
        )
        listener = await serve(pair.front.handler, "127.0.0.1", 0)
        pair.stack.push_async_callback(listener.close, 0)
        transport = SocketTransport("127.0.0.1", listener.port)
        pair.stack.push_async_callback(transport.close)
        fields = {"connection": "Upgrade", "upgrade": "echo/1", "x-remote-user": "root"}
        path = "/apis/example.com/v1/namespaces/default/toys/a/exec"
        while True:
            response = await transport.send(Request("POST", path, "command=ls", Headers(fields)))
            if response.status == 101:
                break
            assert response.status == 403  # authorization is a moment behind
            await response.read()
        stream = response.upgraded()
        stream.write(b"hello")
        assert await stream.read() == b"HELLO"
        stream.close()

    with_pair(work)


def test_a_list_of_resources_as_aggregated_discovery() -> None:
    rows = [
        {
            "name": "toys",
            "singularName": "toy",
            "namespaced": True,
            "kind": "Toy",
            "verbs": ["get"],
            "shortNames": ["t"],
        },
        {
            "name": "toys/scale",
            "namespaced": True,
            "kind": "Scale",
            "group": "autoscaling",
            "version": "v1",
            "verbs": ["get"],
        },
    ]
    kind = {"group": "example.com", "version": "v1", "kind": "Toy"}
    scale = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert discovered({"resources": rows}, "example.com", "v1") == [
        {
            "resource": "toys",
            "responseKind": kind,
            "scope": "Namespaced",
            "singularResource": "toy",
            "verbs": ["get"],
            "shortNames": ["t"],
            "subresources": [{"subresource": "scale", "responseKind": scale, "verbs": ["get"]}],
        }
    ]


def test_definitions_in_conflict_get_names_of_their_own() -> None:
    def ref(name: str) -> Object:
        return {"$ref": f"#/definitions/{name}"}

    base = {"paths": {"/api": {}}, "definitions": {"Meta": {"type": "object"}, "Spec": {"type": "string"}}}
    theirs = {
        "paths": {"/apis/e/v1/toys": ref("Toy"), "/apis/e/v10": {}, "/apis/other": ref("Unused")},
        "definitions": {
            "Toy": {"properties": {"m": ref("Meta"), "s": ref("Spec")}},
            "Meta": {"type": "object", "x-kubernetes-group-version-kind": [1]},
            "Spec": {"type": "object"},
            "Unused": {},
        },
    }
    part = part_of(theirs, "/apis/e/v1")
    assert sorted(part["definitions"]) == ["Meta", "Spec", "Toy"]
    found = merged(base, [part, part])
    assert found["definitions"]["Toy"] == {"properties": {"m": ref("Meta"), "s": ref("Spec_v2")}}
    assert sorted(found["definitions"]) == ["Meta", "Spec", "Spec_v2", "Toy"]
    assert sorted(found["paths"]) == ["/api", "/apis/e/v1/toys"]


def test_where_a_service_is_reached() -> None:
    async def work(world: World) -> None:
        services, slices = (
            "/api/v1/namespaces/default/services",
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        )
        made = await world.json(
            "POST", services, {"metadata": {"name": "api"}, "spec": {"ports": [{"port": 443, "name": "h"}]}}
        )
        headless = {"metadata": {"name": "headless"}, "spec": {"clusterIP": "None", "ports": [{"port": 443}]}}
        await world.json("POST", services, headless)
        await world.settle()
        by_ip, by_endpoint = (Backends(world.server.registries, None, to_endpoints=routed) for routed in (False, True))

        async def why(backends: Backends, name: str, port: int = 443) -> str:
            with pytest.raises(Unroutable) as raised:
                await backends.resolve(remote(name, port))
            return str(raised.value)

        assert await by_ip.resolve(remote("api")) == (made["spec"]["clusterIP"], 443)
        assert await why(by_ip, "api", 80) == 'no service port 80 found for service "api"'
        assert await why(by_ip, "headless") == 'cannot route to service with ClusterIP "None"'
        assert await why(by_ip, "nobody") == 'service "nobody" not found'
        assert await why(by_endpoint, "api") == 'no endpoints available for service "api"'
        endpoints = [{"addresses": [f"10.0.0.{n}"], "conditions": {"ready": n != 2}} for n in (1, 2, 3)]
        labels = {"kubernetes.io/service-name": "api"}
        body = {"metadata": {"name": "s", "labels": labels}, "addressType": "IPv4", "endpoints": endpoints}
        await world.json("POST", slices, {**body, "ports": [{"name": "h", "port": 8443}]})
        await world.settle()
        reached = [await by_endpoint.resolve(remote("api")) for _ in range(4)]
        assert reached == [("10.0.0.1", 8443), ("10.0.0.3", 8443)] * 2

    run(work)


def remote(service: str, port: int = 443) -> Remote:
    spec = {"group": "example.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}
    reference = {"namespace": "default", "name": service, "port": port}
    found = remote_of({"metadata": {"name": NAME}, "spec": {**spec, "service": reference}})
    assert found is not None
    return found


def test_a_certificate_that_is_renewed_is_shown_by_new_connections(tmp_path: Path) -> None:
    files = ProxyCertificate(tmp_path / "cert", tmp_path / "key")

    def renew() -> None:
        for path, pem in zip(files, PROXIES.issue("front-proxy-client"), strict=True):
            path.write_bytes(pem)

    async def work(world: World) -> None:
        backends = Backends(world.server.registries, files, to_endpoints=True)
        first = backends.transport(remote("api"), "10.0.0.1", 443)
        assert backends.transport(remote("api"), "10.0.0.1", 443) is first
        renew()
        os.utime(files.cert, ns=(1, 1))
        assert backends.transport(remote("api"), "10.0.0.1", 443) is not first
        await backends.close()

    renew()
    run(work)
