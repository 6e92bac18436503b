"""Rows of services, endpoints, ingresses and addresses.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.object import Object
from tiphys.api.tables.formats import (
    NONE,
    Cells,
    age,
    cut,
    labels,
    name,
    selector,
)

_DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"


def print_service(obj: Object, now: float) -> Cells:
    spec = obj["spec"]
    return [
        name(obj),
        spec.get("type", ""),
        (spec.get("clusterIPs") or [NONE])[0],
        _external_address(obj),
        ",".join(_port(port) for port in spec.get("ports") or []) or NONE,
        age(obj, now),
        labels(spec.get("selector")),
    ]


def _external_address(obj: Object) -> str:
    spec = obj["spec"]
    external = ",".join(spec.get("externalIPs") or [])
    match spec.get("type"):
        case "ClusterIP" | "NodePort":
            return external or NONE
        case "LoadBalancer":
            balancer = _balancer(obj)
            return ",".join(part for part in (balancer, external) if part) or "<pending>"
        case "ExternalName":
            return str(spec.get("externalName", ""))
    return "<unknown>"


def _balancer(obj: Object) -> str:
    entries = obj.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    return ",".join(sorted({e.get("ip") or e.get("hostname") for e in entries if e.get("ip") or e.get("hostname")}))


def _port(port: Mapping[str, Any]) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{node}/{port.get('protocol', '')}"


def print_endpoints(obj: Object, now: float) -> Cells:
    return [name(obj), _addresses(obj.get("subsets") or []), age(obj, now)]


def _addresses(subsets: Sequence[Mapping[str, Any]]) -> str:
    shown = []
    for subset in subsets:
        addresses = [a["ip"] for a in subset.get("addresses") or []]
        if not subset.get("ports"):
            shown += addresses
        for port in subset.get("ports") or []:
            shown += [_host_port(ip, port["port"]) for ip in addresses]
    return cut(shown, 3, empty="" if subsets else NONE)


def _host_port(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def print_endpoint_slice(obj: Object, now: float) -> Cells:
    ports = [str(p.get("port") or p.get("name") or "*") for p in obj.get("ports") or []]
    addresses = [a for e in obj.get("endpoints") or [] for a in e.get("addresses") or []]
    return [name(obj), obj.get("addressType", ""), cut(ports, 3), cut(addresses, 3), age(obj, now)]


def print_ingress(obj: Object, now: float) -> Cells:
    spec = obj["spec"]
    return [
        name(obj),
        spec.get("ingressClassName", NONE),
        _hosts(spec.get("rules") or []),
        _balancer(obj),
        "80, 443" if spec.get("tls") else "80",
        age(obj, now),
    ]


def _hosts(rules: Sequence[Mapping[str, Any]]) -> str:
    hosts: list[str] = []
    for rule in rules:
        if len(hosts) == 3:
            return f"{','.join(hosts)} + {len(rules) - 3} more..."
        if rule.get("host"):
            hosts.append(rule["host"])
    return ",".join(hosts) or "*"


def print_ingress_class(obj: Object, now: float) -> Cells:
    default = (obj["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"
    parameters = obj["spec"].get("parameters")
    text = NONE
    if parameters:
        group = f".{parameters['apiGroup']}" if parameters.get("apiGroup") is not None else ""
        text = f"{parameters['kind']}{group}/{parameters['name']}"
    return [name(obj) + (" (default)" if default else ""), obj["spec"].get("controller", ""), text, age(obj, now)]


def print_network_policy(obj: Object, now: float) -> Cells:
    return [name(obj), selector(obj["spec"].get("podSelector") or {}), age(obj, now)]


def print_service_cidr(obj: Object, now: float) -> Cells:
    return [name(obj), ",".join(obj["spec"].get("cidrs") or []), age(obj, now)]


def print_ip_address(obj: Object, now: float) -> Cells:
    parent = obj["spec"].get("parentRef")
    text = NONE
    if parent:
        group = f".{parent['group']}" if parent.get("group") else ""
        parts = (f"{parent.get('resource', '')}{group}".lower(), parent.get("namespace"), parent.get("name", ""))
        text = "/".join(part for part in parts if part)
    return [name(obj), text, age(obj, now)]
