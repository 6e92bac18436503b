"""Which EndpointSlices to create, change and delete: pure decisions.

Slices that are there are changed as little as possible, as every change is sent to every node: endpoints stay in the
slice that they are in, new ones go into slices that change anyway, then into one that has room, then into new slices.
Source: https://github.com/kubernetes/enhancements/tree/master/keps/sig-network/0752-endpointslices
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tiphys.api.object import Object
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.objects import (
    annotations_of,
    controller_reference,
    copy,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    uid_of,
)
from tiphys.controllers.network import endpointscommon as common
from tiphys.controllers.network.endpointslice import hints, topology
from tiphys.controllers.network.endpointslice.topology import Hinting, Notice, Refusal, Zones

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"

_RESERVED = frozenset((SERVICE_NAME, MANAGED_BY, common.HEADLESS))

NO_HINTING = Hinting()

PortsKey = tuple[tuple[tuple[str, object], ...], ...]
EndpointKey = tuple[tuple[str, ...], str, str, str]


@dataclass(slots=True)
class SlicePlan:
    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    hinted: dict[str, Zones] = field(default_factory=dict)
    """Of each IP family with hints by processors, how many endpoints each zone has."""
    notices: list[Notice] = field(default_factory=list)

    def add(self, other: SlicePlan) -> None:
        self.create += other.create
        self.update += other.update
        self.delete += other.delete
        self.hinted |= other.hinted
        self.notices += other.notices


# Endpoints of pods


def address_types(service: Object) -> list[str]:
    """The families for which the service has slices."""
    spec = service["spec"]
    families = [family for family in spec.get("ipFamilies") or () if family in (common.IPV4, common.IPV6)]
    if families:
        return families
    if common.has_cluster_ip(service):
        return [common.family_of(spec["clusterIP"]) or common.IPV4]
    return [common.IPV4, common.IPV6]


def endpoint_of(pod: Object, node: Object | None, service: Object, family: str) -> Object:
    """The endpoint of a pod in a slice of ``family``; ``node`` is None if it is not known."""
    serving, terminating = podkit.is_ready(pod), is_deleting(pod)
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    endpoint: Object = {
        "addresses": common.pod_addresses(pod, family),
        "conditions": {
            "ready": publish or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
    }
    hostname = common.hostname_of(pod, service)
    if hostname:
        endpoint["hostname"] = hostname
    endpoint["targetRef"] = common.pod_reference(pod)
    if podkit.node_of(pod):
        endpoint["nodeName"] = podkit.node_of(pod)
    zone = labels_of(node).get("topology.kubernetes.io/zone") if node is not None else None
    if zone:
        endpoint["zone"] = zone
    return endpoint


def ports_of(service: Object, pod: Object) -> list[Object]:
    ports = []
    for port in service["spec"].get("ports") or ():
        number = common.find_port(pod, port)
        if number is None:
            continue
        entry: Object = {"name": port.get("name") or "", "port": number, "protocol": port.get("protocol", "TCP")}
        if port.get("appProtocol") is not None:
            entry["appProtocol"] = port["appProtocol"]
        ports.append(entry)
    return ports


def ports_key(ports: Iterable[Object] | None) -> PortsKey:
    """The same for the same ports in whatever order."""
    return tuple(sorted((tuple(sorted(port.items())) for port in ports or ()), key=repr))


def endpoint_key(endpoint: Object) -> EndpointKey:
    """What makes an endpoint the same one: its addresses, hostname and pod."""
    target = endpoint.get("targetRef") or {}
    return (
        tuple(sorted(endpoint["addresses"])),
        endpoint.get("hostname") or "",
        target.get("namespace") or "",
        target.get("name") or "",
    )


def _same(left: Object, right: Object) -> bool:
    def target(endpoint: Object) -> Object:
        reference = endpoint.get("targetRef") or {}
        return {key: value for key, value in reference.items() if key != "resourceVersion"}

    return (
        left.get("nodeName") == right.get("nodeName")
        and left.get("zone") == right.get("zone")
        and (left.get("conditions") or {}) == (right.get("conditions") or {})
        and target(left) == target(right)
    )


# Slices


def labels_for(service: Object, controller: str = CONTROLLER) -> dict[str, str]:
    labels = {key: value for key, value in labels_of(service).items() if key not in _RESERVED}
    if not common.has_cluster_ip(service):
        labels[common.HEADLESS] = ""
    labels[SERVICE_NAME] = name_of(service)
    labels[MANAGED_BY] = controller
    return labels


def _labels_stale(existing: Object, service: Object) -> bool:
    have = {key: value for key, value in labels_of(existing).items() if key not in _RESERVED}
    return have != {key: value for key, value in labels_of(service).items() if key not in _RESERVED}


def new_slice(service: Object, family: str, ports: list[Object]) -> Object:
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "generateName": f"{name_of(service)}-",
            "namespace": namespace_of(service),
            "labels": labels_for(service),
            "ownerReferences": [controller_reference(service, "v1", "Service")],
        },
        "addressType": family,
        "endpoints": [],
        "ports": ports,
    }


def owned_by(existing: Object, service: Object) -> bool:
    return any(
        reference.get("uid") == uid_of(service) and reference.get("kind") == "Service"
        for reference in existing["metadata"].get("ownerReferences") or ()
    )


def plan(
    service: Object,
    pods: Sequence[Object],
    existing: Sequence[Object],
    node: Callable[[str], Object | None],
    per_slice: int,
    hinting: Hinting = NO_HINTING,
) -> tuple[SlicePlan, list[str]]:
    """What to do for a service, and which pods were left out, as messages."""
    families = address_types(service)
    result, problems = SlicePlan(), []
    for family in families:
        own = [endpoint_slice for endpoint_slice in existing if endpoint_slice.get("addressType") == family]
        planned, skipped = _plan_family(service, pods, own, node, per_slice, family)
        _add_hints(planned, service, own, family, hinting)
        result.add(planned)
        problems += skipped
    result.delete += [
        endpoint_slice for endpoint_slice in existing if endpoint_slice.get("addressType") not in families
    ]
    _reuse(result, service)
    result.notices += _changes_of_hints(service, result.hinted, families[0], was_hinted=hinting.was_hinted)
    return result, problems


def _plan_family(
    service: Object,
    pods: Sequence[Object],
    existing: Sequence[Object],
    node: Callable[[str], Object | None],
    per_slice: int,
    family: str,
) -> tuple[SlicePlan, list[str]]:
    """The plan for one address family, and the pods that were skipped."""
    result = SlicePlan()
    by_ports: dict[PortsKey, list[Object]] = {}
    for endpoint_slice in existing:
        if owned_by(endpoint_slice, service):
            by_ports.setdefault(ports_key(endpoint_slice.get("ports")), []).append(endpoint_slice)
        else:
            result.delete.append(endpoint_slice)
    wanted, ports, skipped = _desired(service, pods, node, family)
    for key, endpoints in wanted.items():
        result.add(_plan_ports(service, by_ports.get(key, []), endpoints, ports[key], per_slice, family))
    for key, slices in by_ports.items():
        if key not in wanted:
            result.delete += slices
    if len(existing) == len(result.delete) and not result.create:
        _keep_placeholder(result, service, family)
    return result, skipped


def _desired(
    service: Object, pods: Sequence[Object], node: Callable[[str], Object | None], family: str
) -> tuple[dict[PortsKey, dict[EndpointKey, Object]], dict[PortsKey, list[Object]], list[str]]:
    """Endpoints by the ports that they serve (a named port may have another number in each pod)."""
    wanted: dict[PortsKey, dict[EndpointKey, Object]] = {}
    ports: dict[PortsKey, list[Object]] = {}
    skipped = []
    for pod in pods:
        if not common.belongs(pod, include_terminating=True):
            continue
        own = ports_of(service, pod)
        key = ports_key(own)
        endpoints = wanted.setdefault(key, {})
        ports.setdefault(key, own)
        node_of = node(podkit.node_of(pod))
        if node_of is None and not service["spec"].get("publishNotReadyAddresses"):
            place = f"{namespace_of(service)}/{name_of(service)}"
            skipped.append(f"skipping Pod {name_of(pod)} for Service {place}: Node {podkit.node_of(pod)} Not Found")
            continue
        endpoint = endpoint_of(pod, node_of, service, family)
        if endpoint["addresses"]:
            endpoints[endpoint_key(endpoint)] = endpoint
    return wanted, ports, skipped


def _plan_ports(
    service: Object,
    existing: Sequence[Object],
    wanted: dict[EndpointKey, Object],
    ports: list[Object],
    per_slice: int,
    family: str,
) -> SlicePlan:
    """Slices for endpoints that serve the same ports. ``wanted`` is emptied."""
    result = SlicePlan()
    unchanged: list[Object] = []
    for endpoint_slice in existing:
        kept = _kept(endpoint_slice, wanted)
        changed = len(kept) != len(endpoint_slice.get("endpoints") or ()) or any(not _same(a, b) for a, b in kept)
        if changed and not kept:
            result.delete.append(endpoint_slice)
        elif changed or _labels_stale(endpoint_slice, service):
            result.update.append(_with(endpoint_slice, service, [new for _, new in kept] if changed else None))
        else:
            unchanged.append(endpoint_slice)
    result.update.sort(key=lambda endpoint_slice: -len(endpoint_slice["endpoints"]))
    for endpoint_slice in result.update:
        _fill(endpoint_slice, wanted, per_slice)
    while wanted:
        roomy = _slice_to_fill(unchanged, len(wanted), per_slice)
        if roomy is not None:
            unchanged.remove(roomy)
            target = _with(roomy, service, None)
            result.update.append(target)
        else:
            target = new_slice(service, family, ports)
            result.create.append(target)
        _fill(target, wanted, per_slice)
    return result


def _kept(endpoint_slice: Object, wanted: dict[EndpointKey, Object]) -> list[tuple[Object, Object]]:
    """Endpoints of a slice that are still wanted, as they are and as they are to be; taken out of ``wanted``."""
    kept = []
    for endpoint in endpoint_slice.get("endpoints") or ():
        new = wanted.pop(endpoint_key(endpoint), None)
        if new is not None:
            if "hints" in endpoint and "hints" not in new:
                new = {**new, "hints": endpoint["hints"]}
            kept.append((endpoint, new))
    return kept


def _with(endpoint_slice: Object, service: Object, endpoints: list[Object] | None) -> Object:
    changed = copy(endpoint_slice)
    changed["metadata"]["labels"] = labels_for(service)
    if endpoints is not None:
        changed["endpoints"] = endpoints
    elif changed.get("endpoints") is None:
        changed["endpoints"] = []
    return changed


def _fill(target: Object, wanted: dict[EndpointKey, Object], per_slice: int) -> None:
    while wanted and len(target["endpoints"]) < per_slice:
        target["endpoints"].append(wanted.pop(next(iter(wanted))))


def _slice_to_fill(slices: Iterable[Object], count: int, per_slice: int) -> Object | None:
    """The slice that has room for all ``count`` endpoints and is fullest then."""
    if count >= per_slice:
        return None
    room = {
        id(endpoint_slice): per_slice - count - len(endpoint_slice.get("endpoints") or ()) for endpoint_slice in slices
    }
    fitting = [endpoint_slice for endpoint_slice in slices if room[id(endpoint_slice)] >= 0]
    return min(fitting, key=lambda endpoint_slice: room[id(endpoint_slice)], default=None)


def _keep_placeholder(result: SlicePlan, service: Object, family: str) -> None:
    """A service without endpoints has one empty slice, so that it is seen to have none."""
    placeholder = new_slice(service, family, [])
    if len(result.delete) == 1:
        only = result.delete[0]
        if (
            not only.get("endpoints")
            and not only.get("ports")
            and owned_by(only, service)
            and labels_of(only) == labels_of(placeholder)
        ):
            result.delete.clear()
            return
    result.create.append(placeholder)


def _add_hints(result: SlicePlan, service: Object, existing: Sequence[Object], family: str, hinting: Hinting) -> None:
    """Hints by processors if the Service asks for them, whatever its ``trafficDistribution``; else by the latter."""
    if not topology.is_auto(service):
        _add_close_hints(result, existing, service["spec"].get("trafficDistribution"))
        return
    zones = topology.add_hints(result.create, result.update, _unchanged(result, existing), hinting.shares)
    if isinstance(zones, Refusal):
        result.notices.append(Notice.disabled(zones.message, family))
        _add_close_hints(result, existing, None)
    else:
        result.hinted[family] = zones


def _add_close_hints(result: SlicePlan, existing: Sequence[Object], distribution: str | None) -> None:
    unchanged = _unchanged(result, existing)
    result.update += [copy(one) for one in unchanged if hints.stale(one, distribution)]
    for endpoint_slice in [*result.create, *result.update]:
        hints.apply(endpoint_slice, distribution)


def _unchanged(result: SlicePlan, existing: Sequence[Object]) -> list[Object]:
    changed = {name_of(endpoint_slice) for endpoint_slice in [*result.update, *result.delete]}
    return [endpoint_slice for endpoint_slice in existing if name_of(endpoint_slice) not in changed]


def _changes_of_hints(
    service: Object, hinted: Mapping[str, Zones], family: str, *, was_hinted: bool
) -> Iterable[Notice]:
    """Events are about the Service, so one of its IP families stands for all."""
    if hinted and not was_hinted:
        yield Notice.enabled(next(iter(hinted)))
    if was_hinted and not topology.is_auto(service):
        yield Notice.disabled(topology.DISABLED, family)


def _reuse(result: SlicePlan, service: Object) -> None:
    """Change a slice that is to be deleted into one that is to be created: one request instead of two."""
    for doomed in list(result.delete):
        if not result.create:
            return
        wanted = result.create[-1]
        if doomed.get("addressType") != wanted["addressType"] or not owned_by(doomed, service):
            continue
        result.create.pop()
        result.delete.remove(doomed)
        wanted["metadata"].pop("generateName", None)
        wanted["metadata"]["name"] = name_of(doomed)
        result.update.append(wanted)


def set_trigger_time(endpoint_slice: Object, trigger: str | None) -> None:
    annotations = dict(annotations_of(endpoint_slice))
    annotations.pop(common.TRIGGER_TIME, None)
    if trigger:
        annotations[common.TRIGGER_TIME] = trigger
    endpoint_slice["metadata"]["annotations"] = annotations
