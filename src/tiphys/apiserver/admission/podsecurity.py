"""PodSecurity: pods keep to the level of the Pod Security Standards that the labels of their namespace name.

Source: https://kubernetes.io/docs/concepts/security/pod-security-admission/
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from itertools import chain

from tiphys.api import errors, fielderrors
from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.api.pods.templates import TEMPLATES, template_of
from tiphys.apiserver.admission.attributes import CREATE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid
from tiphys.apiserver.admission.podsecuritychecks import Finding, findings
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.storage.entry import Entry

_PREFIX = "pod-security.kubernetes.io/"
_LEVELS = ("privileged", "baseline", "restricted")
_VERSION = re.compile(r"v1\.(0|[1-9][0-9]*)")
_LATEST = 36
_MOST_PODS, _MOST_SECONDS = 3000, 1.0
"""Of the pods that are there when the level of a namespace changes: how many are looked at, and for how long."""
_SLICE = 50
"""So many between two turns of the loop."""
_POD_SUBRESOURCES = frozenset(("", "ephemeralcontainers", "resize"))


@dataclass(frozen=True, slots=True)
class PodSecurityLevel:
    name: str
    version: str = "latest"

    @property
    def minor(self) -> int:
        match = _VERSION.fullmatch(self.version)
        return min(int(match[1]), _LATEST) if match else _LATEST

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"

    def check(self, meta: Object, spec: Object) -> list[Finding]:
        return findings(self.name, self.minor, meta, spec)


class PodSecurity(Plugin):
    resources = frozenset((("", "pods"), ("", "namespaces"), *TEMPLATES))
    operations = frozenset((CREATE, UPDATE))
    subresources = _POD_SUBRESOURCES

    def __init__(self, registries: Registries, default: str) -> None:
        self._registries = registries
        self._default = default

    async def validate(self, attributes: Attributes) -> None:
        key = (attributes.group, attributes.plural)
        if key == ("", "namespaces"):
            return await self._namespace(attributes)
        labels = await self._labels(attributes.namespace)
        if not any(name.startswith(_PREFIX) for name in labels) and self._default == "privileged":
            return None
        if key == ("", "pods"):
            return self._pod(attributes, labels)
        return self._template(attributes, labels, TEMPLATES[key])

    async def _labels(self, namespace: str) -> dict[str, str]:
        entry = await self._registries.get("", "namespaces").store.cached("", namespace)
        return entry.labels if entry is not None else {}

    def _level(self, labels: dict[str, str], mode: str) -> PodSecurityLevel:
        """A label that makes no sense counts as the strictest, or, for a version, as the latest."""
        name = labels.get(_PREFIX + mode, self._default)
        version = labels.get(f"{_PREFIX}{mode}-version", "latest")
        if name not in _LEVELS:
            name = "restricted" if mode == "enforce" else "privileged"
        return PodSecurityLevel(name, version if _VERSION.fullmatch(version) else "latest")

    # -- pods, and what makes them

    def _pod(self, attributes: Attributes, labels: dict[str, str]) -> None:
        pod = attributes.new()
        if attributes.operation == UPDATE and not _is_significant(pod, attributes.old or {}):
            return
        enforce = self._level(labels, "enforce")
        attributes.annotate(_PREFIX + "enforce-policy", str(enforce))
        if violations := enforce.check(pod["metadata"], pod["spec"]):
            raise forbid(attributes, f"violates PodSecurity {quote(str(enforce))}: {_details(violations)}")
        self._warn(attributes, labels, pod["metadata"], pod["spec"])

    def _template(self, attributes: Attributes, labels: dict[str, str], path: tuple[str, ...]) -> None:
        """What makes pods is not refused, but its user is warned."""
        template = template_of(attributes.new(), path)
        if template.get("spec"):
            self._warn(attributes, labels, template.get("metadata") or {}, template["spec"])

    def _warn(self, attributes: Attributes, labels: dict[str, str], meta: Object, spec: Object) -> None:
        audit = self._level(labels, "audit")
        if violated := audit.check(meta, spec):
            violations = f"would violate PodSecurity {quote(str(audit))}: {_details(violated)}"
            attributes.annotate(_PREFIX + "audit-violations", violations)
        level = self._level(labels, "warn")
        if violated := level.check(meta, spec):
            attributes.warn(f"would violate PodSecurity {quote(str(level))}: {_details(violated)}")

    # -- namespaces

    async def _namespace(self, attributes: Attributes) -> None:
        if attributes.subresource:
            return
        meta = attributes.new()["metadata"]
        labels = meta.get("labels") or {}
        before = ((attributes.old or {}).get("metadata") or {}).get("labels") or {}
        bad = _bad_labels(labels)
        if bad and (attributes.operation == CREATE or bad != _bad_labels(before)):
            raise errors.invalid("", "Namespace", meta.get("name", ""), bad)
        if attributes.operation == UPDATE:
            await self._check_existing(attributes, self._level(labels, "enforce"), self._level(before, "enforce"))

    async def _check_existing(self, attributes: Attributes, new: PodSecurityLevel, old: PodSecurityLevel) -> None:
        """A stricter level does not touch pods that are there; its user is warned which it would forbid."""
        if new == old or new.name == "privileged":
            return
        if new.version == old.version and _LEVELS.index(new.name) <= _LEVELS.index(old.name):
            return
        by_reason, checked, total = await self._violations(attributes.name, new)
        if checked < total:
            text = f"only checked against the first {checked} of {total} existing pods"
            attributes.warn(f"new PodSecurity enforce level {text}")
        if by_reason:
            name, level = quote(attributes.name), quote(str(new))
            attributes.warn(f"existing pods in namespace {name} violate the new PodSecurity enforce level {level}")
        for text in sorted(_told(reason, names) for reason, names in by_reason.items()):
            attributes.warn(text)

    async def _violations(self, namespace: str, level: PodSecurityLevel) -> tuple[dict[str, list[str]], int, int]:
        """The pods that a level forbids, by the reasons; how many were looked at, and how many there are. Every
        request has a bound: a namespace may have more pods than can be looked at while its user waits."""
        pods = self._registries.get("", "pods")
        entries, more = await pods.all(namespace), list[Entry]()
        ends, owners, checked = pods.clock.monotonic() + _MOST_SECONDS, set[str](), 0
        by_reason: dict[str, list[str]] = {}
        for number, entry in enumerate(chain(entries, more)):
            if number % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
                if pods.clock.monotonic() > ends:
                    break
            pod = pods.object(entry)
            owner = controller_of(pod)
            if owner in owners and number < len(entries):
                more.append(entry)  # one pod of each owner is looked at first
                continue
            owners |= {owner} if owner else set()
            if violations := level.check(pod["metadata"], pod["spec"]):
                by_reason.setdefault(", ".join(reason for reason, _ in violations), []).append(entry.name)
            checked += 1
            if checked == _MOST_PODS:
                break
        return by_reason, checked, len(entries)


def controller_of(pod: Object) -> str:
    """The uid of what made the pod; empty for a pod of nobody."""
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((owner.get("uid", "") for owner in owners if owner.get("controller")), "")


def _told(reason: str, names: list[str]) -> str:
    first, others = min(names), len(names) - 1
    more = "" if not others else f" (and {others} other {'pod' if others == 1 else 'pods'})"
    return f"{first}{more}: {reason}"


def _details(violations: list[Finding]) -> str:
    return ", ".join(f"{reason} ({detail})" if detail else reason for reason, detail in violations)


def _bad_labels(labels: dict[str, str]) -> list[fielderrors.FieldError]:
    bad = []
    for mode in ("enforce", "audit", "warn"):
        level = labels.get(_PREFIX + mode)
        if level is not None and level not in _LEVELS:
            path = f"metadata.labels[{_PREFIX}{mode}]"
            bad.append(fielderrors.invalid(path, level, "must be one of privileged, baseline, restricted"))
        version = labels.get(f"{_PREFIX}{mode}-version")
        if version not in (None, "latest") and not _VERSION.fullmatch(str(version)):
            path = f"metadata.labels[{_PREFIX}{mode}-version]"
            text = 'must be "latest" or "v1.x"'
            bad.append(fielderrors.invalid(path, version, text))
    return bad


def _is_significant(new: Object, old: Object) -> bool:
    """Whether an update may change what the checks see: more containers, or other images in them. Nothing else that
    they look at can be changed."""
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    return any(_images(spec, kind) != _images(before, kind) for kind in ("containers", "initContainers")) or bool(
        _debuggers(spec) - _debuggers(before)
    )


def _images(spec: Object, kind: str) -> list[str]:
    return [container.get("image", "") for container in spec.get(kind) or ()]


def _debuggers(spec: Object) -> set[tuple[str, str]]:
    """Name and image of each."""
    return {(container["name"], container.get("image", "")) for container in spec.get("ephemeralContainers") or ()}
