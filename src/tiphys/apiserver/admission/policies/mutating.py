"""The admission plugin that lets MutatingAdmissionPolicies change what is written, each by its bindings.

All policies see the object once, in the order of their names; those that want to see it again when it was changed do so
once more, at the end.
Source: https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiphys.api import codec, errors
from tiphys.api.defaults import apply_defaults
from tiphys.api.schema import Schema, schema_for
from tiphys.api.scheme import Resource
from tiphys.apiserver.admission.attributes import CONNECT, CREATE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid
from tiphys.apiserver.authz.authorizer import Authorizer
from tiphys.apiserver.registry.registries import Registries

if TYPE_CHECKING:
    from tiphys.apiserver.admission.policies.asked import CompiledPolicies, Invocation, Misconfigured
    from tiphys.apiserver.admission.policies.matching import Seen
    from tiphys.apiserver.admission.policies.mutation import MutatingPolicy, Mutation
    from tiphys.apiserver.admission.policies.requests import Surroundings


_GROUP = "admissionregistration.k8s.io"


@dataclass(frozen=True, slots=True)
class _Failure:
    message: str
    reason: str = ""


class MutatingAdmissionPolicy(Plugin):
    operations = frozenset((CREATE, UPDATE, CONNECT))
    subresources = None

    def __init__(self, registries: Registries, authorizer: Authorizer) -> None:
        self._registries, self._authorizer = registries, authorizer
        self._policies = registries.get(_GROUP, "mutatingadmissionpolicies")
        self._compiled: CompiledPolicies[MutatingPolicy] | None = None

    async def admit(self, attributes: Attributes) -> None:
        """Let the bound policies change the object, once, and again those that request it. Raises ``StatusError``."""
        if not await self._policies.every() or attributes.object is None:
            return
        from tiphys.apiserver.admission.policies.asked import Misconfigured
        from tiphys.apiserver.admission.policies.requests import Surroundings

        around = Surroundings(self._registries, self._authorizer)
        namespace = await around.namespace(attributes.namespace)
        failures = list[_Failure]()
        invocations: list[Invocation[MutatingPolicy]] = []
        async for asked in self._all().about(attributes, around, namespace):
            if isinstance(asked, Misconfigured):
                failures.append(_Failure(_misconfigured(asked)))
            else:
                invocations.append(asked)
        again: list[Invocation[MutatingPolicy]] = []
        for invocation in invocations:
            ran = await self._invoke(attributes, around, invocation, namespace, failures)
            if ran and invocation.policy.again:
                again.append(invocation)
        for invocation in again:
            await self._invoke(attributes, around, invocation, namespace, failures)
        if failures:
            self._refuse(attributes, failures)

    def _all(self) -> CompiledPolicies[MutatingPolicy]:
        """Made with the first policy, as what compiles expressions is not imported before."""
        from tiphys.apiserver.admission.policies.asked import CompiledPolicies
        from tiphys.apiserver.admission.policies.mutation import MutatingPolicy

        if self._compiled is None:
            bindings = self._registries.get(_GROUP, "mutatingadmissionpolicybindings")
            self._compiled = CompiledPolicies(self._policies, bindings, MutatingPolicy)
        return self._compiled

    async def _invoke(
        self,
        attributes: Attributes,
        around: Surroundings,
        invocation: Invocation[MutatingPolicy],
        namespace: dict[str, Any] | None,
        failures: list[_Failure],
    ) -> bool:
        """Whether the policy had something to say."""
        from tiphys.apiserver.admission.policies.mutation import MutationError

        policy, seen = invocation.policy, invocation.seen
        given = await around.given(attributes, seen, invocation.param, namespace)
        applies, problem = await around.evaluate(policy.expressions.applies, given, attributes.user)
        if problem and policy.fails:
            failures.append(_Failure(_denied(policy, invocation.binding, problem), "Invalid"))
        if not applies:
            return False
        schema = _schema(attributes.resource, seen)
        for mutation in policy.mutations:
            given = await around.given(attributes, seen, invocation.param, namespace)
            try:
                patched = await self._patched(around, mutation, given, schema, attributes)
            except MutationError as wrong:
                if policy.fails:
                    failures.append(_Failure(_denied(policy, invocation.binding, str(wrong)), "Invalid"))
                continue
            if patched is not given.object:
                settled = _settled(patched, attributes, seen, schema)
                attributes.object = await around.shown(settled, attributes.resource, attributes.kind)
        return True

    @staticmethod
    async def _patched(
        around: Surroundings, mutation: Mutation, given: Any, schema: Schema, attributes: Attributes
    ) -> dict[str, Any]:
        return await around.evaluate(lambda evaluator: mutation.apply(evaluator, schema), given, attributes.user)

    @staticmethod
    def _refuse(attributes: Attributes, failures: list[_Failure]) -> None:
        refusal = forbid(attributes, "admission request denied by policy")
        refusal.status["message"] = failures[0].message
        if failures[0].reason:
            refusal.status["reason"] = failures[0].reason
        causes = refusal.status["details"].setdefault("causes", [])
        causes += [{"message": failure.message} for failure in failures]
        raise refusal


def _misconfigured(asked: Misconfigured[MutatingPolicy]) -> str:
    if asked.binding:
        return _denied(asked.policy, asked.binding, asked.message)
    return f'policy "{asked.policy.name}" denied request: {asked.message}'


def _denied(policy: MutatingPolicy, binding: str, message: str) -> str:
    return f"policy '{policy.name}' with binding '{binding}' denied request: {message}"


def _schema(resource: Resource, seen: Seen) -> Schema:
    return schema_for(seen.kind) if resource.builtin else resource.custom[seen.version].tree


def _settled(patched: dict[str, Any], attributes: Attributes, seen: Seen, schema: Schema) -> dict[str, Any]:
    """The patched object as if it had been sent so: read again, with defaults."""
    if not attributes.resource.builtin:
        return patched
    body = codec.encode(patched)
    try:
        obj = codec.decode(body, "application/json", seen.kind, schema, "Strict").object
    except errors.StatusError as wrong:
        # Nobody sent it: the error is reported without the words for a body.
        message = wrong.message.partition(f" cannot be handled as a {seen.kind.kind}: ")[2]
        raise errors.internal(message or wrong.message) from None
    apply_defaults(obj, seen.kind)
    return codec.complete(obj, schema)
