"""Asking the server's authorizer: ``authorizer.group('apps').resource('deployments').check('create').allowed()``.

Source: https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-cel-libraries
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tiphys.api.meta import names
from tiphys.cel.checking import declarations
from tiphys.cel.checking.declarations import Library, member
from tiphys.cel.types import Type
from tiphys.cel.values import NO_OVERLOAD, CelError


@dataclass(frozen=True, slots=True)
class Question:
    """What may be done: to a resource, or to a path if ``path`` is set; by another one if ``as_account`` is."""

    verb: str = ""
    path: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    field_selector: str = ""
    label_selector: str = ""
    as_account: tuple[str, str] | None = None
    """Namespace and name of a service account that is asked about in place of the user."""


@dataclass(frozen=True, slots=True)
class Answer:
    allowed: bool
    reason: str = ""
    error: str = ""


Ask = Callable[[Question], Answer]


@dataclass(frozen=True, slots=True)
class _Asking:
    ask: Ask
    question: Question

    def equals(self, other: Any) -> bool:
        raise CelError(NO_OVERLOAD)


class AuthorizerValue(_Asking):
    cel_type: ClassVar[Type] = declarations.AUTHORIZER


class PathCheck(_Asking):
    cel_type: ClassVar[Type] = declarations.PATH_CHECK


class GroupCheck(_Asking):
    cel_type: ClassVar[Type] = declarations.GROUP_CHECK


class ResourceCheck(_Asking):
    cel_type: ClassVar[Type] = declarations.RESOURCE_CHECK


@dataclass(frozen=True, slots=True)
class DecisionValue:
    cel_type: ClassVar[Type] = declarations.DECISION

    answer: Answer

    def equals(self, other: Any) -> bool:
        raise CelError(NO_OVERLOAD)


def _path(authorizer: AuthorizerValue, path: str) -> PathCheck:
    if not path.strip():
        raise CelError("path must not be empty")
    return PathCheck(authorizer.ask, replace(authorizer.question, path=path))


def _group(authorizer: AuthorizerValue, group: str) -> GroupCheck:
    return GroupCheck(authorizer.ask, replace(authorizer.question, group=group))


def _service_account(authorizer: AuthorizerValue, namespace: str, name: str) -> AuthorizerValue:
    if names.dns1123_subdomain(name):
        raise CelError("Invalid service account name")
    if names.dns1123_label(namespace):
        raise CelError("Invalid service account namespace")
    return AuthorizerValue(authorizer.ask, Question(as_account=(namespace, name)))


def _resource(check: GroupCheck, resource: str) -> ResourceCheck:
    if not resource.strip():
        raise CelError("resource must not be empty")
    return ResourceCheck(check.ask, replace(check.question, resource=resource))


def _with(narrow: Callable[[Question, str], Question]) -> Callable[[ResourceCheck, str], ResourceCheck]:
    def run(check: ResourceCheck, value: str) -> ResourceCheck:
        return ResourceCheck(check.ask, narrow(check.question, value))

    return run


def _check(check: PathCheck | ResourceCheck, verb: str) -> DecisionValue:
    return DecisionValue(check.ask(replace(check.question, verb=verb)))


_NARROWED = "resourceCheck, string -> resourceCheck"
LIBRARY = Library(
    [
        member("authorizer_path", "path", "authorizer, string -> pathCheck", _path),
        member("authorizer_group", "group", "authorizer, string -> groupCheck", _group),
        member(
            "authorizer_serviceaccount", "serviceAccount", "authorizer, string, string -> authorizer", _service_account
        ),
        member("groupcheck_resource", "resource", "groupCheck, string -> resourceCheck", _resource),
        member(
            "resourcecheck_subresource",
            "subresource",
            _NARROWED,
            _with(lambda asked, value: replace(asked, subresource=value)),
        ),
        member(
            "resourcecheck_namespace",
            "namespace",
            _NARROWED,
            _with(lambda asked, value: replace(asked, namespace=value)),
        ),
        member("resourcecheck_name", "name", _NARROWED, _with(lambda asked, value: replace(asked, name=value))),
        member("pathcheck_check", "check", "pathCheck, string -> decision", _check),
        member("resourcecheck_check", "check", "resourceCheck, string -> decision", _check),
        member("decision_errored", "errored", "decision -> bool", lambda decision: bool(decision.answer.error)),
        member("decision_error", "error", "decision -> string", lambda decision: decision.answer.error),
        member("decision_allowed", "allowed", "decision -> bool", lambda decision: decision.answer.allowed),
        member("decision_reason", "reason", "decision -> string", lambda decision: decision.answer.reason),
        member(
            "authorizer_fieldselector",
            "fieldSelector",
            _NARROWED,
            _with(lambda asked, value: replace(asked, field_selector=value)),
        ),
        member(
            "authorizer_labelselector",
            "labelSelector",
            _NARROWED,
            _with(lambda asked, value: replace(asked, label_selector=value)),
        ),
    ]
)
