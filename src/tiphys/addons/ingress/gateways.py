"""What Gateways and HTTPRoutes ask for (pure), and what is said in their statuses.

Served: listeners of HTTP at port 80 and of HTTPS at port 443 with a certificate of their namespace; routes of the
Gateway's namespace, or of all; hosts; paths, exact and by prefix; several Services by weight (``routebackends``); the
filters of ``filters``. A route that asks for anything else is refused as a whole, and said so, so that no request goes
where a condition would not let it.

Source: https://gateway-api.sigs.k8s.io/reference/spec/
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from tiphys.addons.ingress.backends import World
from tiphys.addons.ingress.certificates import certificate_of
from tiphys.addons.ingress.filters import Incompatible, filters_of
from tiphys.addons.ingress.ingresses import Wishes
from tiphys.addons.ingress.model import ANY_HOST, PathRule, Unusable, checked_host, checked_path
from tiphys.addons.ingress.routebackends import backends_of
from tiphys.api.meta.objects import key_of, name_of, namespace_of
from tiphys.api.object import Object

log = logging.getLogger(__name__)

GROUP = "gateway.networking.k8s.io"
CONTROLLER = "tiphys.io/gateway-haproxy"
PORTS = {"HTTP": (80, "http"), "HTTPS": (443, "https")}
_RULE_FIELDS = frozenset({"name", "matches", "backendRefs", "filters"})
_MATCH_FIELDS = frozenset({"path"})


@dataclass(slots=True)
class Listener:
    name: str
    scheme: str
    host: str = ""
    same_namespace: bool = True
    problem: tuple[str, str] | None = None
    """Why it is not served: reason and message."""
    certificate_problem: str = ""
    attached: int = 0


@dataclass(slots=True)
class ReadGateway:
    obj: Object
    listeners: list[Listener] = field(default_factory=list)
    wishes: Wishes | None = None


_MALFORMED = "it is not as Gateway API's own definitions have it; install those of the standard channel"


def read_all(
    gateways: Iterable[Object], routes: Iterable[Object], world: World
) -> tuple[list[ReadGateway], list[ReadRoute]]:
    """All Gateways of ours and all routes. Definitions that others made may let anything through: an object that
    cannot be read has a problem, and is in no other's way."""
    ours, read = [], []
    for gateway in gateways:
        try:
            ours.append(read_gateway(gateway, world))
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            log.info("gateway %s cannot be read: %r", key_of(gateway), error)
            ours.append(ReadGateway(gateway, wishes=Wishes(gateway, problems=[_MALFORMED])))
    for route in routes if ours else ():
        try:
            read.append(read_route(route, ours, world))
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            log.info("route %s cannot be read: %r", key_of(route), error)
            read.append(ReadRoute(route, Wishes(route, problems=[_MALFORMED])))
    return ours, read


def read_gateway(gateway: Object, world: World) -> ReadGateway:
    wishes = Wishes(gateway)
    read = ReadGateway(gateway, wishes=wishes)
    for described in gateway["spec"].get("listeners") or ():
        read.listeners.append(_listener(described, gateway, world, wishes))
    return read


def _listener(described: Object, gateway: Object, world: World, wishes: Wishes) -> Listener:
    protocol, port = described.get("protocol") or "", described.get("port")
    wanted, scheme = PORTS.get(protocol, (None, ""))
    made = Listener(described["name"], scheme, described.get("hostname") or "")
    origin = ((described.get("allowedRoutes") or {}).get("namespaces") or {}).get("from") or "Same"
    made.same_namespace = origin != "All"
    if wanted is None:
        made.problem = "UnsupportedProtocol", f"protocol {protocol} is not served; HTTP and HTTPS are"
    elif port != wanted:
        made.problem = "PortUnavailable", f"{protocol} is served at port {wanted}"
    elif origin not in ("Same", "All"):
        made.problem = "UnsupportedValue", "allowedRoutes.namespaces.from is Same or All here"
    else:
        try:
            host = _gateway_host(made.host) if made.host else ""
            if scheme == "https":
                _take_certificate(described, host, gateway, world, wishes)
        except Unusable as problem:
            made.certificate_problem = str(problem)
    return made


def _take_certificate(described: Object, host: str, gateway: Object, world: World, wishes: Wishes) -> None:
    tls = described.get("tls") or {}
    references = tls.get("certificateRefs") or ()
    if tls.get("mode", "Terminate") != "Terminate" or not references:
        raise Unusable("tls: mode Terminate with certificateRefs is served")
    for reference in references:
        if reference.get("kind", "Secret") != "Secret" or reference.get("group"):
            raise Unusable("tls: certificateRefs name Secrets")
        if reference.get("namespace", namespace_of(gateway)) != namespace_of(gateway):
            raise Unusable("tls: a Secret of another namespace is not served")
        hosts = (host.replace("**.", "*."),) if host else ()
        name = reference["name"]
        wishes.certificates.append(certificate_of(world.secret(namespace_of(gateway), name), name, hosts))


def _gateway_host(text: str) -> str:
    """A host of Gateway API's, whose ``*.`` stands for one label or several."""
    return checked_host(f"*{text}" if text.startswith("*.") else text, "hostname")


