"""Acting as somebody else: the modes in which that may be allowed, and what each of them asks the authorizer.

Constrained impersonation (KEP-5284) asks two things: may the caller do this request in the name of somebody of that
sort (``impersonate-on:user-info:list``), and may they be this very user (``impersonate:user-info``). The old way asks
only whether they may ``impersonate`` each part of the user. Modes are tried in order; the first that allows counts,
and if none does the first refusal is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tiphys.api.fielderrors import aggregate
from tiphys.api.gotext import quote
from tiphys.api.meta.names import dns1123_subdomain
from tiphys.apiserver.authn.authenticator import AUTHENTICATED, UNAUTHENTICATED
from tiphys.apiserver.authn.serviceaccounts import NODE_NAME, PREFIX, split_name
from tiphys.apiserver.authz.authorizer import MASTERS, Access, Authorizer, Decision, Verdict
from tiphys.apiserver.call import ANONYMOUS, User
from tiphys.validation.shared.common import Errors, domain_prefixed_path

NODE_PREFIX = "system:node:"
_NODES = "system:nodes"
_NODE_KEYS = "authentication.kubernetes.io/associated-node-keys"
_AUTHENTICATION = "authentication.k8s.io"
_MANY = 4
"""From so many groups or values on it is asked first whether all are allowed."""

Refusal = tuple[Access, Decision]


@dataclass(frozen=True, slots=True)
class Mode:
    """``applies`` says whether the mode is for this wanted user and this caller. The old way has no name."""

    name: str
    applies: Callable[[User, User], bool]

    @property
    def verb(self) -> str:
        return f"impersonate:{self.name}" if self.name else "impersonate"

    @property
    def group(self) -> str:
        """The API group of users and groups, as these questions name it."""
        return _AUTHENTICATION if self.name else ""


def node_name(username: str) -> str:
    """The node whose user this is; empty for others."""
    name = username.removeprefix(NODE_PREFIX) if username.startswith(NODE_PREFIX) else ""
    return name if name and not dns1123_subdomain(name) else ""


def _bare(wanted: User) -> bool:
    return not (wanted.uid or wanted.groups or wanted.extra)


def _own_node(wanted: User, caller: User) -> bool:
    values = caller.extra_values(NODE_NAME)
    name = node_name(wanted.name)
    return bool(name) and _bare(wanted) and split_name(caller.name) is not None and values == (name,)


MODES = (
    Mode("associated-node", _own_node),
    Mode("arbitrary-node", lambda wanted, caller: _bare(wanted) and bool(node_name(wanted.name))),
    Mode("serviceaccount", lambda wanted, caller: _bare(wanted) and split_name(wanted.name) is not None),
    Mode("user-info", lambda wanted, caller: not node_name(wanted.name) and split_name(wanted.name) is None),
    Mode("", lambda wanted, caller: True),
)


async def refusal(authorizer: Authorizer, mode: Mode, wanted: User, request: Access) -> Refusal | None:
    """Why the caller of ``request`` may not do it as ``wanted`` in this mode; None if they may."""
    if mode.name == "associated-node":
        request = request._replace(user=_without_place(request.user))
    if mode.name:
        on = request._replace(verb=f"impersonate-on:{mode.name}:{request.verb}")
        if refused := await _ask(authorizer, on):
            return refused
    for question in (_who(mode, wanted, request.user), *_uid(mode, wanted, request.user)):
        if refused := await _ask(authorizer, question):
            return refused
    return await _groups(authorizer, mode, wanted, request.user) or await _extra(authorizer, mode, wanted, request.user)


async def _ask(authorizer: Authorizer, access: Access) -> Refusal | None:
    decision = await authorizer.authorize(access)
    return None if decision.allowed else (access, decision)


def _without_place(caller: User) -> User:
    """An agent is judged alike on every node: what says where it runs is left out."""
    return replace(caller, extra=((_NODE_KEYS, tuple(sorted(key for key, _ in caller.extra))),))


def _who(mode: Mode, wanted: User, caller: User) -> Access:
    account = split_name(wanted.name)
    access = Access(caller, mode.verb, mode.group, "v1", "users", name=wanted.name)
    if account is not None:
        return access._replace(resource="serviceaccounts", namespace=account[0], name=account[1])
    if mode.name and (node := node_name(wanted.name)):
        return access._replace(resource="nodes", name="*" if mode.name == "associated-node" else node)
    return access


def _uid(mode: Mode, wanted: User, caller: User) -> Iterator[Access]:
    if wanted.uid:
        yield Access(caller, mode.verb, _AUTHENTICATION, "v1", "uids", name=wanted.uid)


async def _groups(authorizer: Authorizer, mode: Mode, wanted: User, caller: User) -> Refusal | None:
    access = Access(caller, mode.verb, mode.group, "v1", "groups")
    if mode.name:
        if "" in wanted.groups:
            return access, _no("impersonating the empty string group is not allowed")
        if MASTERS in wanted.groups:
            text = f"impersonating the {MASTERS} group is not allowed"
            return access._replace(name=MASTERS), _no(text)
        if len(wanted.groups) >= _MANY and not await _ask(authorizer, access._replace(name="*")):
            return None
    for group in wanted.groups:
        if refused := await _ask(authorizer, access._replace(name=group)):
            return refused
    return None


async def _extra(authorizer: Authorizer, mode: Mode, wanted: User, caller: User) -> Refusal | None:
    access = Access(caller, mode.verb, _AUTHENTICATION, "v1", "userextras")
    if mode.name:
        if problem := _extra_problem(wanted):
            return access, _no(problem)
        many = max(len(wanted.extra), sum(len(values) for _, values in wanted.extra)) >= _MANY
        if many and not await _ask(authorizer, access._replace(subresource="*", name="*")):
            return None
    for key, values in wanted.extra:
        for value in values:
            if refused := await _ask(authorizer, access._replace(subresource=key, name=value)):
                return refused
    return None


def _extra_problem(wanted: User) -> str:
    for key, values in wanted.extra:
        errs: Errors = []
        domain_prefixed_path(errs, key, "extra.key")
        if not key:
            return "impersonating the empty string key in extra is not allowed"
        if errs:
            return f"impersonating an invalid key in extra is not allowed: {aggregate(errs)}"
        if key != key.lower():
            return f"impersonating a non-lowercase key in extra is not allowed: {quote(key)}"
        if "" in values:
            return "impersonating the empty string value in extra is not allowed"
    return ""


def _no(reason: str) -> Decision:
    return Decision(Verdict.DENY, reason)


def complete(mode: Mode, wanted: User) -> User:
    """The user with the groups that everybody of this kind is in."""
    groups = wanted.groups
    if mode.name and node_name(wanted.name):
        groups = (_NODES,)
    account = split_name(wanted.name)
    if account is not None and not groups:
        groups = (PREFIX.rstrip(":") + "s", f"system:serviceaccounts:{account[0]}")
    if wanted.name == ANONYMOUS.name:
        everybody = UNAUTHENTICATED
    else:
        everybody = UNAUTHENTICATED if UNAUTHENTICATED in groups else AUTHENTICATED
    return replace(wanted, groups=groups if everybody in groups else (*groups, everybody))
