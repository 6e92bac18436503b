"""What Prometheus is to scrape: what runs, where it listens, and nothing that did not ask for it."""

from __future__ import annotations

from typing import Any

from tiphys.addons.monitoring.targets import addresses_of, annotated, apiservers, kubelets, node_exporters, relays


def pod(name: str, namespace: str = "default", phase: str = "Running", ip: str = "10.0.0.1", **meta: Any) -> Any:
    return {
        "metadata": {"name": name, "namespace": namespace, **meta},
        "spec": {"nodeName": "n1"},
        "status": {"phase": phase, "podIP": ip},
    }


def test_api_servers_are_those_behind_the_service_kubernetes() -> None:
    def piece(service: str, *addresses: str) -> Any:
        return {
            "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
            "ports": [{"name": "https", "port": 6443}],
            "endpoints": [{"addresses": list(addresses)}],
        }

    found = apiservers([piece("kubernetes", "192.0.2.1", "2001:db8::1"), piece("other", "192.0.2.9")])
    assert [each["targets"] for each in found] == [["192.0.2.1:6443"], ["[2001:db8::1]:6443"]]
    assert apiservers([{"metadata": {"name": "bare"}, "endpoints": None, "ports": None}]) == []


def test_kubelets_are_reached_by_their_internal_address_and_port() -> None:
    node = {
        "metadata": {"name": "n1"},
        "status": {
            "addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "192.0.2.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10260}},
        },
    }
    new = {"metadata": {"name": "n2"}}
    assert kubelets([node, new]) == [{"targets": ["192.0.2.1:10260"], "labels": {"node": "n1"}}]


def test_pods_are_scraped_if_they_ask_for_it_and_run() -> None:
    wish = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080", "prometheus.io/path": "/m"}
    pods = [
        pod("wishes", annotations=wish),
        pod("silent"),
        pod("ended", phase="Succeeded", annotations=wish),
        pod("new", ip="", annotations=wish),
        pod("portless", annotations={**wish, "prometheus.io/port": "http"}),
        pod("not", annotations={**wish, "prometheus.io/scrape": "false"}),
    ]
    labels = {"namespace": "default", "pod": "wishes", "__metrics_path__": "/m"}
    assert annotated(pods) == [{"targets": ["10.0.0.1:8080"], "labels": labels}]


def test_the_node_exporters_are_those_of_the_add_on() -> None:
    pods = [pod("ne", "monitoring", labels={"app": "node-exporter"}), pod("ne", labels={"app": "node-exporter"})]
    assert node_exporters(pods) == [{"targets": ["10.0.0.1:9100"], "labels": {"instance": "n1"}}]


def test_relays_are_on_every_node_and_those_beside_api_servers_have_the_controllers() -> None:
    def relay(node: str, address: str, **more: Any) -> Any:
        made = pod(f"relay-{node}", "monitoring", labels={"app": "metrics-relay"}, **more)
        return {**made, "spec": {"nodeName": node}, "status": {**made["status"], "hostIP": address}}

    pods = [relay("n1", "10.0.0.1"), relay("n2", "fd00::2"), relay("n3", "10.0.0.3", phase="Pending"), pod("other")]
    assert relays(pods) == [
        {"targets": ["10.0.0.1:9778"], "labels": {"node": "n1"}},
        {"targets": ["[fd00::2]:9778"], "labels": {"node": "n2"}},
    ]
    beside = addresses_of([{"targets": ["[fd00::2]:6443"], "labels": {}}, {"targets": ["10.0.0.9:6443"], "labels": {}}])
    assert [target["labels"]["node"] for target in relays(pods, beside)] == ["n2"]
