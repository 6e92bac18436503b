"""What an Ingress asks for (pure), part by part: what is wrong with one part keeps no other from being served.

Source: https://kubernetes.io/docs/concepts/services-networking/ingress/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tiphys.addons.ingress.backends import World, group_name, group_of
from tiphys.addons.ingress.certificates import certificate_of
from tiphys.addons.ingress.model import (
    ANY_HOST,
    PathRule,
    ServedCertificate,
    Split,
    TargetGroup,
    Unusable,
    checked_host,
    checked_path,
)
from tiphys.api.object import Object


@dataclass(slots=True)
class Wishes:
    """What one object asks to be served, and what of it cannot be."""

    obj: Object
    rules: list[PathRule] = field(default_factory=list)
    groups: list[TargetGroup] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    certificates: list[ServedCertificate] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    services: set[tuple[str, str]] = field(default_factory=set)
    """Whose endpoints matter to it."""


def wishes_of(ingress: Object, world: World) -> Wishes:
    """Read an Ingress of ours."""
    wishes, spec = Wishes(ingress), ingress.get("spec") or {}
    namespace = ingress["metadata"]["namespace"]
    for host, path, exact, backend in _paths(spec):
        try:
            checked = ANY_HOST if not host else checked_host(host)
            rule = PathRule(checked, checked_path(path), "", exact)
            wishes.rules.append(replace(rule, group=_group(backend, namespace, world, wishes)))
        except Unusable as problem:
            wishes.problems.append(f"rule for {host or 'any host'}{path[:80]}: {problem}")
    for entry in spec.get("tls") or ():
        try:
            _take_certificate(entry, namespace, world, wishes)
        except Unusable as problem:
            wishes.problems.append(f"tls: {problem}")
    return wishes


def _paths(spec: Object) -> Iterator[tuple[str, str, bool, Object]]:
    """Host, path, whether the path is exact, and the backend of each path; the default backend is what is left of the
    Ingress's hosts, or without rules of all."""
    hosts = []
    for rule in spec.get("rules") or ():
        hosts.append(rule.get("host") or "")
        for path in (rule.get("http") or {}).get("paths") or ():
            yield rule.get("host") or "", path.get("path") or "/", path.get("pathType") == "Exact", path["backend"]
    if default := spec.get("defaultBackend"):
        for host in hosts or [""]:
            yield host, "/", False, default


def _group(backend: Object, namespace: str, world: World, wishes: Wishes) -> str:
    """The name of the group behind a backend, which is kept. A Service that is not there yet has a group without
    endpoints, so that the answer is 503 and no other rule's. Raises ``Unusable``."""
    service = backend.get("service")
    if not service:
        raise Unusable("a backend that is not a Service is not supported; name a service")
    port = (service.get("port") or {}).get("number") or (service.get("port") or {}).get("name") or 0
    wishes.services.add((namespace, service["name"]))
    try:
        group = group_of(namespace, service["name"], port, world)
    except Unusable as problem:
        wishes.problems.append(str(problem))
        group = _empty(namespace, service["name"], port)
    wishes.groups.append(group)
    return group.name


def _empty(namespace: str, name: str, port: str | int) -> TargetGroup:
    try:
        return TargetGroup(group_name(namespace, name, port))
    except ValueError as error:
        raise Unusable(f"backend: {error}") from error


def _take_certificate(entry: Object, namespace: str, world: World, wishes: Wishes) -> None:
    hosts = tuple(checked_host(host, "host") for host in entry.get("hosts") or ())
    if name := entry.get("secretName"):
        wishes.certificates.append(certificate_of(world.secret(namespace, name), name, hosts))
