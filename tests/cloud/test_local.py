"""Load balancers without a cloud: which addresses and ports Services get, and the service controller over that."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cloud.test_scenarios import add, node, reasons, shown
from tiphys.api.meta.addresspools import parse_pool
from tiphys.api.object import Object
from tiphys.cloud.context import CloudConfig
from tiphys.cloud.manager import CloudControllerManager
from tiphys.cloud.provider import CloudError
from tiphys.cloud.providers.local.allocation import allocate, check_ports, node_addresses
from tiphys.cloud.providers.local.nodes import NodesAsCloud
from tiphys.cloud.services import FINALIZER
from tiphys.testing import Cluster

POOL = parse_pool("192.0.2.10-192.0.2.12, 2001:db8::10/127")


def wanted(name: str = "web", families: tuple[str, ...] = ("IPv4",), port: int = 80, **spec: Any) -> Object:
    ports = [{"port": port, "protocol": spec.pop("protocol", "TCP")}]
    return {
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"type": "LoadBalancer", "ipFamilies": list(families), "ports": ports, **spec},
    }


@pytest.mark.parametrize("text", ["", " , ", "192.0.2.1/33", "192.0.2.9-192.0.2.1", "192.0.2.1-2001:db8::1", "here"])
def test_a_pool_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"range|network|first address"):
        parse_pool(text)


def test_a_pool_knows_its_addresses() -> None:
    assert list(POOL.addresses(4)) == ["192.0.2.10", "192.0.2.11", "192.0.2.12"]
    assert list(POOL.addresses(6)) == ["2001:db8::10", "2001:db8::11"]
    assert "192.0.2.11" in POOL
    assert "192.0.2.13" not in POOL
    assert "" not in POOL
    assert "host.example" not in POOL
    assert POOL.overlaps("192.0.2.0/24")
    assert POOL.overlaps("192.0.2.12/32")
    assert not POOL.overlaps("192.0.2.0/29")
    assert "2001:db8::ffff" in parse_pool("2001:db8::/64")


@pytest.mark.parametrize(
    ("service", "taken", "current", "addresses"),
    [
        (wanted(), {}, [], ["192.0.2.10"]),
        (wanted(), {"192.0.2.10": "default/a"}, [], ["192.0.2.11"]),
        (wanted(), {}, ["192.0.2.12"], ["192.0.2.12"]),
        (wanted(), {}, ["198.51.100.1"], ["192.0.2.10"]),
        (wanted(families=("IPv6", "IPv4")), {}, [], ["2001:db8::10", "192.0.2.10"]),
        (wanted(loadBalancerIP="192.0.2.11"), {}, ["192.0.2.10"], ["192.0.2.11"]),
        (wanted(families=("IPv4", "IPv6"), loadBalancerIP="2001:db8::11"), {}, [], ["192.0.2.10", "2001:db8::11"]),
    ],
)
def test_what_a_service_gets_of_a_pool(
    service: Object, taken: dict[str, str], current: list[str], addresses: list[str]
) -> None:
    assert allocate(service, POOL, taken, current) == addresses


@pytest.mark.parametrize(
    ("service", "sentence"),
    [
        (wanted(loadBalancerIP="192.0.2.99"), "loadBalancerIP 192.0.2.99 is not in the pool"),
        (wanted(loadBalancerIP="192.0.2.12"), "loadBalancerIP 192.0.2.12 is that of Service default/other"),
        (wanted(loadBalancerIP="2001:db8::10"), "of an IP family that the Service does not have"),
    ],
)
def test_what_a_service_cannot_get_is_said(service: Object, sentence: str) -> None:
    with pytest.raises(CloudError, match=sentence):
        allocate(service, POOL, {"192.0.2.12": "default/other"}, [])


def test_a_pool_of_one_family_serves_what_it_can() -> None:
    only = parse_pool("192.0.2.1")
    assert allocate(wanted(families=("IPv4", "IPv6")), only, {}, []) == ["192.0.2.1"]
    with pytest.raises(CloudError, match="no addresses of IPv6"):
        allocate(wanted(families=("IPv6",)), only, {}, [])
    with pytest.raises(CloudError, match="no free address of IPv4 left"):
        allocate(wanted(), only, {"192.0.2.1": "default/a"}, [])


@pytest.mark.parametrize(
    ("service", "sentence"),
    [
        (wanted(port=6443), "port 6443 of the nodes' addresses is for the API server"),
        (wanted(port=30080), "in the range of node ports"),
        (wanted(port=443), "port 443/TCP of the nodes' addresses is that of Service default/other"),
        (wanted(loadBalancerIP="192.0.2.1"), "there is no pool of addresses"),
    ],
)
def test_ports_that_no_service_gets(service: Object, sentence: str) -> None:
    with pytest.raises(CloudError, match=sentence):
        check_ports(service, {("TCP", 443): "default/other"}, {6443: "the API server"})


def test_ports_of_another_protocol_are_free() -> None:
    assert check_ports(wanted(port=443, protocol="UDP"), {("TCP", 443): "default/other"}, {}) == [("UDP", 443)]


def test_a_nodes_address_is_an_external_one_if_it_has_one() -> None:
    inner, outer = {"type": "InternalIP", "address": "10.0.0.1"}, {"type": "ExternalIP", "address": "192.0.2.1"}
    six = {"type": "InternalIP", "address": "2001:db8::1"}
    nodes = [{"status": {"addresses": listed}} for listed in ([inner, outer, six], [inner], [])]
    assert node_addresses(wanted(), nodes) == ["192.0.2.1", "10.0.0.1"]
    assert node_addresses(wanted(families=("IPv6",)), nodes) == ["2001:db8::1"]


# The controller over it.


def start(cluster: Cluster, pool: str) -> None:
    client = cluster.client_for("service-controller", "cloud", ("system:masters",))
    cloud = NodesAsCloud(client, parse_pool(pool) if pool else None, {22: "ssh"})
    config = CloudConfig(controllers=("service-lb-controller",), balance_only_ready_nodes=not pool)
    cluster.start_controller(
        lambda context: CloudControllerManager(config=config, cloud=cloud, client=client, clock=context.clock)
    )


def balancer(name: str, port: int = 80, **spec: Any) -> Object:
    made = {"type": "LoadBalancer", "selector": {"app": name}, "ports": [{"port": port}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": made}


def ips(cluster: Cluster, name: str) -> list[str]:
    return [entry["ip"] for entry in shown(cluster, name)]


def test_one_waits_until_another_gives_its_address_up() -> None:
    with Cluster(nodes=1) as cluster:
        start(cluster, "192.0.2.1")
        cluster.create(balancer("first"))
        cluster.wait_until(lambda: ips(cluster, "first") == ["192.0.2.1"])
        second = cluster.create(balancer("second"))
        cluster.wait_until(lambda: "SyncLoadBalancerFailed" in reasons(cluster, second))
        assert ips(cluster, "second") == []
        cluster.delete("v1", "Service", "first")
        cluster.wait_until(lambda: ips(cluster, "second") == ["192.0.2.1"])
        assert cluster.get("v1", "Service", "first") is None, "the finalizer went"


def test_a_controller_that_starts_again_takes_nobodys_address() -> None:
    with Cluster(nodes=1) as cluster:
        for name in ("a", "b", "c"):
            cluster.create(balancer(name))
        client = cluster.client_for("kubelet", "admin", ("system:masters",))
        ingress = [{"ip": "192.0.2.1", "ipMode": "VIP"}]
        patch = {"status": {"loadBalancer": {"ingress": ingress}}}
        path = cluster.path("v1", "Service")
        cluster.run(client.patch(path, "c", patch, "default", subresource="status"))
        start(cluster, "192.0.2.1-192.0.2.3")
        cluster.wait_until(lambda: all(ips(cluster, name) for name in "abc"))
        assert ips(cluster, "c") == ["192.0.2.1"]
        assert sorted(ips(cluster, "a") + ips(cluster, "b")) == ["192.0.2.2", "192.0.2.3"]


def test_traffic_that_stays_on_its_node_is_for_nodes_with_endpoints() -> None:
    with Cluster(nodes=0) as cluster:
        start(cluster, "")
        for number in (1, 2):
            made = node(f"n{number}")
            made["status"]["addresses"] = [{"type": "InternalIP", "address": f"198.51.100.{number}"}]
            add(cluster, made)
        spec = {**balancer("web", externalTrafficPolicy="Local")["spec"], "selector": None}
        cluster.create({**balancer("web"), "spec": spec})
        cluster.run_for(5)
        assert ips(cluster, "web") == []
        slice_: Object = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "s", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["203.0.113.9"], "nodeName": "n2", "conditions": {"ready": True}}],
            "ports": [{"port": 80}],
        }
        cluster.create(slice_)
        cluster.wait_until(lambda: ips(cluster, "web") == ["198.51.100.2"])


def test_the_nodes_own_addresses_follow_the_nodes() -> None:
    with Cluster(nodes=0) as cluster:
        start(cluster, "")
        for number in (1, 2):
            made = node(f"n{number}")
            made["status"]["addresses"] = [{"type": "InternalIP", "address": f"198.51.100.{number}"}]
            add(cluster, made)
        cluster.create(balancer("web"))
        cluster.wait_until(lambda: ips(cluster, "web") == ["198.51.100.1", "198.51.100.2"])
        patch = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
        client = cluster.client_for("kubelet", "admin", ("system:masters",))
        cluster.run(client.patch(cluster.path("v1", "Node"), "n1", patch, subresource="status"))
        cluster.wait_until(lambda: ips(cluster, "web") == ["198.51.100.2"])
        other = cluster.create(balancer("other"))
        cluster.wait_until(lambda: "SyncLoadBalancerFailed" in reasons(cluster, other))
        ssh = cluster.create(balancer("ssh", 22))
        cluster.wait_until(lambda: "SyncLoadBalancerFailed" in reasons(cluster, ssh))
        found = cluster.get("v1", "Service", "web")
        assert found is not None
        assert found["metadata"]["finalizers"] == [FINALIZER]
        cluster.run(client.patch(cluster.path("v1", "Service"), "web", {"spec": {"type": "ClusterIP"}}, "default"))
        cluster.wait_until(lambda: ips(cluster, "web") == [])
        cluster.wait_until(lambda: ips(cluster, "other") == ["198.51.100.2"])
