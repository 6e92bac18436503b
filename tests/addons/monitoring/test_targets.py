"""What Prometheus is to scrape: what runs, where it listens, and nothing that did not ask for it."""

from __future__ import annotations

from typing import Any

from tiphys.addons.monitoring.targets import annotated, apiservers, kubelets, node_exporters


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
