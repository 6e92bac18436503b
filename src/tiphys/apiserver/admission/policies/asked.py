"""Which policies a request concerns, by which of their bindings, with which parameters: the same for both kinds.

Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from tiphys.api.object import Object
from tiphys.apiserver.admission.attributes import Attributes
from tiphys.apiserver.admission.policies.matching import Seen, match
from tiphys.apiserver.admission.policies.requests import EXCLUDED, ConfigurationError, Surroundings
from tiphys.apiserver.registry.registry import Registry


class CompiledPolicy(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def spec(self) -> Object: ...

    @property
    def fails(self) -> bool:
        """Whether what goes wrong refuses the request."""
        ...


P = TypeVar("P", bound=CompiledPolicy)


@dataclass(frozen=True, slots=True)
class Invocation(Generic[P]):
    """A policy asked by one of its bindings, with one parameter."""

    policy: P
    binding: str
    spec: Object
    """The binding's."""
    seen: Seen
    param: Any


@dataclass(frozen=True, slots=True)
class Misconfigured(Generic[P]):
    """A policy that must not be missed cannot be asked; ``binding`` is empty if none of its bindings can."""

    policy: P
    binding: str
    message: str


class CompiledPolicies(Generic[P]):
    """The policies of one kind, each compiled once for each of its revisions, with their bindings."""

    def __init__(self, policies: Registry, bindings: Registry, compile: Callable[[dict[str, Any]], P]) -> None:
        self._policies, self._bindings, self._compile = policies, bindings, compile
        self._known: dict[str, tuple[int, P]] = {}

    async def about(
        self, attributes: Attributes, around: Surroundings, namespace: dict[str, Any] | None
    ) -> AsyncIterator[Invocation[P] | Misconfigured[P]]:
        """In the order of the policies' names, and of their bindings'."""
        if (attributes.group, attributes.plural) in EXCLUDED:
            return
        bindings: dict[str, list[Object]] = {}
        for entry in await self._bindings.every():
            binding = self._bindings.shared_object(entry)
            bindings.setdefault((binding.get("spec") or {}).get("policyName") or "", []).append(binding)
        for entry in await self._policies.every():
            policy = self._compiled(entry.name, entry.revision, self._policies.shared_object(entry))
            async for invocation in _of_policy(policy, bindings.get(entry.name, []), attributes, around, namespace):
                yield invocation

    def _compiled(self, name: str, revision: int, obj: dict[str, Any]) -> P:
        known = self._known.get(name)
        if known is None or known[0] != revision:
            known = self._known[name] = revision, self._compile(obj)
        return known[1]


async def _of_policy(
    policy: P,
    bindings: list[Object],
    attributes: Attributes,
    around: Surroundings,
    namespace: dict[str, Any] | None,
) -> AsyncIterator[Invocation[P] | Misconfigured[P]]:
    """The invocations of one policy: one for each binding that applies and each of its parameters."""
    labels = ((namespace or {}).get("metadata") or {}).get("labels") or {}
    seen = match(policy.spec.get("matchConstraints") or {}, attributes, labels)
    if seen is None:
        return
    kind = policy.spec.get("paramKind")
    try:
        resource = around.param_resource(kind)
    except ConfigurationError as wrong:
        # Whether a binding concerns the request is not asked any more.
        if policy.fails:
            yield Misconfigured(policy, "", f"failed to configure policy: {wrong}")
        return
    for binding in bindings:
        spec, name = binding.get("spec") or {}, binding["metadata"]["name"]
        wanted = spec.get("matchResources")
        if wanted is not None and match(wanted, attributes, labels) is None:
            continue
        try:
            params = await around.params(kind, resource, spec, attributes.namespace)
        except ConfigurationError as wrong:
            if policy.fails:
                yield Misconfigured(policy, name, f"failed to configure binding: {wrong}")
            continue
        for param in params:
            yield Invocation(policy, name, spec, seen, param)
