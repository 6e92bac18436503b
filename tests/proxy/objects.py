"""Services and EndpointSlices for tests."""

from __future__ import annotations

from typing import Any

from tiphys.api.object import Object
from tiphys.proxy.state import ServiceState
from tiphys.proxy.tracker import Tracker


def service(name: str = "web", cluster_ip: str = "10.96.0.20", *, protocol: str = "TCP", **spec: Any) -> Object:
    port: Object = {"name": "http", "port": 80, "protocol": protocol}
    if spec.get("type") in ("NodePort", "LoadBalancer"):
        port["nodePort"] = spec.pop("node_port", 30080)
    status = spec.pop("status", {})
    ips = [] if cluster_ip == "None" else [cluster_ip]
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": cluster_ip, "clusterIPs": ips, "type": "ClusterIP", "ports": [port], **spec},
        "status": status,
    }


def endpoint(address: str, *, node: str = "node-1", **more: Any) -> Object:
    conditions = {key: more.pop(key) for key in ("ready", "serving", "terminating") if key in more}
    return {"addresses": [address], "nodeName": node, "conditions": {"ready": True, **conditions}, **more}


def slice_of(
    *endpoints: Object, name: str = "web", suffix: str = "a", port: int = 8080, protocol: str = "TCP"
) -> Object:
    addresses = [address for described in endpoints for address in described["addresses"]]
    return {
        "metadata": {
            "name": f"{name}-{suffix}",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv6" if addresses and ":" in addresses[0] else "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": protocol}],
        "endpoints": list(endpoints),
    }


def state_of(svc: Object, *slices: Object, family: Any = "ip", node: str = "node-1") -> ServiceState:
    tracker = Tracker(family, node)
    tracker.service_changed(svc)
    for slice_ in slices:
        tracker.slice_changed(slice_)
    return tracker.state((svc["metadata"]["namespace"], svc["metadata"]["name"]))
