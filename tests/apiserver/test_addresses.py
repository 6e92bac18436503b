"""Nobody reaches the API server's own loopback, or link-local and other special addresses, through it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.apiserver.apiworld import World, pod
from tiphys.apiserver.config import Config
from tiphys.apiserver.dialer import SocketDialer
from tiphys.apiserver.server import APIServer
from tiphys.apiserver.streaming.addresses import is_allowed
from tiphys.runtime.clock import VirtualClock, VirtualTimeLoop
from tiphys.wire import websocket
from tiphys.wire.client import SocketTransport
from tiphys.wire.http import Request, Response, Transport
from tiphys.wire.inprocess import InProcessTransport
from tiphys.wire.transports import Transports

FORBIDDEN = (
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "169.254.169.254",
    "224.0.0.1",
    "239.255.255.250",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
)
NAMES = {"is-loopback": "127.0.0.1", "is-link-local": "169.254.1.1", "half": "10.0.0.9,127.0.0.1", "good": "10.0.0.9"}


class Dialer(SocketDialer):
    """Says what it was asked to reach, and answers itself."""

    def __init__(self, own: tuple[str, int] | None = None) -> None:
        super().__init__(None, own)
        self.reached: list[str] = []

    def kubelet(self, node: str, host: str, port: int) -> Transport:
        return self.address("https", host, port)

    def address(self, scheme: str, host: str, port: int) -> Transport:
        self.reached.append(f"{host}:{port}")

        async def answer(request: Request) -> Response:
            if request.path == "/away":
                return Response(302, {"Location": "http://127.0.0.1:2379/v3/kv/range"})
            return Response(200, {}, b"reached")

        return InProcessTransport(answer)


def look_up(_: object, host: str, port: object, **__: object) -> Any:
    async def found() -> list[Any]:
        if host not in NAMES:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in NAMES[host].split(",")]

    return found()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", look_up)

    def run(work: Any, dialer: Dialer) -> None:
        loop = VirtualTimeLoop()

        async def main() -> None:
            world = World(VirtualClock(loop))
            world.server = APIServer(Config(seed=1), world.backend, world.clock, dialer=dialer)
            async with world.running():
                await work(world)

        try:
            loop.run_until_complete(main())
        finally:
            loop.close()

    return run


async def at(world: World, address: str, pod_ip: str = "10.0.0.7") -> None:
    """A node that says it is at ``address``, and a pod of it at ``pod_ip``."""
    status = {"addresses": [{"type": "Hostname", "address": address}]}
    node = {"metadata": {"name": "n"}, "status": status}
    await world.json("POST", "/api/v1/nodes", node)
    await world.json("PUT", "/api/v1/nodes/n/status", {**node, "kind": "Node", "apiVersion": "v1"})
    await world.json("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    made = await world.json("POST", "/api/v1/namespaces/default/pods", pod("p", nodeName="n"))
    made["status"] = {"podIP": pod_ip, "podIPs": [{"ip": pod_ip}], "phase": "Running"}
    await world.json("PUT", "/api/v1/namespaces/default/pods/p/status", made)
    await world.settle()


PATHS = {
    "nodes/proxy": "/api/v1/nodes/n/proxy/metrics",
    "nodes/proxy with a port": "/api/v1/nodes/n:2379/proxy/version",
    "pods/proxy": "/api/v1/namespaces/default/pods/p/proxy/",
    "log": "/api/v1/namespaces/default/pods/p/log",
}


async def told(world: World, path: str, **headers: str) -> tuple[int, str]:
    response = await world.raw("GET", path, **headers)
    assert isinstance(response.body, bytes), path
    return response.status, response.body.decode()


async def refused(world: World, dialer: Dialer) -> None:
    for name, path in PATHS.items():
        status, text = await told(world, path)
        assert (status, "address not allowed" in text) == (400, True), (name, text)
    for path in ("exec?command=sh&stdout=true", "attach?stdout=true", "portforward?ports=80"):
        headers = {name.replace("-", "_"): value for name, value in websocket.request_headers(websocket.V5).items()}
        status, text = await told(world, f"/api/v1/namespaces/default/pods/p/{path}", **headers)
        assert (status, "address not allowed" in text) == (400, True), (path, text)
    assert dialer.reached == []


@pytest.mark.parametrize("address", FORBIDDEN)
def test_forbidden_addresses(run, address: str) -> None:
    assert not is_allowed(address)
    dialer = Dialer()

    async def work(world: World) -> None:
        await at(world, address, address)
        await refused(world, dialer)

    run(work, dialer)


@pytest.mark.parametrize("name", ["is-loopback", "is-link-local", "half"])
def test_names_that_resolve_to_them(run, name: str) -> None:
    dialer = Dialer()

    async def work(world: World) -> None:
        await at(world, name, "127.0.0.1")
        await refused(world, dialer)

    run(work, dialer)


def test_others_are_reached_and_redirects_are_not_followed(run) -> None:
    dialer = Dialer()

    async def work(world: World) -> None:
        await at(world, "good", "10.0.0.7")
        for path in PATHS.values():
            assert (await world.raw("GET", path)).status == 200, path
        assert dialer.reached == ["good:10250", "good:2379", "10.0.0.7:80", "good:10250"]
        away = await world.raw("GET", "/api/v1/namespaces/default/pods/p/proxy/away")
        assert (away.status, away.headers["Location"]) == (302, "http://127.0.0.1:2379/v3/kv/range")
        assert len(dialer.reached) == 5
        assert await told(world, "/api/v1/nodes/missing/proxy/") != 200

    run(work, dialer)


def test_the_kubelet_of_the_same_machine_may_be_on_loopback(run) -> None:
    dialer = Dialer(("127.0.0.1", 10250))

    async def work(world: World) -> None:
        await at(world, "127.0.0.1")
        assert (await world.raw("GET", PATHS["nodes/proxy"])).status == 200
        assert (await world.raw("GET", PATHS["nodes/proxy with a port"])).status == 400

    run(work, dialer)


POD = {"kind": "Pod", "namespace": "default", "name": "p"}


async def service(world: World, *addresses: dict[str, Any]) -> None:
    """A service with a port of a name, and these of its endpoints ready."""
    spec = {"ports": [{"name": "http", "port": 80}]}
    await world.json("POST", "/api/v1/namespaces/default/services", {"metadata": {"name": "s"}, "spec": spec})
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    subsets = [{"addresses": list(addresses), "notReadyAddresses": [{"ip": "10.0.0.99"}], "ports": ports}]
    endpoints = {"metadata": {"name": "s"}, "subsets": subsets}
    made = await world.json("POST", "/api/v1/namespaces/default/endpoints", endpoints)
    assert made["kind"] == "Endpoints", made
    await world.settle()


@pytest.mark.parametrize(
    ("endpoint", "status"),
    [
        ({"ip": "10.0.0.7", "targetRef": POD}, 200),
        ({"ip": "10.0.0.8", "targetRef": POD}, 503),
        ({"ip": "10.0.0.7", "targetRef": {**POD, "namespace": "kube-system"}}, 503),
        ({"ip": "10.0.0.7", "targetRef": {**POD, "name": "other"}}, 503),
        ({"ip": "10.0.0.7"}, 503),
    ],
)
def test_services_lead_to_pods_only(run, endpoint: dict[str, Any], status: int) -> None:
    dialer = Dialer()

    async def work(world: World) -> None:
        await at(world, "good")
        await service(world, endpoint)
        found = await world.raw("GET", "/api/v1/namespaces/default/services/s:http/proxy/")
        assert found.status == status, found.body
        assert dialer.reached == (["10.0.0.7:8080"] if status == 200 else [])

    run(work, dialer)


def test_a_service_is_reached_at_any_of_its_ready_endpoints(run) -> None:
    dialer = Dialer()

    async def work(world: World) -> None:
        await at(world, "good")
        for number in range(3):
            address = f"10.0.1.{number}"
            made = await world.json("POST", "/api/v1/namespaces/default/pods", pod(f"e{number}", nodeName="n"))
            made["status"] = {"podIP": address, "podIPs": [{"ip": address}], "phase": "Running"}
            await world.json("PUT", f"/api/v1/namespaces/default/pods/e{number}/status", made)
        await service(
            world,
            *({"ip": f"10.0.1.{number}", "targetRef": {**POD, "name": f"e{number}"}} for number in range(3)),
            {"ip": "10.0.1.3", "targetRef": {**POD, "name": "gone"}},
        )
        for _ in range(60):
            assert (await world.raw("GET", "/api/v1/namespaces/default/services/s:80/proxy/")).status == 200
        assert set(dialer.reached) == {f"10.0.1.{number}:8080" for number in range(3)}

    run(work, dialer)


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("s:http", 200, ""),
        ("s:80", 200, ""),
        ("http:s:http", 200, ""),
        ("s", 503, 'no endpoints available for service "s"'),
        ("s:8080", 503, 'no service port 8080 found for service "s"'),
        ("s:other", 503, 'no endpoints available for service "s:other"'),
        ("t:http", 404, 'endpoints "t" not found'),
        ("t:80", 404, 'services "t" not found'),
        ("ftp:s:http", 400, 'invalid service request "ftp:s:http"'),
        (":80", 400, 'invalid service request ":80"'),
    ],
)
def test_the_port_of_a_service(run, name: str, status: int, message: str) -> None:
    async def work(world: World) -> None:
        await at(world, "good")
        await service(world, {"ip": "10.0.0.7", "targetRef": POD})
        assert (await world.raw("GET", f"/api/v1/namespaces/default/services/{name}/proxy/")).status == status
        if message:
            assert (await world.json("GET", f"/api/v1/namespaces/default/services/{name}/proxy/"))["message"] == message

    run(work, Dialer())


def test_a_name_that_changes_its_mind_is_asked_again_when_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", look_up)

    async def main() -> None:
        transport = SocketTransport("half", 80, allowed=is_allowed)
        with pytest.raises(ConnectionError, match="address not allowed"):
            await transport.send(Request("GET", "/"))

    asyncio.run(main())


def test_transports_are_bounded_and_what_runs_on_an_old_one_goes_on() -> None:
    async def main() -> None:
        transports = Transports(lambda key: SocketTransport("127.0.0.1", key), 3)
        first = transports.get(1)
        for port in range(1, 50):
            transports.get(port)
            assert transports.get(1) is first  # used lately, so it stays
        assert len(transports) == 3
        assert transports.get(7) is not first
        await transports.close()

    asyncio.run(main())
