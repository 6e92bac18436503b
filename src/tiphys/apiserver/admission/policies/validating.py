"""The admission plugin that asks ValidatingAdmissionPolicies, each by its bindings.

Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiphys.apiserver.admission.attributes import CONNECT, CREATE, DELETE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid
from tiphys.apiserver.authz.authorizer import Authorizer
from tiphys.apiserver.registry.registries import Registries

if TYPE_CHECKING:
    from tiphys.apiserver.admission.policies.validation import Denial, ValidatingPolicy

Object = Mapping[str, Any]

_GROUP = "admissionregistration.k8s.io"
_CODES = {"Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413}


@dataclass(frozen=True, slots=True)
class _Denied:
    policy: str
    binding: str
    denial: Denial


class ValidatingAdmissionPolicy(Plugin):
    operations = frozenset((CREATE, UPDATE, DELETE, CONNECT))
    subresources = None

    def __init__(self, registries: Registries, authorizer: Authorizer) -> None:
        self._registries, self._authorizer = registries, authorizer
        self._policies = registries.get(_GROUP, "validatingadmissionpolicies")
        self._bindings = registries.get(_GROUP, "validatingadmissionpolicybindings")
        self._compiled: dict[str, tuple[int, ValidatingPolicy]] = {}

    async def validate(self, attributes: Attributes) -> None:
        policies = await self._policies.all()
        if not policies:
            return
        from tiphys.apiserver.admission.policies.requests import EXCLUDED

        if (attributes.group, attributes.plural) in EXCLUDED:
            return
        bindings: dict[str, list[Object]] = {}
        for entry in await self._bindings.all():
            binding = self._bindings.shared_object(entry)
            bindings.setdefault((binding.get("spec") or {}).get("policyName") or "", []).append(binding)
        denied = list[_Denied]()
        for entry in policies:
            policy = self._compile(entry.name, entry.revision, self._policies.shared_object(entry))
            denied += await self._ask(attributes, policy, bindings.get(entry.name, []))
        if denied:
            self._refuse(attributes, denied[0])

    def _compile(self, name: str, revision: int, obj: Object) -> ValidatingPolicy:
        from tiphys.apiserver.admission.policies.validation import ValidatingPolicy

        known = self._compiled.get(name)
        if known is None or known[0] != revision:
            known = self._compiled[name] = revision, ValidatingPolicy(obj)
        return known[1]

    async def _ask(self, attributes: Attributes, policy: ValidatingPolicy, bindings: list[Object]) -> list[_Denied]:
        from tiphys.apiserver.admission.policies.matching import match
        from tiphys.apiserver.admission.policies.requests import ConfigurationError, Surroundings
        from tiphys.apiserver.admission.policies.validation import Denial

        around = Surroundings(self._registries, self._authorizer)
        namespace = await around.namespace(attributes.namespace)
        labels = ((namespace or {}).get("metadata") or {}).get("labels") or {}
        seen = match(policy.spec.get("matchConstraints") or {}, attributes, labels)
        if seen is None:
            return []
        kind = policy.spec.get("paramKind")
        try:
            resource = around.param_resource(kind)
        except ConfigurationError as wrong:
            # Whether a binding concerns the request is not asked any more.
            denial = Denial(f"failed to configure policy: {wrong}")
            return [_Denied(policy.name, "", denial)] if policy.fails else []
        found = list[_Denied]()
        for binding in bindings:
            spec, name = binding.get("spec") or {}, binding["metadata"]["name"]
            wanted = spec.get("matchResources")
            if wanted is not None and match(wanted, attributes, labels) is None:
                continue
            try:
                params = await around.params(kind, resource, spec, attributes.namespace)
            except ConfigurationError as wrong:
                if policy.fails:
                    found.append(_Denied(policy.name, name, Denial(f"failed to configure binding: {wrong}")))
                continue
            for param in params:
                given = await around.given(attributes, seen, param, namespace)
                denials = await around.evaluate(policy.denials, given, attributes.user)
                found += self._act(attributes, policy.name, name, spec, denials)
        return found

    @staticmethod
    def _act(attributes: Attributes, policy: str, binding: str, spec: Object, denials: list[Denial]) -> list[_Denied]:
        """What the binding wants done: refuse, or only warn."""
        actions = spec.get("validationActions") or ()
        found = list[_Denied]()
        for denial in denials:
            if denial.always or "Deny" in actions:
                found.append(_Denied(policy, binding, denial))
            if "Warn" in actions and not denial.always:
                told = f"Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}'"
                attributes.warn(f"{told}: {denial.message}")
        return found

    @staticmethod
    def _refuse(attributes: Attributes, denied: _Denied) -> None:
        bound = f" with binding '{denied.binding}'" if denied.binding else ""
        message = f"ValidatingAdmissionPolicy '{denied.policy}'{bound} denied request: {denied.denial.message}"
        refusal = forbid(attributes, message)
        reason = denied.denial.reason or "Invalid"
        refusal.status["reason"] = reason
        refusal.status["code"] = _CODES.get(reason, 422)
        refusal.status["details"].setdefault("causes", []).append({"message": message})
        raise refusal
