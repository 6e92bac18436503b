"""The webhooks of all configurations of a kind, and which of them a request is about.

Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING

from tiphys.api import errors
from tiphys.api.gotext import quote
from tiphys.api.meta.selectors import Selector, selector_from_object
from tiphys.api.object import Object
from tiphys.api.patch.failures import PatchError
from tiphys.api.patch.jsonpatch import json_patch
from tiphys.api.scheme import GroupVersionKind, Resource
from tiphys.apiserver.admission.attributes import CREATE, UPDATE, Attributes
from tiphys.apiserver.admission.matching import is_exempt, object_matches, rule_matches
from tiphys.apiserver.admission.webhooks.notes import own_annotations
from tiphys.apiserver.admission.webhooks.review import (
    VERSIONS,
    InvalidAnswer,
    ReviewVerdict,
    Seen,
    make_review,
    read_verdict,
)
from tiphys.apiserver.authz.authorizer import Authorizer
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.webhooks.client import CallFailed, WebhookCaller

if TYPE_CHECKING:
    from tiphys.apiserver.admission.policies.expressions import PolicyExpressions

log = logging.getLogger(__name__)


GROUP = "admissionregistration.k8s.io"
_TIMEOUT_SECONDS = 10
_WITHOUT_SIDE_EFFECTS = ("None", "NoneOnDryRun")
_EVENTS = (("", "events"), ("events.k8s.io", "events"))


@dataclass(frozen=True)
class Hook:
    """One webhook of a configuration. ``key`` identifies it."""

    configuration: str
    spec: Object
    key: str
    index: int
    """Its place among the webhooks of all configurations."""

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @cached_property
    def object_selector(self) -> Selector:
        return selector_from_object(self.spec.get("objectSelector") or {})

    @cached_property
    def conditions(self) -> PolicyExpressions:
        from tiphys.apiserver.admission.policies.expressions import PolicyExpressions

        return PolicyExpressions(self.spec)

    @cached_property
    def namespace_selector(self) -> Selector:
        return selector_from_object(self.spec.get("namespaceSelector") or {})


class Hooks:
    """Those of ``mutatingwebhookconfigurations`` or ``validatingwebhookconfigurations``, in the order of calling."""

    def __init__(self, registries: Registries, plural: str, caller: WebhookCaller, authorizer: Authorizer) -> None:
        self._registries = registries
        self._authorizer = authorizer
        self._registry = registries.get(GROUP, plural)
        self._mutating = plural.startswith("mutating")
        self._caller = caller
        self._generation = -1
        self._hooks: tuple[Hook, ...] = ()

    async def close(self) -> None:
        await self._caller.close()

    async def about(self, attributes: Attributes) -> list[tuple[Hook, Resource, str]]:
        """The webhooks that a request concerns, and in which resource and version each wants to see it."""
        hooks = await self._current()
        if not hooks or is_exempt(attributes.group, attributes.kind.kind):
            return []
        concerned = []
        for hook in hooks:
            form = await self._concerned(hook, attributes)
            if form is not None:
                concerned.append((hook, *form))
        return concerned

    async def _current(self) -> tuple[Hook, ...]:
        cacher = self._registry.store.cacher
        if cacher.generation != self._generation:
            entries = await self._registry.every()  # what one that cannot be read would refuse must not pass
            generation = cacher.generation
            self._hooks = tuple(_hooks([self._registry.object(entry) for entry in entries]))
            self._generation = generation
        return self._hooks

    async def _concerned(self, hook: Hook, attributes: Attributes) -> tuple[Resource, str] | None:
        if not object_matches(hook.object_selector, attributes.object, attributes.old):
            return None
        form = self._form(hook, attributes)
        if form is None or not await self._in_namespace(hook, attributes):
            return None
        if hook.spec.get("matchConditions") and not await self._conditions_hold(hook, attributes, *form):
            return None
        return form

    async def _conditions_hold(self, hook: Hook, attributes: Attributes, resource: Resource, version: str) -> bool:
        """Raises 403 if that cannot be found out, and the webhook is one that must not be missed."""
        from tiphys.apiserver.admission.policies import matching
        from tiphys.apiserver.admission.policies.requests import Surroundings

        around = Surroundings(self._registries, self._authorizer)
        seen = matching.Seen(_kind_of(attributes, resource, version), version)
        given = await around.given(attributes, seen, None, None)
        holds, problem = await around.evaluate(hook.conditions.applies, given, attributes.user)
        if problem:
            raise errors.forbidden(attributes.group, attributes.plural, attributes.name, problem)
        return holds

    def _form(self, hook: Hook, attributes: Attributes) -> tuple[Resource, str] | None:
        """The first form of the request that a rule names: its own, or, if requested, an equivalent one."""
        own = (attributes.resource, attributes.version)
        if any(_matches(rule, attributes, *own) for rule in hook.spec.get("rules") or ()):
            return own
        if hook.spec.get("matchPolicy", "Equivalent") != "Equivalent":
            return None
        others = [form for form in self._equivalents(attributes.resource) if form != own]
        for rule in hook.spec.get("rules") or ():
            for form in others:
                if _matches(rule, attributes, *form):
                    return form
        return None

    def _equivalents(self, resource: Resource) -> list[tuple[Resource, str]]:
        """Every resource and version under which the same objects are served."""
        key = (resource.group, resource.plural)
        rows = [self._registries.scheme.resource(*other) for other in _EVENTS] if key in _EVENTS else [resource]
        return [(row, version) for row in rows if row is not None for version in row.versions]

    async def _in_namespace(self, hook: Hook, attributes: Attributes) -> bool:
        selector = hook.namespace_selector
        is_namespace = (attributes.group, attributes.plural) == ("", "namespaces")
        if selector.empty or (not attributes.namespace and not is_namespace):
            return True
        if is_namespace and not attributes.subresource and attributes.operation in (CREATE, UPDATE):
            return selector.matches(attributes.new()["metadata"].get("labels") or {})
        namespaces = self._registries.get("", "namespaces")
        name = attributes.namespace or attributes.name
        entry = await namespaces.store.cached("", name) or await namespaces.store.get("", name)
        if entry is None:
            raise errors.not_found("", "namespaces", name)
        return selector.matches(namespaces.object(entry)["metadata"].get("labels") or {})

    # -- asking

    async def ask(self, hook: Hook, resource: Resource, version: str, attributes: Attributes) -> ReviewVerdict | None:
        """What the webhook says; None if it cannot be asked, and that does not matter. Raises ``StatusError``."""
        if attributes.dry_run and hook.spec.get("sideEffects") not in _WITHOUT_SIDE_EFFECTS:
            raise errors.bad_request(f"admission webhook {quote(hook.name)} does not support dry run")
        try:
            return await self._asked(hook, await self._seen(attributes, resource, version), attributes)
        except InvalidAnswer as error:
            problem = f"received invalid webhook response: {error}"
        except CallFailed as error:
            problem = f"failed to call webhook: {error}"
        text = f"failed calling webhook {quote(hook.name)}: {problem}"
        if hook.spec.get("failurePolicy") == "Ignore":
            log.warning("%s; the request goes on, as its failurePolicy is Ignore", text)
            return None
        raise errors.internal(text)

    async def _asked(self, hook: Hook, seen: Seen, attributes: Attributes) -> ReviewVerdict:
        version = next((v for v in hook.spec.get("admissionReviewVersions") or () if v in VERSIONS), None)
        if version is None:
            raise CallFailed("webhook does not accept known AdmissionReview versions (v1, v1beta1)")
        uid = str(uuid.UUID(self._registries.ids.uid()))
        review = make_review(attributes, seen, uid, version)
        timeout = hook.spec.get("timeoutSeconds") or _TIMEOUT_SECONDS
        answer = await self._caller.call(hook.spec["clientConfig"], review, float(timeout))
        verdict = read_verdict(answer, uid, version, mutating=self._mutating)
        own_annotations(attributes, hook.name, verdict.annotations)
        for warning in verdict.warnings:
            attributes.warn(warning)
        return verdict

    async def patched(
        self, attributes: Attributes, hook: Hook, resource: Resource, version: str, verdict: ReviewVerdict
    ) -> bool:
        """Do what a webhook's patch says; whether that changed the object. Raises ``StatusError``."""
        if attributes.object is None:
            raise errors.internal(
                f"admission webhook {quote(hook.name)} attempted to modify the object,"
                " which is not supported for this operation"
            )
        seen = await self._seen(attributes, resource, version)
        try:
            changed = json_patch(seen.object, verdict.patch)
        except PatchError as error:
            raise errors.internal(str(error)) from None
        if not isinstance(changed, dict):
            raise errors.internal(f"the patch of admission webhook {quote(hook.name)} leaves no object")
        renewed = attributes.renew(await self._registries.converted(changed, seen.kind, attributes.kind))
        same = renewed == attributes.object
        attributes.object = renewed
        return not same

    async def _seen(self, attributes: Attributes, resource: Resource, version: str) -> Seen:
        kind = _kind_of(attributes, resource, version)

        async def shown(obj: Object | None) -> Object | None:
            return None if obj is None else await self._registries.converted(obj, attributes.kind, kind)

        place = (resource.group, version, resource.plural)
        return Seen(kind, place, await shown(attributes.object), await shown(attributes.old))


def _kind_of(attributes: Attributes, resource: Resource, version: str) -> GroupVersionKind:
    """A subresource such as scale has its own kind, whatever the resource is."""
    is_other_kind = attributes.kind.kind != attributes.resource.kind
    if is_other_kind or (resource, version) == (attributes.resource, attributes.version):
        return attributes.kind
    return resource.gvk(version)


def _matches(rule: Object, attributes: Attributes, resource: Resource, version: str) -> bool:
    return rule_matches(
        rule,
        attributes.operation,
        resource.group,
        version,
        resource.plural,
        attributes.subresource,
        attributes.namespace,
    )


def _hooks(configurations: list[Object]) -> Iterator[Hook]:
    """In the order of the configurations' names; within one, as they stand."""
    places = count()
    for configuration in sorted(configurations, key=lambda obj: str(obj["metadata"]["name"])):
        name = configuration["metadata"]["name"]
        for number, spec in enumerate(configuration.get("webhooks") or ()):
            yield Hook(name, spec, f"{name}/{spec['name']}/{number}", next(places))
