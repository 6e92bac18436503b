"""What this server itself asks the servers behind it: whether they are there, and for their documents.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/
"""

from __future__ import annotations

import asyncio
import ssl
from typing import NamedTuple

from tiphys.apiserver.aggregator.backends import Backends, Unroutable
from tiphys.apiserver.aggregator.proxying import with_user
from tiphys.apiserver.aggregator.services import Remote
from tiphys.apiserver.call import User
from tiphys.wire.http import BodyTooLarge, Headers, Request
from tiphys.wire.wording import connection_failure

_SECONDS = 5.0
_ATTEMPTS = 5
_PATIENCE_SECONDS = 0.5
_MAX_DOCUMENT = 64 * 1024 * 1024
_CHECKER = User("system:kube-aggregator", ("system:masters",))
_READER = User("system:aggregator", ("system:discovery", "system:authenticated", "system:masters"))


class NoAnswer(Exception):
    """The server could not be asked; the text says why."""


class RemoteAnswer(NamedTuple):
    status: int
    headers: Headers
    body: bytes


class Asking:
    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    async def check(self, remote: Remote) -> str:
        """What is wrong with a server, or nothing. If the first attempt fails or takes long, more are made at once, as
        another endpoint may be well; one good answer is enough."""
        attempts = [asyncio.ensure_future(self._check(remote))]
        try:
            await asyncio.wait(attempts, timeout=_PATIENCE_SECONDS)
            if not attempts[0].done() or attempts[0].result():
                attempts += [asyncio.ensure_future(self._check(remote)) for _ in range(_ATTEMPTS - 1)]
            problem = ""
            for attempt in asyncio.as_completed(attempts):
                if not (problem := await attempt):
                    break
            return problem
        finally:
            for attempt in attempts:
                attempt.cancel()
            await asyncio.gather(*attempts, return_exceptions=True)

    async def _check(self, remote: Remote) -> str:
        try:
            host, port = await self._backends.resolve(remote)
        except Unroutable as error:
            return str(error)
        url = f"https://{_literal(host)}:{port}{remote.path}"
        try:
            status = (await self._send(remote, host, port, Request("GET", remote.path), _CHECKER)).status
        except NoAnswer as error:
            return f'failing or missing response from {url}: Get "{url}": {error}'
        if 200 <= status < 300:
            return ""
        return f"failing or missing response from {url}: bad status from {url}: {status}"

    async def read(self, remote: Remote, path: str, accept: str, known: str = "", query: str = "") -> RemoteAnswer:
        """A document of a server; 304 if it is still the one with the entity tag ``known``. Raises ``NoAnswer``."""
        try:
            host, port = await self._backends.resolve(remote)
        except Unroutable as error:
            raise NoAnswer(str(error)) from None
        headers = Headers({"accept": accept} | ({"if-none-match": known} if known else {}))
        return await self._send(remote, host, port, Request("GET", path, query, headers), _READER)

    async def _send(self, remote: Remote, host: str, port: int, request: Request, user: User) -> RemoteAnswer:
        request.headers = with_user(request.headers, user)
        try:
            transport = self._backends.transport(remote, host, port)
            async with asyncio.timeout(_SECONDS):
                response = await transport.send(request)
                body = await response.read(_MAX_DOCUMENT)
        except TimeoutError:
            raise NoAnswer("context deadline exceeded (Client.Timeout exceeded while awaiting headers)") from None
        except BodyTooLarge as error:
            raise NoAnswer(str(error)) from None
        except (OSError, ssl.SSLError) as error:
            raise NoAnswer(connection_failure(error, host, port, remote.host)) from None
        return RemoteAnswer(response.status, Headers(response.headers), body)


def _literal(host: str) -> str:
    return f"[{host}]" if ":" in host else host
