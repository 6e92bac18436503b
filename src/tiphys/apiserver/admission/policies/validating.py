"""The admission plugin that asks ValidatingAdmissionPolicies, each by its bindings.

Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiphys.api.gotext import json_text
from tiphys.api.object import Object
from tiphys.apiserver.admission.attributes import CONNECT, CREATE, DELETE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid
from tiphys.apiserver.authz.authorizer import Authorizer
from tiphys.apiserver.registry.registries import Registries

if TYPE_CHECKING:
    from tiphys.apiserver.admission.policies.asked import CompiledPolicies
    from tiphys.apiserver.admission.policies.validation import Denial, ValidatingPolicy


_GROUP = "admissionregistration.k8s.io"
_CODES = {"Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413}


_FAILURE = "validation.policy.admission.k8s.io/validation_failure"


def _failure(policy: str, binding: str, actions: Sequence[str], denial: Denial) -> str:
    """What the audit log says of a validation that failed."""
    failure = {
        "message": denial.message,
        "policy": policy,
        "binding": binding,
        "expressionIndex": denial.index,
        "validationActions": list(actions),
    }
    return json_text([failure])


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
        self._compiled: CompiledPolicies[ValidatingPolicy] | None = None

    async def validate(self, attributes: Attributes) -> None:
        """Judge the request by each bound policy. Raises ``StatusError`` for the first denial."""
        if not await self._policies.every():
            return
        from tiphys.apiserver.admission.policies.asked import Misconfigured
        from tiphys.apiserver.admission.policies.requests import Surroundings
        from tiphys.apiserver.admission.policies.validation import Denial

        around = Surroundings(self._registries, self._authorizer)
        namespace = await around.namespace(attributes.namespace)
        denied = list[_Denied]()
        annotations: dict[str, dict[str, None]] = {}  # bindings may differ in what they say: each value once, in order
        async for asked in self._all().about(attributes, around, namespace):
            name = asked.policy.name
            if isinstance(asked, Misconfigured):
                denied.append(_Denied(name, asked.binding, Denial(asked.message)))
                continue
            given = await around.given(attributes, asked.seen, asked.param, namespace)
            judgement = await around.evaluate(asked.policy.judge, given, attributes.user)
            denied += self._act(attributes, name, asked.binding, asked.spec, judgement.denials)
            for key, value in judgement.annotations.items():
                annotations.setdefault(f"{name}/{key}", {})[value] = None
        for key, values in annotations.items():
            attributes.annotate(key, ", ".join(values))
        if denied:
            self._refuse(attributes, denied[0])

    def _all(self) -> CompiledPolicies[ValidatingPolicy]:
        """Made with the first policy, as what compiles expressions is not imported before."""
        from tiphys.apiserver.admission.policies.asked import CompiledPolicies
        from tiphys.apiserver.admission.policies.validation import ValidatingPolicy

        if self._compiled is None:
            bindings = self._registries.get(_GROUP, "validatingadmissionpolicybindings")
            self._compiled = CompiledPolicies(self._policies, bindings, ValidatingPolicy)
        return self._compiled

    @staticmethod
    def _act(attributes: Attributes, policy: str, binding: str, spec: Object, denials: list[Denial]) -> list[_Denied]:
        """What the binding wants done: refuse, or only warn."""
        actions = spec.get("validationActions") or ()
        denied = list[_Denied]()
        for denial in denials:
            if denial.always or "Deny" in actions:
                denied.append(_Denied(policy, binding, denial))
            if "Audit" in actions and not denial.always:
                attributes.annotate(_FAILURE, _failure(policy, binding, actions, denial))
            if "Warn" in actions and not denial.always:
                message = f"Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}'"
                attributes.warn(f"{message}: {denial.message}")
        return denied

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
