"""The pure parts of this machine as a cloud: haproxy's configuration, the config file, a machine's name."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.contract import service
from tiphys.cloud.provider import CloudError
from tiphys.cloud.providers.local.config import read_config
from tiphys.cloud.providers.local.frontends import balancer_of, configuration, read_balancer
from tiphys.cloud.providers.local.hosts import LocalHost
from tiphys.cloud.providers.local.instances import LocalMachines, name_in
from tiphys.runtime.component import CannotStart


def node(name: str, *addresses: str) -> Any:
    shown = [{"type": "InternalIP", "address": address} for address in addresses]
    return {"metadata": {"name": name}, "spec": {}, "status": {"addresses": shown}}


def test_a_port_is_a_listener_that_leads_to_each_nodes_node_port() -> None:
    made = balancer_of(service(), ["192.0.2.1"], [node("b", "10.0.0.2", "fd00::2"), node("a", "10.0.0.1"), node("c")])
    text = configuration([made])
    lines = [line.strip() for line in text.splitlines()]
    assert "bind 192.0.2.1:80" in lines
    assert [line for line in lines if line.startswith("server")] == [
        "server a 10.0.0.1:30080 check",
        "server b 10.0.0.2:30080 check",
    ]
    assert "nobody" not in text
    assert "frontend nobody" in configuration([])


def test_a_balancer_is_read_again_as_it_was_kept() -> None:
    made = balancer_of(service(loadBalancerSourceRanges=["10.0.0.0/8"]), ["192.0.2.1"], [node("a", "10.0.0.1")])
    read = read_balancer(json.loads(json.dumps(made.as_dict())))
    assert configuration([read]) == configuration([made])
    assert "tcp-request connection reject unless { src 10.0.0.0/8 }" in configuration([read])


def test_local_traffic_asks_the_services_own_health_port() -> None:
    local = balancer_of(
        service(externalTrafficPolicy="Local", healthCheckNodePort=31000), ["192.0.2.1"], [node("a", "10.0.0.1")]
    )
    assert "server a 10.0.0.1:30080 check port 31000" in configuration([local])
    assert "option httpchk GET /healthz" in configuration([local])


def test_a_port_without_a_node_port_leads_to_the_services_own_address() -> None:
    made = balancer_of(service(ports=[{"port": 80}], clusterIP="10.96.0.7"), ["192.0.2.1"], [node("a", "10.0.0.1")])
    text = configuration([read_balancer(json.loads(json.dumps(made.as_dict())))])
    assert [line.strip() for line in text.splitlines() if "  server " in line] == ["server service 10.96.0.7:80 check"]


def test_affinity_keeps_a_clients_connections_on_one_node() -> None:
    nodes = [node("a", "10.0.0.1"), node("b", "10.0.0.2")]
    sticky = balancer_of(service(sessionAffinity="ClientIP"), ["192.0.2.1"], nodes)
    assert "  balance source\n" in configuration([sticky])
    assert "balance source" not in configuration([balancer_of(service(sessionAffinity="None"), ["192.0.2.1"], nodes)])
    assert read_balancer(json.loads(json.dumps(sticky.as_dict()))).by_client


def test_ipv6_addresses_have_brackets() -> None:
    made = balancer_of(service(ipFamilies=["IPv6"]), ["fd00::9"], [node("a", "10.0.0.1", "fd00::1")])
    assert "bind [fd00::9]:80" in configuration([made])
    assert "server a [fd00::1]:30080 check" in configuration([made])


def test_what_haproxy_does_not_carry_is_refused() -> None:
    port = {"port": 53, "nodePort": 30053, "protocol": "UDP"}
    with pytest.raises(CloudError, match="port 53/UDP: load balancers of this machine carry TCP"):
        balancer_of(service(port), ["192.0.2.1"], [])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "has to be an object with the fields data_dir, folder, pool, machine"),
        ('{"pols": ""}', "pols is not known; there are data_dir"),
        ('{"pool": 3}', "pool has to be a text"),
        ('{"pool": "x"}', "pool: "),
        ('{"machine": "x"}', "machine has to be an object"),
    ],
)
def test_a_config_that_makes_no_sense(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "cloud.json"
    path.write_text(text)
    with pytest.raises(CannotStart, match=says):
        read_config(path)


def test_a_node_is_known_by_its_provider_id_and_else_by_its_name() -> None:
    assert name_in(node("a")) == "a"
    assert name_in({**node("a"), "spec": {"providerID": "local://b"}}) == "b"
    with pytest.raises(CloudError, match="aws:///z/i-1 is not the id of a node of this machine"):
        name_in({**node("a"), "spec": {"providerID": "aws:///z/i-1"}})


class Hosts:
    def __init__(self, *hosts: LocalHost) -> None:
        self.hosts, self.acts = hosts, list[tuple[str, str]]()

    async def look(self) -> list[LocalHost]:
        return list(self.hosts)

    async def act(self, verb: str, name: str) -> None:
        self.acts.append((verb, name))


def test_the_machine_itself_is_never_ended_and_what_is_there_is_not_made_twice() -> None:
    async def scene() -> None:
        hosts = Hosts(
            LocalHost("vm", ("10.0.0.1",), is_running=True, is_first=True),
            LocalHost("n2", ("10.0.0.2",), is_running=False),
        )
        machines = LocalMachines(hosts, {"cpu": "2"})
        with pytest.raises(CloudError, match="vm is the machine itself"):
            await machines.delete(node("vm"))
        for name in ("vm", "n2", "n3"):
            await machines.create(name)
        await machines.delete(node("gone"))
        assert hosts.acts == [("start", "n2"), ("add", "n3")]
        template = await machines.template()
        assert template["status"]["allocatable"]["cpu"] == "2"
        assert template["status"]["capacity"]["memory"].endswith("Ki")

    asyncio.run(scene())
