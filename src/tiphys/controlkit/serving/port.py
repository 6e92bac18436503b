"""A component's port: its certificate, its authorities, and the gate before its pages.

The authority of client certificates is in the ConfigMap ``extension-apiserver-authentication``, which the API server
publishes; it is read before the port opens, and then once a minute.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from tiphys.client.delegated import AccessReviews, DelegatedAccess, TokenReviews, Trust, read_trust
from tiphys.client.errors import ApiError
from tiphys.client.kubeconfig import client_from_file
from tiphys.client.rest import Client
from tiphys.controlkit.serving.gate import PortGate
from tiphys.controlkit.serving.pprof import profiled
from tiphys.controlkit.serving.settings import Delegation, PortSettings
from tiphys.runtime.clock import Clock
from tiphys.runtime.component import CannotStart
from tiphys.runtime.tasks import Runner
from tiphys.wire.http import Handler
from tiphys.wire.reserving import reserve
from tiphys.wire.server import Limits, Server, serve
from tiphys.wire.tls.contexts import Pem, ServerContext, server_context

log = logging.getLogger(__name__)

_LOOKS_EVERY = 60.0


@contextlib.asynccontextmanager
async def open_port(serving: PortSettings | None, pages: Handler, clock: Clock) -> AsyncIterator[Server | None]:
    """Serve ``pages`` while the context lasts; without ``serving``, nothing. Raises ``OSError``, ``CannotStart``."""
    if serving is None:
        yield None
        return
    async with contextlib.AsyncExitStack() as stack:
        asked = _client(stack, serving.delegation.authentication, serving.name)
        judge = _client(stack, serving.delegation.authorization, serving.name)
        trust = await _first_trust(serving.delegation, asked)
        certificate, key = _pair(serving)
        try:
            tls = server_context(certificate, key, _authorities(trust), more=serving.more, policy=serving.policy)
        except ssl.SSLError as error:
            raise CannotStart(f"the certificate and key of the port cannot be used: {error}") from error
        delegation = serving.delegation
        tokens = None if asked is None else TokenReviews(asked, clock, delegation.tokens_for)
        reviews = None if judge is None else AccessReviews(judge, clock, delegation.allowed_for, delegation.denied_for)
        access = DelegatedAccess(trust, tokens, reviews)
        gate = PortGate(profiled(pages) if serving.profiling else pages, access, delegation.always_allowed)
        limits = Limits(streams=serving.streams) if serving.streams else Limits()
        sock = reserve(serving.host, serving.port, shared=True) if serving.shares_port else None
        server = await serve(gate, serving.host, serving.port, tls=tls, limits=limits, sock=sock)
        stack.push_async_callback(server.close, grace=0.5)
        runner = await stack.enter_async_context(Runner(clock, f"port of {serving.name} "))
        runner.supervise(
            _Renewal(serving=serving, tls=tls, access=access, client=asked, pair=(certificate, key), clock=clock).run,
            "certificates",
        )
        yield server


def _client(stack: contextlib.AsyncExitStack, kubeconfig: Path | None, name: str) -> Client | None:
    if kubeconfig is None:
        return None
    client = client_from_file(kubeconfig, name)
    stack.push_async_callback(client.close)
    return client


def _pair(serving: PortSettings) -> tuple[Pem, Pem]:
    if serving.pair is not None:
        return serving.pair
    from tiphys.wire.tls.selfsigned import ensure_certificate, make_certificate

    names = ("localhost", "127.0.0.1", *_also(serving.host))
    try:
        if serving.folder is not None:
            return ensure_certificate(serving.folder, names, serving.name)
    except ValueError as error:
        raise CannotStart(str(error)) from error
    return make_certificate(names)


def _also(host: str) -> tuple[str, ...]:
    """The host that is listened on as a name of the certificate's, if it is one."""
    return () if host in ("localhost", "127.0.0.1", "0.0.0.0", "::", "") else (host,)


class LookupFailed(CannotStart):
    """The cluster cannot be asked for the authority of client certificates."""


async def _trust(delegation: Delegation, client: Client | None) -> Trust:
    """Whom to believe: a file of a flag, or what the cluster publishes. Raises ``LookupFailed``, ``OSError``."""
    looks = client is not None and not delegation.skip_lookup
    published = await _published(client) if client is not None and looks else Trust()
    if delegation.client_ca is not None:
        published = published._replace(client_ca=delegation.client_ca.read_bytes())
    if (proxy := delegation.proxy) is not None:
        published = published._replace(
            proxy_ca=proxy.ca.read_bytes(),
            proxy_names=proxy.names,
            username_headers=proxy.username_headers,
            uid_headers=proxy.uid_headers,
            group_headers=proxy.group_headers,
            extra_prefixes=proxy.extra_prefixes,
        )
    return published


async def _published(client: Client) -> Trust:
    try:
        return await read_trust(client)
    except (ApiError, OSError, TimeoutError) as error:
        raise LookupFailed(
            f"cannot look for the authority of client certificates in the cluster: {error};"
            " --authentication-tolerate-lookup-failure=true starts without it"
        ) from error


async def _first_trust(delegation: Delegation, client: Client | None) -> Trust:
    """Raises ``LookupFailed`` if that is not to be tolerated."""
    try:
        return await _trust(delegation, client)
    except LookupFailed as error:
        if not delegation.tolerate_lookup_failure:
            raise
        log.warning("no client certificate counts until it can: %s", error)
        return await _trust(delegation, None)


def _authorities(trust: Trust) -> tuple[Pem, ...] | None:
    return tuple(pem for pem in (trust.client_ca, trust.proxy_ca) if pem) or None


class _Renewal:
    """Keeps a port's certificate, and whom it believes, up to date."""

    def __init__(
        self,
        *,
        serving: PortSettings,
        tls: ServerContext,
        access: DelegatedAccess,
        client: Client | None,
        pair: tuple[Pem, Pem],
        clock: Clock,
    ) -> None:
        self._serving, self._tls, self._access = serving, tls, access
        self._client, self._pair, self._clock = client, pair, clock

    async def run(self) -> None:
        """Reload certificates and authorities when they change, until cancelled."""
        seen: object = None
        while True:
            await self._clock.sleep(_LOOKS_EVERY)
            try:
                trust = await _trust(self._serving.delegation, self._client)
                now = (trust, self._stamps())
                if now == seen:
                    continue
                self._tls.reload(*self._pair, _authorities(trust), self._serving.more)
            except (LookupFailed, OSError) as error:  # ssl.SSLError is one
                log.warning("what was read before stays: %s", error)
                continue
            self._access.believe(trust)
            seen = now

    def _stamps(self) -> tuple[int, ...]:
        files = [*self._pair, *(part for pair in self._serving.more for part in (pair.cert, pair.key))]
        paths = [file for file in files if isinstance(file, Path)]
        return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)
