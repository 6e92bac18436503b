"""Webhook tokens: a server of the administrator's is asked whose a token is, by a TokenReview.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#webhook-token-authentication
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence

from tiphys.api.object import Object
from tiphys.apiserver.authn.authenticator import Bearer, Rejected, common
from tiphys.apiserver.call import User
from tiphys.apiserver.config import TokenWebhook
from tiphys.apiserver.webhooks.reviews import ReviewFailed, ReviewServer
from tiphys.runtime.clock import Clock
from tiphys.runtime.expiring import Expiring, SharedCalls

log = logging.getLogger(__name__)

_KEPT = 4096


class WebhookTokens:
    """``audiences`` are the server's: those of a token whose review names none."""

    def __init__(self, settings: TokenWebhook, audiences: Sequence[str], clock: Clock) -> None:
        """Raises ``KubeconfigError``."""
        self._settings = settings
        self._audiences = audiences
        self._clock = clock
        self._server = ReviewServer(settings.kubeconfig, "kube-apiserver", clock)
        self._known: Expiring[bytes, Object] = Expiring(_KEPT)
        self._asked: SharedCalls[bytes, Object] = SharedCalls()

    async def bearer_of(self, token: str, audiences: Sequence[str]) -> Bearer | None:
        try:
            status = await self._status(token, audiences)
        except ReviewFailed as error:
            log.error("the token webhook cannot be asked: %s", error)
            raise Rejected(str(error)) from None
        if status.get("error") and not status.get("authenticated"):
            raise Rejected(str(status["error"]))
        if not status.get("authenticated"):
            return None
        shared = common(status.get("audiences") or self._audiences, audiences)
        return Bearer(_user(status.get("user") or {}), shared) if shared else None

    async def _status(self, token: str, audiences: Sequence[str]) -> Object:
        key = hashlib.sha256("\0".join((token, *audiences)).encode()).digest()
        known = self._known.get(key, self._clock.monotonic())
        if known is not None:
            return known[0]
        return await self._asked.answer(key, lambda: self._ask(key, token, audiences))

    async def _ask(self, key: bytes, token: str, audiences: Sequence[str]) -> Object:
        version = self._settings.version
        spec: Object = {"token": token}
        if version == "v1" and audiences:
            spec["audiences"] = list(audiences)
        review = {"kind": "TokenReview", "apiVersion": f"authentication.k8s.io/{version}", "metadata": {}, "spec": spec}
        status: Object = (await self._server.ask(review)).get("status") or {}
        if not status.get("error"):
            self._known.put(key, status, self._clock.monotonic() + self._settings.cache_seconds)
        return status

    async def close(self) -> None:
        self._asked.cancel()
        await self._server.close()


def _user(info: Object) -> User:
    extra = tuple((str(key), tuple(values)) for key, values in sorted((info.get("extra") or {}).items()))
    return User(str(info.get("username") or ""), tuple(info.get("groups") or ()), str(info.get("uid") or ""), extra)
