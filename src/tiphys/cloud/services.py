"""Which Services want a load balancer, what about one is news to it, and which nodes it sends traffic to. Pure.

Source: https://kubernetes.io/docs/concepts/services-networking/service/#loadbalancer
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tiphys.api.meta.conditions import is_condition
from tiphys.api.meta.objects import annotations_of, finalizers_of, is_deleting, labels_of, name_of, uid_of
from tiphys.api.object import Object

FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
LEAVING_TAINT = "ToBeDeletedByClusterAutoscaler"
"""The cluster autoscaler is about to remove the node."""

_PORT_FIELDS = ("name", "protocol", "port", "nodePort", "targetPort", "appProtocol")
_SPEC_FIELDS = (
    *("loadBalancerSourceRanges", "sessionAffinity", "sessionAffinityConfig", "loadBalancerIP", "externalIPs"),
    *("externalTrafficPolicy", "healthCheckNodePort"),
)
_FALSE = {"0", "f", "F", "FALSE", "false", "False"}
"""How Go writes it."""


def wants_load_balancer(service: Object) -> bool:
    """One of the default kind: a class names somebody else who makes it."""
    spec = service["spec"]
    return spec.get("type") == "LoadBalancer" and spec.get("loadBalancerClass") is None


def needs_cleanup(service: Object) -> bool:
    """Whether the load balancer that it has, or may have, is to go."""
    if FINALIZER not in finalizers_of(service):
        return False
    return is_deleting(service) or service["spec"].get("type") != "LoadBalancer"


def needs_update(old: Object, new: Object) -> bool:
    """Whether a change of a Service changes its load balancer."""
    if not (wants_load_balancer(old) or wants_load_balancer(new)):
        return False
    before, after = old["spec"], new["spec"]
    return (
        wants_load_balancer(old) != wants_load_balancer(new)
        or uid_of(old) != uid_of(new)
        or _ports(before) != _ports(after)
        or any((before.get(name) or None) != (after.get(name) or None) for name in _SPEC_FIELDS)
        or annotations_of(old) != annotations_of(new)
        or len(before.get("ipFamilies") or ()) != len(after.get("ipFamilies") or ())
    )


def _ports(spec: Object) -> list[tuple[object, ...]]:
    return [tuple(port.get(name) for name in _PORT_FIELDS) for port in spec.get("ports") or ()]


def is_included(node: Object) -> bool:
    """Whether a node's labels let load balancers use it; a label that is neither true nor false excludes it."""
    text = labels_of(node).get(EXCLUDED)
    return text is None or text in _FALSE


def backends(nodes: Iterable[Object], *, only_ready: bool = False) -> list[Object]:
    """The nodes that load balancers send traffic to. Readiness is for their own health checks to find out, if they have
    any; otherwise ``only_ready`` nodes count."""
    return [
        node
        for node in nodes
        if not is_deleting(node) and is_included(node) and not _is_leaving(node) and (is_ready(node) or not only_ready)
    ]


def is_ready(node: Object) -> bool:
    return is_condition((node.get("status") or {}).get("conditions"), "Ready")


def _is_leaving(node: Object) -> bool:
    return any(taint["key"] == LEAVING_TAINT for taint in node["spec"].get("taints") or ())


def same_backends(before: Sequence[Object], now: Sequence[Object]) -> bool:
    return _identities(before) == _identities(now)


def _identities(nodes: Sequence[Object]) -> dict[str, str]:
    return {name_of(node): node["spec"].get("providerID", "") for node in nodes}


def changes_backends(old: Object, new: Object, *, only_ready: bool = False) -> bool:
    """Whether a change of a node may change where load balancers send traffic."""
    return (
        is_included(old) != is_included(new)
        or old["spec"].get("providerID") != new["spec"].get("providerID")
        or (only_ready and is_ready(old) != is_ready(new))
    )
