"""What Prometheus scrapes, by job, from nodes, endpoint slices and pods. Pure.

Source: https://prometheus.io/docs/prometheus/latest/http_sd/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tiphys.api.object import Object

Target = dict[str, Any]
"""``targets``, addresses with ports, and ``labels``."""
RELAY_PORT = 9778
SCRAPE, PORT, PATH = (f"prometheus.io/{word}" for word in ("scrape", "port", "path"))


def apiservers(slices: Iterable[Object]) -> list[Target]:
    """Of the endpoint slices of the Service ``default/kubernetes``."""
    return [
        _target(address, port["port"])
        for each in slices
        if each["metadata"].get("labels", {}).get("kubernetes.io/service-name") == "kubernetes"
        for port in each.get("ports") or ()
        for endpoint in each.get("endpoints") or ()
        for address in endpoint["addresses"]
    ]


def kubelets(nodes: Iterable[Object]) -> list[Target]:
    return list(_kubelets(nodes))


def _kubelets(nodes: Iterable[Object]) -> Iterator[Target]:
    for node in nodes:
        status = node.get("status", {})
        port = status.get("daemonEndpoints", {}).get("kubeletEndpoint", {}).get("Port", 10250)
        addresses = (each["address"] for each in status.get("addresses") or () if each["type"] == "InternalIP")
        if address := next(addresses, ""):
            yield _target(address, port, node=node["metadata"]["name"])


def node_exporters(pods: Iterable[Object]) -> list[Target]:
    return [
        _target(pod["status"]["podIP"], 9100, instance=pod["spec"]["nodeName"])
        for pod in _running(pods)
        if pod["metadata"]["namespace"] == "monitoring" and _labels(pod).get("app") == "node-exporter"
    ]


def relays(pods: Iterable[Object], addresses: Iterable[str] | None = None) -> list[Target]:
    """The metrics' relays on nodes, or only on those with one of these addresses."""
    wanted = None if addresses is None else set(addresses)
    return [
        _target(pod["status"]["hostIP"], RELAY_PORT, node=pod["spec"]["nodeName"])
        for pod in _running(pods)
        if pod["metadata"]["namespace"] == "monitoring"
        and _labels(pod).get("app") == "metrics-relay"
        and (wanted is None or pod["status"].get("hostIP") in wanted)
    ]


def addresses_of(targets: Iterable[Target]) -> list[str]:
    """The addresses of targets, without ports and brackets."""
    return [address.rpartition(":")[0].strip("[]") for target in targets for address in target["targets"]]


def annotated(pods: Iterable[Object]) -> list[Target]:
    """Of pods with the annotations ``prometheus.io/scrape: "true"`` and ``prometheus.io/port``."""
    return list(_annotated(pods))


def _annotated(pods: Iterable[Object]) -> Iterator[Target]:
    for pod in _running(pods):
        meta = pod["metadata"]
        wishes = meta.get("annotations") or {}
        port = wishes.get(PORT, "")
        if wishes.get(SCRAPE) == "true" and port.isdecimal():
            more = {"__metrics_path__": wishes[PATH]} if wishes.get(PATH) else {}
            yield _target(pod["status"]["podIP"], port, namespace=meta["namespace"], pod=meta["name"], **more)


def _running(pods: Iterable[Object]) -> Iterator[Object]:
    for pod in pods:
        status = pod.get("status", {})
        if status.get("podIP") and status.get("phase") == "Running":
            yield pod


def _labels(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def _target(address: str, port: int | str, **labels: str) -> Target:
    host = f"[{address}]" if ":" in address else address
    return {"targets": [f"{host}:{port}"], "labels": labels}
