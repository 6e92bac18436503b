"""The whole proxy: from objects in an API server to packets that arrive, and back to a clean node."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.proxy.lab import PODS, Lab, lab
from tests.proxy.objects import endpoint, service, slice_of
from tiphys.api.meta.timestamps import format_time
from tiphys.apiserver.config import Config
from tiphys.apiserver.server import APIServer
from tiphys.client.resources import ENDPOINT_SLICES, EVENTS, NODES, SERVICES
from tiphys.client.rest import Client
from tiphys.proxy import forward_policy, service_route
from tiphys.proxy.config import ProxyConfig
from tiphys.proxy.health.ports import HealthPorts
from tiphys.proxy.health.reports import Health
from tiphys.proxy.kubeproxy import KubeProxy
from tiphys.proxy.modes import Mode
from tiphys.proxy.nft import NftBackend
from tiphys.proxy.nodeports import Hosts
from tiphys.proxy.rules import Options
from tiphys.proxy.state import Place
from tiphys.proxy.tracker import TRIGGER_TIME, Tracker
from tiphys.runtime.clock import SystemClock
from tiphys.store.memory import MemoryBackend
from tiphys.wire.inprocess import InProcessTransport

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nft"),
]


@pytest.fixture(scope="module")
def net() -> Iterator[Lab]:
    with lab() as built:
        for i, pod in enumerate(built.pods):
            built.serve_tcp(pod, 8080, f"pod{i}")
        yield built


async def eventually(condition: Callable[[], Awaitable[Any]], seconds: float = 60) -> Any:
    async with asyncio.timeout(seconds):
        while not (found := await condition()):
            await asyncio.sleep(0.02)
        return found


async def http(port: int, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


@pytest.mark.parametrize("mode", ["", "iptables"])
def test_from_objects_to_packets(net: Lab, tmp_path: Path, mode: Mode) -> None:
    asyncio.run(_from_objects_to_packets(net, tmp_path, mode))


async def _from_objects_to_packets(net: Lab, sysctls: Path, mode: Mode) -> None:
    clock = SystemClock()
    backend = MemoryBackend(clock)
    server = APIServer(Config(), backend, clock)
    await server.start()
    client = Client(InProcessTransport(server.handler, ("admin", ("system:masters",))))
    theirs = Client(InProcessTransport(server.handler, ("system:kube-proxy", ("system:authenticated",))))
    await client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}})
    spec = {"type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"}]}
    described = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": spec,
    }
    cluster_ip = (await client.create(SERVICES, described))["spec"]["clusterIP"]
    config = ProxyConfig(
        "node-1",
        mode,
        cluster_cidrs=("10.244.0.0/16",),
        localhost_node_ports=False,
        healthz_address="127.0.0.1:39256",
        metrics_address="127.0.0.1:39249",
        sysctl_root=sysctls,
        flags={"proxy_mode": "nftables"},
    )
    proxy = KubeProxy(config=config, client=theirs, clock=clock, run=net.run)
    task = asyncio.create_task(proxy.run())
    try:
        await _check(net, client, cluster_ip, mode)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await proxy.cleanup()
        await server.stop()
        await backend.close()
    assert not re.search("tiphys|KUBE", await net.run(("nft", "list", "ruleset")))


async def _check(net: Lab, client: Client, ip: str, mode: Mode) -> None:
    async def refused() -> bool:
        try:
            await asyncio.to_thread(net.ask, net.pods[0], ip, 80, 0.3)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return False

    async def answers() -> str:
        try:
            return (await asyncio.to_thread(net.ask, net.pods[0], ip, 80, 0.3))[0]
        except OSError:
            return ""

    await eventually(refused)
    slice_ = slice_of(endpoint(PODS[1]))
    slice_ |= {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice"}
    slice_["metadata"]["annotations"] = {TRIGGER_TIME: format_time(time.time() + 1)}
    await client.create(ENDPOINT_SLICES, slice_)
    assert await eventually(answers) == "pod1"
    assert await asyncio.to_thread(net.ask, net.client, "192.168.50.1", 30080) == ("pod1", "10.244.0.1")
    status, body = await http(39256, "/healthz")
    assert (status, '"nodeEligible":true' in body, '"healthy":true' in body) == (200, True, True)
    assert (await http(39249, "/proxyMode")) == (200, mode or "nftables")
    figures = (await http(39249, "/metrics"))[1]
    assert "kubeproxy_sync_proxy_rules_duration_seconds_count" in figures
    assert "kubeproxy_sync_proxy_rules_no_local_endpoints_total{" in figures
    assert "kubeproxy_sync_proxy_rules_endpoint_changes_total" in figures
    assert "rest_client_requests_total{" in figures

    async def programmed() -> bool:  # counted after the packets' way is open
        count = 'kubeproxy_network_programming_duration_seconds_count{ip_family="IPv4"} 1.0'
        return count in (await http(39249, "/metrics"))[1]

    await eventually(programmed)
    assert await http(39249, "/healthz") == (200, "ok")

    async def born() -> list[tuple[str, str]]:
        found = (await client.list(EVENTS))["items"]
        return [(event["reason"], event["regarding"]["name"]) for event in found if event["action"] == "StartKubeProxy"]

    assert await eventually(born) == [("Starting", "node-1")]
    assert 'kubernetes_healthcheck{name="ping",type="healthz"} 1' in (await http(39249, "/metrics/slis"))[1]
    assert "Paths: /configz /healthz /metrics /proxyMode\n" in (await http(39249, "/statusz"))[1]
    assert (await http(39249, "/flagz"))[1].endswith("\nproxy-mode:nftables\n")
    assert '"nodeName":"node-1"' in (await http(39249, "/configz"))[1]
    await client.delete(ENDPOINT_SLICES, slice_["metadata"]["name"], "default")
    await eventually(refused)
    await client.delete(SERVICES, "web", "default")

    async def forgotten() -> bool:
        if mode == "iptables":
            return ip not in await net.run(("iptables-save",))
        return ip not in await net.run(("nft", "list", "map", "ip", "tiphys", "no-endpoint-services"))

    await eventually(forgotten)


def test_the_node_reaches_services_without_a_default_route(net: Lab) -> None:
    asyncio.run(_no_default_route(net))


async def _no_default_route(net: Lab) -> None:
    tracker = Tracker("ip", "node-1")
    backend = NftBackend(Options(place=Place("node-1")), SystemClock(), net.run)
    tracker.service_changed(service())
    tracker.slice_changed(slice_of(endpoint(PODS[0])))
    await backend.sync(tracker.take_changes())
    await net.run(("ip", "route", "del", "default"))
    try:
        with pytest.raises(OSError, match="unreachable"):
            await asyncio.to_thread(net.ask, net.node, "10.96.0.20", 80)
        for _ in range(2):
            await service_route.ensure("ip", ("10.96.0.0/16",), "192.168.50.1", net.run)
        assert (await asyncio.to_thread(net.ask, net.node, "10.96.0.20", 80))[0] == "pod0"
        for _ in range(2):
            await service_route.cleanup("ip", net.run)
        assert "10.96" not in await net.run(("ip", "route"))
    finally:
        await net.run(("ip", "route", "add", "default", "via", "192.168.50.2"))
        await backend.cleanup()


def test_forwarded_packets_pass_where_the_firewall_drops_them(net: Lab) -> None:
    asyncio.run(_forward_policy(net))


async def _forward_policy(net: Lab) -> None:
    await net.run(("iptables", "-P", "FORWARD", "DROP"))
    try:
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(net.ask, net.client, PODS[0], 8080, 0.3)
        for _ in range(2):
            await forward_policy.ensure("ip", 0x4000, ("10.244.0.0/16",), net.run)
        assert (await asyncio.to_thread(net.ask, net.client, PODS[0], 8080))[0] == "pod0"
        await forward_policy.cleanup("ip", net.run)
        assert "TIPHYS" not in await net.run(("iptables", "-S"))
    finally:
        await net.run(("iptables", "-P", "FORWARD", "ACCEPT"))


def listening(*hosts: str) -> Hosts:
    async def found() -> Sequence[str]:
        return hosts

    return found


def test_a_health_check_port_that_is_taken_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        told: list[tuple[Any, ...]] = []
        with socket.socket() as other:
            other.bind(("0.0.0.0", 0))
            other.listen()
            number = other.getsockname()[1]
            ports = HealthPorts(Health(SystemClock(), 60), lambda *taken: told.append(taken), listening("0.0.0.0"))
            await ports._listen(("default", "web"), number)
            # That of the other family has the same port, and is told when it is taken there.
            beside = HealthPorts(Health(SystemClock(), 60), lambda *taken: told.append(taken), listening("::"))
            await beside._listen(("default", "web"), number)
        assert told == [(("default", "web"), number, "address already in use")]
        await beside.close()

    asyncio.run(main())
