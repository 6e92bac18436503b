"""``Impersonate-User`` and its companions: who may act as somebody else does so from here on.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote

from tiphys.api import errors
from tiphys.apiserver.authn.authenticator import AUTHENTICATED, UNAUTHENTICATED
from tiphys.apiserver.authn.serviceaccounts import PREFIX
from tiphys.apiserver.authz.authorizer import Access, Authorizer
from tiphys.apiserver.call import ANONYMOUS, Call, Endpoint, Filter, User
from tiphys.apiserver.filters.authorization import refuse
from tiphys.wire.http import Headers, Response

_USER, _GROUP, _UID, _EXTRA = "impersonate-user", "impersonate-group", "impersonate-uid", "impersonate-extra-"
_AUTHENTICATION = "authentication.k8s.io"


def impersonate(authorizer: Authorizer) -> Filter:
    async def filter(call: Call, proceed: Endpoint) -> Response:
        headers = call.request.headers
        if _USER not in headers and not any(name.startswith("impersonate-") for name in headers):
            return await proceed(call)
        wanted = wanted_user(headers)
        for access in _questions(call.user, wanted):
            decision = await authorizer.authorize(access)
            if not decision.allowed:
                raise refuse(access, decision)
        call.impersonator, call.user = call.user, complete(wanted)
        for name in [name for name in headers if name.startswith("impersonate-")]:
            del headers[name]
        return await proceed(call)

    return filter


def wanted_user(headers: Headers) -> User:
    """Whom the caller wants to be. Raises 500 as upstream does where the user is missing."""
    name = headers.get(_USER, "")
    if not name:
        raise errors.internal("requested impersonation without impersonating a user")
    groups = tuple(part.strip() for part in headers.get(_GROUP, "").split(",") if part.strip())
    extra = tuple(
        (unquote(key[len(_EXTRA) :]).lower(), tuple(part.strip() for part in value.split(",")))
        for key, value in sorted(headers.items())
        if key.startswith(_EXTRA)
    )
    return User(name, groups, headers.get(_UID, ""), extra)


def _questions(user: User, wanted: User) -> Iterator[Access]:
    namespace, _, account = wanted.name.removeprefix(PREFIX).partition(":")
    if wanted.name.startswith(PREFIX) and account:
        yield Access(user, "impersonate", "", "v1", "serviceaccounts", namespace=namespace, name=account)
    else:
        yield Access(user, "impersonate", "", "v1", "users", name=wanted.name)
    for group in wanted.groups:
        yield Access(user, "impersonate", "", "v1", "groups", name=group)
    if wanted.uid:
        yield Access(user, "impersonate", _AUTHENTICATION, "v1", "uids", name=wanted.uid)
    for key, values in wanted.extra:
        for value in values:
            yield Access(user, "impersonate", _AUTHENTICATION, "v1", "userextras", key, name=value)


def complete(user: User) -> User:
    """Add the groups that everybody of this kind is in."""
    groups = user.groups
    if user.name.startswith(PREFIX) and not groups:
        namespace = user.name[len(PREFIX) :].partition(":")[0]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    everybody = UNAUTHENTICATED if user.name == ANONYMOUS.name else AUTHENTICATED
    if AUTHENTICATED not in groups and UNAUTHENTICATED not in groups:
        groups = (*groups, everybody)
    return User(user.name, groups, user.uid, user.extra)
