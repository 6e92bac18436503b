"""The metrics of components on loopback, over TLS, for whom RBAC lets; and what a component says that is not well."""

from __future__ import annotations

import asyncio

from tests.controlplane import free_port
from tiphys.addons.monitoring.relay import Component, Relay
from tiphys.wire.http import Headers, Request, Response
from tiphys.wire.server import serve
from tiphys.wire.tls.contexts import server_context
from tiphys.wire.tls.selfsigned import make_certificate


async def component(request: Request) -> Response:
    said = request.headers.get("authorization", "nobody")
    return Response(200, {"Content-Type": "text/plain; version=0.0.4"}, f"asked_by {said}\n".encode())


def test_a_component_is_asked_with_the_relays_own_token_and_not_with_the_callers() -> None:
    async def main() -> None:
        secure = await serve(component, "127.0.0.1", 0, tls=server_context(*make_certificate(("localhost",))))
        plain = await serve(component, "127.0.0.1", 0)
        components = {
            "kube-scheduler": Component(secure.port, secure=True),
            "kube-proxy": Component(plain.port, secure=False),
            "kube-controller-manager": Component(free_port(), secure=True),
        }
        relay = Relay(components, lambda: "its-own")
        caller = Headers({"authorization": "Bearer callers"})

        async def ask(path: str, method: str = "GET") -> tuple[int, bytes]:
            response = await relay(Request(method, path, headers=caller))
            assert isinstance(response.body, bytes)
            return response.status, response.body

        try:
            assert await ask("/metrics/kube-scheduler") == (200, b"asked_by Bearer its-own\n")
            assert await ask("/metrics/kube-proxy") == (200, b"asked_by nobody\n")
            assert (await ask("/metrics/kube-controller-manager"))[0] == 502
            for path in ("/metrics/etcd", "/metrics", "/kube-proxy", "/metrics/kube-proxy/../kube-scheduler"):
                assert (await ask(path))[0] == 404, path
            assert (await ask("/metrics/kube-proxy", "POST"))[0] == 405
        finally:
            await relay.close()
            for server in (secure, plain):
                await server.close(grace=0)

    asyncio.run(main())


def test_what_a_component_says_has_a_bound() -> None:
    async def endless(request: Request) -> Response:
        return Response(200, {}, b"x" * (33 << 20))

    async def main() -> int:
        server = await serve(endless, "127.0.0.1", 0)
        relay = Relay({"kube-proxy": Component(server.port, secure=False)}, None)
        try:
            return (await relay(Request("GET", "/metrics/kube-proxy"))).status
        finally:
            await relay.close()
            await server.close(grace=0)

    assert asyncio.run(main()) == 502
