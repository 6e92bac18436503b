"""Request headers: a proxy in front that has found out who calls, and shows its own certificate authority.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#authenticating-proxy
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

from tiphys.api.credentials import EXPIRED, in_force
from tiphys.apiserver.authn.authenticator import Rejected
from tiphys.apiserver.authn.certificates import Issuers, common_name
from tiphys.apiserver.call import User
from tiphys.apiserver.config import FrontProxy
from tiphys.runtime.clock import Clock
from tiphys.runtime.remembering import remembered
from tiphys.wire.http import Headers, Request


class RequestHeaders:
    def __init__(self, proxy: FrontProxy, clock: Clock) -> None:
        self._clock = clock
        self._issuers = Issuers(proxy.ca)
        self._proxy = proxy

    async def authenticate(self, request: Request) -> User | None:
        certificate = request.peer.certificate
        if certificate is None or not self._issuers.signed(certificate):
            return None
        if not in_force(certificate, self._clock.now()):
            raise Rejected(EXPIRED)
        name = _common_name(certificate)
        if self._proxy.names and name not in self._proxy.names:
            raise Rejected(f"x509: subject with cn={name} is not in the allowed list")
        return user_of_headers(request.headers, self._proxy)


_common_name = remembered(64, longest=4096)(common_name)


def user_of_headers(headers: Headers, proxy: FrontProxy) -> User | None:
    """Whom the proxy speaks for; None if it names nobody."""
    name = _first(headers, proxy.username_headers)
    if not name:
        return None
    groups = tuple(group for header in proxy.group_headers for group in headers.each(header.lower()))
    extra: dict[str, tuple[str, ...]] = {}
    for prefix in _lower(proxy.extra_prefixes):
        for key in headers:
            if key.startswith(prefix):
                fact = unquote(key[len(prefix) :]).lower()
                extra[fact] = (*extra.get(fact, ()), *headers.each(key))
    return User(name, groups, _first(headers, proxy.uid_headers), tuple(sorted(extra.items())))


def _first(headers: Headers, names: tuple[str, ...]) -> str:
    """The first of these headers that says something."""
    return next((headers[name] for name in _lower(names) if headers.get(name)), "")


def clearing(proxy: FrontProxy | None) -> Callable[[Headers], None]:
    """Takes out of a request what proxies say of callers, in the standard headers and in those of ``proxy``, whoever
    sent them. A server behind this one, which believes this one, must not take a client's word for this server's."""
    proxies = [FrontProxy(b""), *((proxy,) if proxy is not None else ())]
    names = {name for each in proxies for name in (*each.username_headers, *each.uid_headers, *each.group_headers)}
    single = frozenset(_lower(tuple(names)))
    prefixes = tuple({prefix for each in proxies for prefix in _lower(each.extra_prefixes)})

    def clear(headers: Headers) -> None:
        for key in [key for key in headers if key in single or key.startswith(prefixes)]:
            del headers[key]

    return clear


def _lower(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.lower() for name in names)
