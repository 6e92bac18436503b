"""Tokens of browsers: a WebSocket client that cannot set headers offers its token as one of its subprotocols.

Source: https://github.com/kubernetes/kubernetes/pull/47740
"""

from __future__ import annotations

import base64
import binascii

from tiphys.apiserver.authn.authenticator import BearerTokens, Rejected
from tiphys.apiserver.call import User
from tiphys.wire.http import Headers, Request
from tiphys.wire.websocket import is_websocket, offered_protocols

_PREFIX = "base64url.bearer.authorization.k8s.io."
_HEADER = "sec-websocket-protocol"


class SubprotocolTokens:
    """The token is taken out of what is offered: another subprotocol has to be left, to be chosen."""

    def __init__(self, bearers: BearerTokens) -> None:
        self._bearers = bearers

    async def authenticate(self, request: Request) -> User | None:
        """The user of the token among the subprotocols; None without one. Raises ``Rejected`` for a malformed offer."""
        if not is_websocket(request):
            return None
        offered = offered_protocols(request)
        encoded = [name.removeprefix(_PREFIX) for name in offered if name.startswith(_PREFIX)]
        others = [name for name in offered if not name.startswith(_PREFIX)]
        if len(encoded) > 1:
            raise Rejected("multiple base64.bearer.authorization tokens specified")
        token = _decoded(encoded[0]) if encoded else ""
        if not token:
            return None
        if not others:
            raise Rejected("missing additional subprotocol")
        user = await self._bearers.user_of(token)
        _offer(request.headers, others)
        return user


def _decoded(text: str) -> str:
    """Raises ``Rejected`` for what is not base64 of a text, without padding."""
    if "=" in text:
        raise Rejected("invalid base64.bearer.authorization token encoding")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except UnicodeDecodeError:
        raise Rejected("invalid base64.bearer.authorization token") from None
    except (binascii.Error, ValueError):
        raise Rejected("invalid base64.bearer.authorization token encoding") from None


def _offer(headers: Headers, protocols: list[str]) -> None:
    del headers[_HEADER]
    headers[_HEADER] = ",".join(protocols)
