"""The fields of a service that hang together: what its type needs, and what an update carries over or drops.

Objects are whole services, ``old`` the stored one; changes are made in place.
Source: https://kubernetes.io/docs/reference/kubernetes-api/service-resources/service-v1/
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.validation.core.service import externally_accessible


def is_external_name(service: Object) -> bool:
    return bool(service["spec"].get("type") == "ExternalName")


def is_headless(service: Object) -> bool:
    return bool(service["spec"].get("clusterIP") == "None")


def has_node_ports(service: Object) -> bool:
    """Whether its type has node ports at all."""
    return service["spec"].get("type") in ("NodePort", "LoadBalancer")


def allocates_node_ports(service: Object) -> bool:
    """Whether ports without a node port get one."""
    spec = service["spec"]
    if spec.get("type") == "LoadBalancer":
        return spec.get("allocateLoadBalancerNodePorts") is not False
    return bool(spec.get("type") == "NodePort")


def needs_health_port(service: Object) -> bool:
    spec = service["spec"]
    return bool(spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local")


def cluster_ips(service: Object) -> list[str]:
    return [address for address in service["spec"].get("clusterIPs") or () if address != "None"]


def node_ports(service: Object) -> list[int]:
    """Those of its ports, in their order."""
    return [port["nodePort"] for port in service["spec"].get("ports") or () if port.get("nodePort")]


def held_ports(service: Object) -> list[int]:
    """Everything that it holds of the pool of node ports."""
    health = service["spec"].get("healthCheckNodePort") if needs_health_port(service) else 0
    return [*node_ports(service), *([health] if health else ())]


def same_addresses(new: Object, old: Object) -> bool:
    return (new["spec"].get("clusterIPs") or []) == (old["spec"].get("clusterIPs") or [])


def same_families(new: Object, old: Object) -> bool:
    return (new["spec"].get("ipFamilies") or []) == (old["spec"].get("ipFamilies") or [])


def patch_from_old(new: Object, old: Object) -> None:
    """An update that leaves out what the server has allocated keeps it."""
    spec, before = new["spec"], old["spec"]
    if not is_external_name(new) and not is_external_name(old):
        if not spec.get("clusterIP") and before.get("clusterIP"):
            spec["clusterIP"] = before["clusterIP"]
        if not spec.get("clusterIPs") and before.get("clusterIPs"):
            spec["clusterIPs"] = list(before["clusterIPs"])
    if allocates_node_ports(new) and allocates_node_ports(old):
        used = set(node_ports(old)) & set(node_ports(new))
        known = {port.get("name", ""): port.get("nodePort") for port in before.get("ports") or ()}
        for port in spec.get("ports") or ():
            number = known.get(port.get("name", ""))
            if not port.get("nodePort") and number and number not in used:
                port["nodePort"] = number
    if needs_health_port(new) and needs_health_port(old) and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = before.get("healthCheckNodePort", 0)


def join_addresses(new: Object, old: Object | None) -> None:
    """Clients that know only the one address write only that: the list follows it if they left it alone."""
    spec = new["spec"]
    if old is None:
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
        return
    address, before = spec.get("clusterIP") or "", old["spec"].get("clusterIP") or ""
    if address == before:
        if old["spec"].get("clusterIPs") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = list(old["spec"]["clusterIPs"])
    elif same_addresses(new, old):
        if address:
            spec["clusterIPs"] = [address]
        else:
            spec.pop("clusterIPs", None)


def drop_dependent_fields(new: Object, old: Object) -> None:
    """When the type changes, fields that only the former type has, and that the user left as they were, are removed."""
    spec, before = new["spec"], old["spec"]
    if is_external_name(new) and not is_external_name(old):
        if spec.get("clusterIP") == before.get("clusterIP") and same_addresses(new, old):
            _drop(spec, "clusterIP", "clusterIPs")
        if same_families(new, old):
            _drop(spec, "ipFamilies")
        _drop_same(spec, before, "ipFamilyPolicy")
    if has_node_ports(old) and not has_node_ports(new) and set(node_ports(old)) >= set(node_ports(new)):
        for port in spec.get("ports") or ():
            _drop(port, "nodePort")
    if needs_health_port(old) and not needs_health_port(new):
        _drop_same(spec, before, "healthCheckNodePort")
    if before.get("type") == "LoadBalancer" != spec.get("type"):
        _drop_same(spec, before, "allocateLoadBalancerNodePorts", "loadBalancerClass")
    if externally_accessible(before) and not externally_accessible(spec):
        _drop_same(spec, before, "externalTrafficPolicy")


def drop_routing(service: Object) -> None:
    """What is never shown of a service that is but a name. One that is wrong is left for validation to report."""
    if is_external_name(service) and service["spec"].get("internalTrafficPolicy") in ("Cluster", "Local"):
        _drop(service["spec"], "internalTrafficPolicy")


def _drop(holder: Object, *names: str) -> None:
    for name in names:
        holder.pop(name, None)


def _drop_same(spec: Object, before: Object, *names: str) -> None:
    _drop(spec, *(name for name in names if spec.get(name) == before.get(name)))
