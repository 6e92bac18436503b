"""The seam of authorization: a question (``Access``), an answer (``Decision``), and several authorizers in a row.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from tiphys.api import errors
from tiphys.api.fielderrors import aggregate
from tiphys.api.object import Object
from tiphys.apiserver.call import User
from tiphys.apiserver.requestinfo import RequestInfo

MASTERS = "system:masters"


class Access(NamedTuple):
    """May ``user`` do ``verb``? About a resource, which a review may leave empty, or about a ``path``."""

    user: User
    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    field_selector: str = ""
    label_selector: str = ""
    is_resource: bool = True

    @property
    def is_read_only(self) -> bool:
        return self.verb in ("get", "list", "watch")

    @property
    def size(self) -> int:
        """Characters of what the caller can choose."""
        texts = (self.namespace, self.verb, self.group, self.version, self.resource, self.subresource)
        return sum(map(len, (*texts, self.name, self.path, self.field_selector, self.label_selector)))

    @property
    def full_resource(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def access_of(user: User, info: RequestInfo) -> Access:
    """The question whether a request is allowed."""
    if not info.is_resource:
        return Access(user, info.verb, path=info.path, is_resource=False)
    # In the order of its fields: each request makes one.
    return Access(user, info.verb, info.group, info.version, info.resource, info.subresource, info.namespace,
                  info.name, "", info.field_selector, info.label_selector)  # fmt: skip


class Verdict(Enum):
    ALLOW = "allow"
    DENY = "deny"
    NO_OPINION = "no opinion"


_ALLOW, _NO_OPINION = Verdict.ALLOW, Verdict.NO_OPINION


@dataclass(frozen=True, slots=True)
class Decision:
    """``error``: what went wrong on the way; a request that is not allowed then fails in place of being forbidden."""

    verdict: Verdict
    reason: str = ""
    error: str = ""

    @property
    def allowed(self) -> bool:
        return self.verdict is _ALLOW


ALLOWED = Decision(Verdict.ALLOW)
NO_OPINION = Decision(Verdict.NO_OPINION)


def refuse(access: Access, decision: Decision) -> errors.StatusError:
    """A request that was not allowed, as an error."""
    return errors.not_authorized(
        access.user.name,
        access.verb,
        path=access.path,
        group=access.group,
        resource=access.resource,
        subresource=access.subresource,
        namespace=access.namespace,
        name=access.name,
        reason=decision.reason,
    )


class Authorizer(Protocol):
    async def authorize(self, access: Access) -> Decision: ...


class UserRules(NamedTuple):
    """What a user may do in a namespace, as RBAC rules. ``error`` says what could not be found out; ``incomplete``:
    the user may have more rights than these."""

    rules: list[Object]
    error: str = ""
    incomplete: bool = False


class RuleSource(Protocol):
    """An authorizer that can say what a user may do, beside answering questions."""

    async def authorize(self, access: Access) -> Decision: ...

    async def rules_of(self, user: User, namespace: str) -> UserRules: ...


EVERYTHING: list[Object] = [
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
]


class Masters:
    """Members of ``system:masters`` may do everything."""

    async def authorize(self, access: Access) -> Decision:
        return ALLOWED if MASTERS in access.user.groups else NO_OPINION


class AlwaysAllow:
    """Everybody may do everything."""

    async def authorize(self, access: Access) -> Decision:
        return ALLOWED

    async def rules_of(self, user: User, namespace: str) -> UserRules:
        return UserRules(EVERYTHING)


class AlwaysDeny:
    """Nobody may do anything."""

    async def authorize(self, access: Access) -> Decision:
        return Decision(Verdict.NO_OPINION, "Everything is forbidden.")

    async def rules_of(self, user: User, namespace: str) -> UserRules:
        return UserRules([])


class Union:
    """Asks in order; the first that has an opinion decides. Without one the answer is no, with all reasons."""

    def __init__(self, authorizers: Sequence[Authorizer]) -> None:
        self._authorizers = tuple(authorizers)

    async def authorize(self, access: Access) -> Decision:
        reasons: list[str] = []
        problems: list[str] = []
        for authorizer in self._authorizers:
            decision = await authorizer.authorize(access)
            if decision.verdict is not _NO_OPINION:
                return decision
            if decision.reason:
                reasons.append(decision.reason)
            if decision.error:
                problems.append(decision.error)
        return Decision(Verdict.NO_OPINION, "\n".join(reasons), aggregate(problems) if problems else "")
