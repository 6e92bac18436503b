"""PodSecurity: pods keep to the level of the Pod Security Standards that the labels of their namespace name.

Source: https://kubernetes.io/docs/concepts/security/pod-security-admission/
"""

from __future__ import annotations

import asyncio
from itertools import chain

from tiphys.api import errors, fielderrors
from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.api.pods.templates import TEMPLATES, template_of
from tiphys.apiserver.admission.attributes import CREATE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid
from tiphys.apiserver.admission.pods.podsecuritychecks import Finding
from tiphys.apiserver.admission.pods.podsecuritylevels import (
    PREFIX,
    PRIVILEGED,
    PodSecurityLevel,
    PodSecurityRules,
    Policy,
    bad_labels,
    ignored,
    is_privileged,
    policy_of,
)
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.storage.entry import Entry

_MOST_PODS, _MOST_SECONDS = 3000, 1.0
"""Of the pods that are there when the level of a namespace changes: how many are looked at, and for how long."""
_SLICE = 50
"""So many between two turns of the loop."""
_WIDEST = str(PodSecurityLevel())
_POD_SUBRESOURCES = frozenset(("", "ephemeralcontainers", "resize"))


class PodSecurity(Plugin):
    resources = frozenset((("", "pods"), ("", "namespaces"), *TEMPLATES))
    operations = frozenset((CREATE, UPDATE))
    subresources = _POD_SUBRESOURCES

    def __init__(self, registries: Registries, rules: PodSecurityRules) -> None:
        self._registries = registries
        self._rules = rules

    async def validate(self, attributes: Attributes) -> None:
        """Check a namespace's labels, a pod, or a pod template by its namespace's levels. Raises 403 and 422."""
        key = (attributes.group, attributes.plural)
        if key == ("", "namespaces"):
            return await self._namespace(attributes)
        if key != ("", "pods") and attributes.subresource:
            return None
        if exempt := self._exempt(attributes):
            return attributes.annotate(PREFIX + "exempt", exempt)
        labels = await self._labels(attributes.namespace)
        policy = policy_of(labels, self._rules.defaults)
        if is_privileged(policy) and not bad_labels(labels):
            if key == ("", "pods"):
                attributes.annotate(PREFIX + "enforce-policy", _WIDEST)
            return None
        if key == ("", "pods"):
            return await attributes.work(lambda: self._pod(attributes, labels, policy))
        return await attributes.work(lambda: self._template(attributes, labels, policy, TEMPLATES[key]))

    def _exempt(self, attributes: Attributes) -> str:
        """Why no policy concerns the request, if none does."""
        if attributes.namespace in self._rules.namespaces:
            return "namespace"
        return "user" if attributes.user.name in self._rules.usernames else ""

    async def _labels(self, namespace: str) -> dict[str, str]:
        entry = await self._registries.get("", "namespaces").store.cached("", namespace)
        return entry.labels if entry is not None else {}

    # -- pods, and what makes them

    def _pod(self, attributes: Attributes, labels: dict[str, str], policy: Policy) -> None:
        pod = attributes.new()
        if attributes.operation == UPDATE and not _is_significant(pod, attributes.old or {}):
            return
        if self._runs_exempt(attributes, labels, pod["spec"]):
            return
        enforce = policy["enforce"]
        attributes.annotate(PREFIX + "enforce-policy", str(enforce))
        violations = enforce.check(pod["metadata"], pod["spec"])
        self._audit(attributes, policy, pod["metadata"], pod["spec"])
        if violations:
            raise forbid(attributes, f"violates PodSecurity {quote(str(enforce))}: {_details(violations)}")
        self._warn(attributes, policy, pod["metadata"], pod["spec"])

    def _template(self, attributes: Attributes, labels: dict[str, str], policy: Policy, path: tuple[str, ...]) -> None:
        """What makes pods is not refused, but its user is warned."""
        template = template_of(attributes.new(), path)
        spec, meta = template.get("spec"), template.get("metadata") or {}
        if spec and not self._runs_exempt(attributes, labels, spec):
            self._audit(attributes, policy, meta, spec)
            self._warn(attributes, policy, meta, spec)

    def _runs_exempt(self, attributes: Attributes, labels: dict[str, str], spec: Object) -> bool:
        """Whether the runtime class is exempt; otherwise labels that make no sense are noted."""
        if spec.get("runtimeClassName", "") in self._rules.runtime_classes:
            attributes.annotate(PREFIX + "exempt", "runtimeClass")
            return True
        if problems := bad_labels(labels):
            attributes.annotate(PREFIX + "error", f"Failed to parse policy: {fielderrors.aggregate(problems)}")
        return False

    def _audit(self, attributes: Attributes, policy: Policy, meta: Object, spec: Object) -> None:
        audit = policy["audit"]
        if violated := audit.check(meta, spec):
            violations = f"would violate PodSecurity {quote(str(audit))}: {_details(violated)}"
            attributes.annotate(PREFIX + "audit-violations", violations)

    def _warn(self, attributes: Attributes, policy: Policy, meta: Object, spec: Object) -> None:
        level = policy["warn"]
        if violated := level.check(meta, spec):
            attributes.warn(f"would violate PodSecurity {quote(str(level))}: {_details(violated)}")

    # -- namespaces

    async def _namespace(self, attributes: Attributes) -> None:
        """Check a namespace's labels, and warn of pods that its new level would forbid. Raises 422."""
        if attributes.subresource:
            return
        meta = attributes.new()["metadata"]
        labels = meta.get("labels") or {}
        before = ((attributes.old or {}).get("metadata") or {}).get("labels") or {}
        problems = bad_labels(labels)
        if problems and (attributes.operation == CREATE or problems != bad_labels(before)):
            raise errors.invalid("", "Namespace", meta.get("name", ""), problems)
        defaults = self._rules.defaults
        policy = policy_of(labels, defaults)
        if attributes.operation == UPDATE:
            new, old = policy["enforce"], policy_of(before, defaults)["enforce"]
            if not _is_stricter(new, old):
                return
        if meta.get("name") in self._rules.namespaces:
            if levels := ignored(labels, policy, defaults):
                name = quote(meta["name"])
                attributes.warn(
                    f"namespace {name} is exempt from Pod Security, and the policy ({levels}) will be ignored"
                )
        elif attributes.operation == UPDATE:
            await self._warn_of_existing(attributes, new)

    async def _warn_of_existing(self, attributes: Attributes, new: PodSecurityLevel) -> None:
        """A stricter level does not touch pods that are there; its user is warned which it would forbid."""
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
        ends, owners, checked, exempt = pods.clock.monotonic() + _MOST_SECONDS, set[str](), 0, 0
        by_reason: dict[str, list[str]] = {}
        for number, entry in enumerate(chain(entries, more)):
            if number % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
                if pods.clock.monotonic() > ends:
                    break
            pod = pods.object(entry)
            if pod["spec"].get("runtimeClassName", "") in self._rules.runtime_classes:
                exempt += 1
                continue
            owner = controller_of(pod)
            if owner in owners and number < len(entries):
                more.append(entry)  # one pod of each owner is looked at first
                continue
            owners |= {owner} if owner else set()
            if violated := level.check(pod["metadata"], pod["spec"]):
                by_reason.setdefault(", ".join(reason for reason, _ in violated), []).append(entry.name)
            checked += 1
            if checked == _MOST_PODS:
                break
        return by_reason, checked, len(entries) - exempt


def controller_of(pod: Object) -> str:
    """The uid of what made the pod; empty for a pod of nobody."""
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((owner.get("uid", "") for owner in owners if owner.get("controller")), "")


def _told(reason: str, names: list[str]) -> str:
    first, others = min(names), len(names) - 1
    more = "" if not others else f" (and {others} other {'pod' if others == 1 else 'pods'})"
    return f"{first}{more}: {reason}"


def _details(violated: list[Finding]) -> str:
    return ", ".join(f"{reason} ({detail})" if detail else reason for reason, detail in violated)


def _is_stricter(new: PodSecurityLevel, old: PodSecurityLevel) -> bool:
    """Whether the new level may forbid what the old one did not."""
    if new == old or new.name == PRIVILEGED:
        return False
    return new.version != old.version or new.strictness > old.strictness


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
