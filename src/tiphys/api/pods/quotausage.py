"""How much of which quota one object uses.

Source: https://kubernetes.io/docs/concepts/policy/resource-quotas/
"""

from __future__ import annotations

from tiphys.api.meta.quantity import Quantity, parse
from tiphys.api.meta.timestamps import parse_seconds
from tiphys.api.object import Object
from tiphys.api.pods import claimquota
from tiphys.api.pods.claimquota import NO_CLASSES, DeviceNames, claim_usage, counts_claims
from tiphys.api.pods.qos import BEST_EFFORT, qos_of
from tiphys.api.pods.resources import HUGE_PAGES, amounts, has_pod_level, pod_limits, pod_requests

Usage = dict[str, Quantity]

_ONE = Quantity.of(1)
_PLAIN_COUNTS = frozenset(
    (
        "configmaps",
        "persistentvolumeclaims",
        "pods",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "services",
    )
)
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_REQUIRED = frozenset(("cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"))


def count_name(group: str, plural: str) -> str:
    return f"count/{plural}.{group}" if group else f"count/{plural}"


def usage_of(group: str, plural: str, obj: Object, now: float, devices: DeviceNames = NO_CLASSES) -> Usage:
    """What the object counts for; a pod that has ended counts as an object only."""
    usage = {count_name(group, plural): _ONE}
    if is_device_claim(group, plural):
        return usage | claim_usage(obj, devices, lambda pod: usage_of("", "pods", pod, now))
    if group:
        return usage
    if plural == "pods":
        return usage | (_pod(obj) if _is_alive(obj, now) else {})
    if plural in _PLAIN_COUNTS:
        usage[plural] = _ONE
    if plural == "services":
        usage |= _service(obj)
    if plural == "persistentvolumeclaims":
        usage |= _claim(obj)
    return usage


def _is_alive(pod: Object, now: float) -> bool:
    meta = pod["metadata"]
    if (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
        return False
    if "deletionTimestamp" in meta and meta.get("deletionGracePeriodSeconds") is not None:
        return now <= parse_seconds(meta["deletionTimestamp"]) + int(meta["deletionGracePeriodSeconds"])
    return True


def _pod(pod: Object) -> Usage:
    return {"pods": _ONE} | _computed(pod_requests(pod, resizing=True), pod_limits(pod, resizing=True))


def _computed(requests: Usage, limits: Usage) -> Usage:
    usage: Usage = {}
    for name in _COMPUTE:
        if name in requests:
            usage[name] = usage[f"requests.{name}"] = requests[name]
        if name in limits:
            usage[f"limits.{name}"] = limits[name]
    for name, value in requests.items():
        if name.startswith(HUGE_PAGES):
            usage[name] = usage[f"requests.{name}"] = value
        elif "/" in name:
            usage[f"requests.{name}"] = value
    return usage


def _service(service: Object) -> Usage:
    spec = service["spec"]
    ports, kind = spec.get("ports") or [], spec.get("type")
    balanced = kind == "LoadBalancer"
    node_ports = len(ports) if kind in ("NodePort", "LoadBalancer") else 0
    if balanced and spec.get("allocateLoadBalancerNodePorts") is False:
        node_ports = sum(1 for port in ports if port.get("nodePort"))
    return {"services.loadbalancers": Quantity.of(int(balanced)), "services.nodeports": Quantity.of(node_ports)}


def _claim(claim: Object) -> Usage:
    usage: Usage = {}
    spec = claim["spec"]
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if storage is not None:
        usage["requests.storage"] = parse(str(storage))
    if name := spec.get("storageClassName"):
        prefix = f"{name}.storageclass.storage.k8s.io"
        usage[f"{prefix}/persistentvolumeclaims"] = _ONE
        if storage is not None:
            usage[f"{prefix}/requests.storage"] = parse(str(storage))
    return usage


def is_device_claim(group: str, plural: str) -> bool:
    return (group, plural) == (claimquota.GROUP, claimquota.PLURAL)


def matching(group: str, plural: str, hard: set[str], usage: Usage, devices: DeviceNames = NO_CLASSES) -> set[str]:
    """The resources of a quota that this kind of object is measured by."""
    if is_device_claim(group, plural):
        return {name for name in hard if name == count_name(group, plural) or counts_claims(name, devices)}
    if plural == "pods" and not group:
        known = {"pods", "count/pods", *_COMPUTE}
        known |= {f"{kind}.{name}" for kind in ("requests", "limits") for name in _COMPUTE}
        return {n for n in hard if n in known or "hugepages-" in n or (n.startswith("requests.") and "/" in n)}
    return {name for name in hard if name in usage or _is_claims(plural, name)}


def _is_claims(plural: str, name: str) -> bool:
    return bool(plural == "persistentvolumeclaims") and (
        name == "requests.storage" or ".storageclass.storage.k8s.io/" in name
    )


def missing_resources(pod: Object, wanted: set[str]) -> str:
    """A quota on cpu or memory demands that every container says what it wants; gives the complaint, or nothing."""
    spec = pod["spec"]
    if has_pod_level(spec):
        return ""
    required = wanted & _REQUIRED
    missing: dict[str, set[str]] = {}
    for container in [*(spec["containers"] or ()), *(spec.get("initContainers") or ())]:
        resources = container.get("resources") or {}
        given = _computed(amounts(resources.get("requests")), amounts(resources.get("limits")))
        for name in required - given.keys():
            missing.setdefault(name, set()).add(container["name"])
    parts = [f"{name} for: {','.join(sorted(missing[name]))}" for name in sorted(missing)]
    return f"must specify {'; '.join(parts)}" if parts else ""


# -- scopes


def in_scope(quota: Object, plural: str, obj: Object) -> bool:
    """Whether every scope of a quota takes the object in."""
    return all(matches_scope(selector, plural, obj) for selector in selectors_of(quota))


def selectors_of(quota: Object) -> list[Object]:
    """The scopes of a quota, each as a selector."""
    spec = quota["spec"]
    named = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or ()]
    return [*named, *((spec.get("scopeSelector") or {}).get("matchExpressions") or ())]


def matches_scope(selector: Object, plural: str, obj: Object) -> bool:
    return plural == "pods" and _matches(selector, obj)


def _matches(selector: Object, pod: Object) -> bool:
    spec = pod["spec"]
    match selector["scopeName"]:
        case "Terminating":
            return spec.get("activeDeadlineSeconds") is not None
        case "NotTerminating":
            return spec.get("activeDeadlineSeconds") is None
        case "BestEffort":
            return qos_of(pod) == BEST_EFFORT
        case "NotBestEffort":
            return qos_of(pod) != BEST_EFFORT
        case "PriorityClass":
            return _matches_class(selector, spec.get("priorityClassName", ""))
        case "CrossNamespacePodAffinity":
            return _crosses_namespaces(spec.get("affinity") or {})
    return False


def _matches_class(selector: Object, name: str) -> bool:
    values = selector.get("values") or ()
    match selector["operator"]:
        case "Exists":
            return bool(name)
        case "DoesNotExist":
            return not name
        case "In":
            return name in values
    return name not in values


def _crosses_namespaces(affinity: Object) -> bool:
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        terms = list(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        terms += [w["podAffinityTerm"] for w in rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False
