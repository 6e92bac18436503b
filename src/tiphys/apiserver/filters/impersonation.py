"""``Impersonate-User`` and its companions: who may act as somebody else does so from here on.

Source: https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/ and KEP-5284
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

from tiphys.api import errors
from tiphys.api.gotext import quote
from tiphys.apiserver.authz.authorizer import Authorizer, access_of, refuse
from tiphys.apiserver.authz.impersonation import MODES, Mode, Refusal, complete, refusal
from tiphys.apiserver.call import Call, Endpoint, Filter, User
from tiphys.wire.http import Headers, Response

_USER, _GROUP, _UID, _EXTRA = "impersonate-user", "impersonate-group", "impersonate-uid", "impersonate-extra-"
_MAX_REMEMBERED = 10_000


def impersonate(authorizer: Authorizer) -> Filter:
    """The filter that replaces the caller by the user it impersonates. Raises 403 if it may not."""
    remembered: dict[str, Mode] = {}
    """By caller, the mode that was right last time, which is tried first."""

    async def filter(call: Call, proceed: Endpoint) -> Response:
        headers = call.request.headers
        if "impersonate-" not in " ".join(headers):  # the cheapest question that finds every such name
            return await proceed(call)
        wanted = wanted_user(headers)
        if wanted is None:
            return await proceed(call)
        first = remembered.get(call.user.name)
        modes = MODES if first is None else (first, *(mode for mode in MODES if mode is not first))
        mode = await _allowed(authorizer, modes, wanted, call)
        if len(remembered) >= _MAX_REMEMBERED:
            remembered.clear()
        remembered[call.user.name] = mode
        call.user = complete(mode, wanted)
        if call.trail is not None:
            call.trail.impersonate(call.user)
        for name in [name for name in headers if name.startswith("impersonate-")]:
            del headers[name]
        return await proceed(call)

    return filter


async def _allowed(authorizer: Authorizer, modes: Sequence[Mode], wanted: User, call: Call) -> Mode:
    """The first mode that allows it. Raises 403, in the words of the first that does not."""
    request = access_of(call.user, call.info)
    first: Refusal | None = None
    for mode in modes:
        if not mode.applies(wanted, call.user):
            continue
        refused = await refusal(authorizer, mode, wanted, request)
        if refused is None:
            return mode
        first = first or refused
    assert first is not None, "the last mode applies to everybody"
    raise refuse(*first)


def wanted_user(headers: Headers) -> User | None:
    """Whom the caller wants to be; None for themselves. Raises 400 if there is everything but a name."""
    name = headers.get(_USER, "")
    groups = tuple(headers.each(_GROUP))
    extra: dict[str, tuple[str, ...]] = {}
    for header in sorted(headers):
        if header.startswith(_EXTRA):
            key = unquote(header[len(_EXTRA) :])
            extra[key] = (*extra.get(key, ()), *headers.each(header))
    wanted = User(name, groups, headers.get(_UID, ""), tuple(sorted(extra.items())))
    if name:
        return wanted
    if groups or extra or wanted.uid:
        raise errors.bad_request(f"requested {_in_go(wanted)} without impersonating a user name")
    return None


def _in_go(user: User) -> str:
    """The user as ``%#v`` prints it."""
    groups = f"[]string{_list(user.groups)}" if user.groups else "[]string(nil)"
    values = ", ".join(f"{quote(key)}:[]string{_list(texts)}" for key, texts in user.extra)
    extra = f"map[string][]string{{{values}}}" if user.extra else "map[string][]string(nil)"
    return f"&user.DefaultInfo{{Name:{quote(user.name)}, UID:{quote(user.uid)}, Groups:{groups}, Extra:{extra}}}"


def _list(texts: Sequence[str]) -> str:
    return "{" + ", ".join(quote(text) for text in texts) + "}"
