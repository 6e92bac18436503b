"""What expressions see of a request, and the ways to what they need besides: parameters, namespaces, the authorizer.

Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tiphys.api.meta.selectors import selector_from_object
from tiphys.api.object import Object
from tiphys.api.scheme import GroupVersionKind, Resource
from tiphys.apiserver.admission.attributes import Attributes
from tiphys.apiserver.admission.policies.expressions import Input, Unanswered
from tiphys.apiserver.admission.policies.matching import Seen
from tiphys.apiserver.admission.request import admission_request
from tiphys.apiserver.aside import patiently
from tiphys.apiserver.authz.authorizer import Access, Authorizer
from tiphys.apiserver.call import User
from tiphys.apiserver.registry.registries import Registries
from tiphys.cel.library.authorizer import Answer, Question
from tiphys.cel.patience import Patience

_Found = TypeVar("_Found")

_GROUP = "admissionregistration.k8s.io"
EXCLUDED = frozenset(
    (
        (_GROUP, "validatingadmissionpolicies"),
        (_GROUP, "validatingadmissionpolicybindings"),
        (_GROUP, "mutatingadmissionpolicies"),
        (_GROUP, "mutatingadmissionpolicybindings"),
        ("authentication.k8s.io", "selfsubjectreviews"),
        ("authentication.k8s.io", "tokenreviews"),
        ("authorization.k8s.io", "localsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
        ("authorization.k8s.io", "subjectaccessreviews"),
    )
)
"""What no policy is asked about: policies themselves, and the questions that authorization is made of."""


class ConfigurationError(Exception):
    """Policy and binding do not fit the request or each other."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    registries: Registries
    authorizer: Authorizer
    patience: Patience = field(default_factory=Patience)

    async def namespace(self, name: str) -> Object | None:
        return await self.registries.get("", "namespaces").shared("", name) if name else None

    async def params(
        self, kind: Mapping[str, Any] | None, resource: Resource | None, binding: Mapping[str, Any], namespace: str
    ) -> list[Any]:
        """The objects that a binding names; one None if the policy takes none. Raises ConfigurationError."""
        ref = binding.get("paramRef")
        if kind is None or resource is None or ref is None:
            return [None]
        if resource.namespaced:
            namespace = ref.get("namespace") or namespace
            if not namespace:
                message = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                raise ConfigurationError(message)
        elif ref.get("namespace"):
            raise ConfigurationError("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
        objs = await self._params(resource, ref, namespace if resource.namespaced else "")
        if not objs and ref.get("parameterNotFoundAction") == "Deny":
            raise ConfigurationError("no params found for policy binding with `Deny` parameterNotFoundAction")
        group, _, version = kind["apiVersion"].rpartition("/")
        target = GroupVersionKind(group, version, kind["kind"])
        return [await self.shown(obj, resource, target) for obj in objs]

    async def _params(self, resource: Resource, ref: Mapping[str, Any], namespace: str) -> list[Object]:
        registry = self.registries.get(resource.group, resource.plural)
        if ref.get("name"):
            param = await registry.shared(namespace, ref["name"])
            return [] if param is None else [param]
        selector = selector_from_object(ref.get("selector") or {})
        entries = await registry.all(namespace)
        return [registry.shared_object(entry) for entry in entries if selector.matches(entry.labels)]

    def param_resource(self, kind: Mapping[str, Any] | None) -> Resource | None:
        """The resource of the kind that a policy takes as parameters. Raises ConfigurationError."""
        if kind is None:
            return None
        group, _, version = kind["apiVersion"].rpartition("/")
        for resource in self.registries.scheme.resources():
            if resource.group == group and resource.kind == kind["kind"] and version in resource.versions:
                return resource
        shown = f"{kind['apiVersion']}, Kind={kind['kind']}"
        raise ConfigurationError(f"failed to find resource referenced by paramKind: '{shown}'")

    async def shown(self, obj: Object, resource: Resource, target: GroupVersionKind) -> Object:
        """The object in another of its versions."""
        known = resource.custom or resource.versions
        current = next((v for v in known if resource.gvk(v).api_version == obj.get("apiVersion")), None)
        if current is None or current == target.version:
            return obj
        return await self.registries.converted(obj, resource.gvk(current), target)

    async def given(self, attributes: Attributes, seen: Seen, params: Any, namespace: Object | None) -> Input:
        """What the expressions of a policy see of a request: objects in the policy's version, request, parameters."""
        objects = [
            obj if obj is None or attributes.subresource else await self.shown(obj, attributes.resource, seen.kind)
            for obj in (attributes.object, attributes.old)
        ]
        is_namespace = attributes.plural == "namespaces" and not attributes.group
        return Input(
            object=objects[0],
            old=objects[1],
            request={
                "uid": "",
                **admission_request(attributes, seen.kind, attributes.group, seen.version, attributes.plural),
            },
            namespace=None if namespace is None or is_namespace else _shown_namespace(namespace),
            params=params,
            resource=Question(
                group=attributes.group,
                resource=attributes.plural,
                subresource=attributes.subresource,
                namespace=attributes.namespace,
                name=attributes.name,
            ),
            answers={},
        )

    async def evaluate(self, evaluate: Callable[[Input], _Found], given: Input, user: User) -> _Found:
        """Evaluates; asks the authorizer what the expressions want to know, and evaluates again."""
        answers = dict(given.answers)
        given.answers = answers
        while True:
            try:
                return await patiently(self.patience, lambda: evaluate(given))
            except Unanswered as asked:
                answers[asked.question] = await self._ask(asked.question, user)

    async def _ask(self, question: Question, user: User) -> Answer:
        if question.as_account is not None:
            user = _account(*question.as_account)
        decision = await self.authorizer.authorize(
            Access(
                user=user,
                verb=question.verb,
                group=question.group,
                version="" if question.path else "*",
                resource=question.resource,
                subresource=question.subresource,
                namespace=question.namespace,
                name=question.name,
                path=question.path,
                field_selector=question.field_selector,
                is_resource=not question.path,
            )
        )
        return Answer(decision.allowed, decision.reason)


def _account(namespace: str, name: str) -> User:
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return User(f"system:serviceaccount:{namespace}:{name}", groups)


def _shown_namespace(namespace: Object) -> Object:
    """Only what expressions may see of a namespace."""
    meta = {key: value for key, value in namespace["metadata"].items() if key != "managedFields"}
    return {"metadata": meta, "spec": namespace.get("spec") or {}, "status": namespace.get("status") or {}}