@dataclass(slots=True)
class ParentResult:
    reference: Object
    accepted: tuple[bool, str, str]
    """Whether, the reason and the message."""
    resolved: tuple[bool, str, str] = (True, "ResolvedRefs", "")


@dataclass(slots=True)
class ReadRoute:
    obj: Object
    wishes: Wishes
    parents: list[ParentResult] = field(default_factory=list)


def read_route(route: Object, gateways: Sequence[ReadGateway], world: World) -> ReadRoute:
    """What a route asks for, for each of its parents that is a Gateway of ours."""
    wishes = Wishes(route)
    read = ReadRoute(route, wishes)
    for reference in route["spec"].get("parentRefs") or ():
        gateway = _parent(reference, route, gateways)
        if gateway is None:
            continue
        listeners = [
            listener
            for listener in gateway.listeners
            if listener.problem is None
            and not listener.certificate_problem
            and reference.get("sectionName") in (None, listener.name)
            and reference.get("port") in (None, {"http": 80, "https": 443}[listener.scheme])
        ]
        read.parents.append(_attach(reference, route, gateway, listeners, world, wishes))
    return read


def _parent(reference: Object, route: Object, gateways: Iterable[ReadGateway]) -> ReadGateway | None:
    if reference.get("kind", "Gateway") != "Gateway" or reference.get("group", GROUP) != GROUP:
        return None
    wanted = reference.get("namespace", namespace_of(route)), reference["name"]
    return next((g for g in gateways if (namespace_of(g.obj), name_of(g.obj)) == wanted), None)


def _attach(
    reference: Object,
    route: Object,
    gateway: ReadGateway,
    listeners: Sequence[Listener],
    world: World,
    wishes: Wishes,
) -> ParentResult:
    if not listeners:
        return ParentResult(
            reference, (False, "NoMatchingParent", "no listener of the Gateway is meant, or it is not served")
        )
    own = namespace_of(route) == namespace_of(gateway.obj)
    allowed = [listener for listener in listeners if own or not listener.same_namespace]
    if not allowed:
        return ParentResult(
            reference, (False, "NotAllowedByListeners", "the listener takes routes of its namespace only")
        )
    hosts = {listener.name: _hosts(listener, route) for listener in allowed}
    if not any(hosts.values()):
        return ParentResult(reference, (False, "NoMatchingListenerHostname", "no hostname is one of the listener's"))
    try:
        rules, resolved = _rules(route, world, wishes)
    except Unusable as problem:
        reason = "IncompatibleFilters" if isinstance(problem, Incompatible) else "UnsupportedValue"
        return ParentResult(reference, (False, reason, str(problem)))
    for listener in allowed:
        if hosts[listener.name]:
            listener.attached += 1
        for host in hosts[listener.name]:
            wishes.rules += [replace(rule, host=host, schemes=(listener.scheme,)) for rule in rules]
    return ParentResult(reference, (True, "Accepted", ""), resolved)


def _hosts(listener: Listener, route: Object) -> list[str]:
    """The hosts that a listener and a route have in common."""
    wanted = route["spec"].get("hostnames") or []
    if not wanted:
        return [_gateway_host(listener.host) if listener.host else ANY_HOST]
    common = {_common(listener.host, host) for host in wanted}
    return sorted(_gateway_host(host) for host in common if host)


def _common(one: str, other: str) -> str:
    """The narrower of two hosts that one holds; empty if neither holds the other."""
    if not one or _holds(one, other):
        return other
    return one if _holds(other, one) else ""


def _holds(wide: str, narrow: str) -> bool:
    if wide == narrow:
        return True
    return wide.startswith("*.") and narrow.removeprefix("*").endswith(wide[1:]) and narrow != wide[2:]


def _rules(route: Object, world: World, wishes: Wishes) -> tuple[list[PathRule], tuple[bool, str, str]]:
    """The route's rules, without a host. Raises ``Unusable`` for what is not served."""
    made, resolved = [], (True, "ResolvedRefs", "")
    for number, rule in enumerate(route["spec"].get("rules") or ()):
        if unknown := sorted(name for name in rule.keys() - _RULE_FIELDS if rule[name]):
            raise Unusable(f"rules[{number}].{unknown[0]} is not served")
        try:
            paths = [_path(match) for match in rule.get("matches") or [{}]]
            filters = filters_of(rule.get("filters") or (), paths, has_backends=bool(rule.get("backendRefs")))
            group, unresolved = backends_of(route, number, filters, paths, world, wishes)
        except Unusable as problem:
            raise type(problem)(f"rules[{number}].{problem}") from problem
        if unresolved is not None:
            resolved = (False, unresolved.reason, str(unresolved))
        made += [PathRule(ANY_HOST, value, group, exact) for value, exact in paths]
    return made, resolved


def _path(match: Object) -> tuple[str, bool]:
    """The path of a match, and whether it is exact. Raises ``Unusable``."""
    if unknown := sorted(name for name in match.keys() - _MATCH_FIELDS if match[name]):
        raise Unusable(f"matches: {unknown[0]} is not served")
    path = match.get("path") or {}
    kind = path.get("type", "PathPrefix")
    if kind not in ("Exact", "PathPrefix"):
        raise Unusable(f"matches: a path of type {kind} is not served")
    return checked_path(path.get("value", "/")), kind == "Exact"
