"""Bootstrap tokens: ``ID.SECRET``, kept as secrets in kube-system, with which new nodes join a cluster.

Source: https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re

from tiphys.api.meta.timestamps import TimeError, parse_seconds
from tiphys.apiserver.authn.authenticator import Rejected
from tiphys.apiserver.call import User
from tiphys.apiserver.registry.registries import Registries
from tiphys.runtime.clock import Clock

_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_TYPE = "bootstrap.kubernetes.io/token"
_GROUP = "system:bootstrappers"


class BootstrapTokens:
    def __init__(self, registries: Registries, clock: Clock) -> None:
        self._registries = registries
        self._clock = clock

    async def user_of(self, token: str) -> User | None:
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        secret = await self._registries.get("", "secrets").find("kube-system", f"bootstrap-token-{match[1]}")
        if secret is None or secret.get("type") != _TYPE or "deletionTimestamp" in secret["metadata"]:
            return None
        data = {key: _text(value) for key, value in (secret.get("data") or {}).items()}
        if not self._is_valid(data, match[1], match[2]):
            raise Rejected("invalid bearer token")
        groups = [group for group in data.get("auth-extra-groups", "").split(",") if group]
        return User(f"system:bootstrap:{match[1]}", (_GROUP, *groups))

    def _is_valid(self, data: dict[str, str], id: str, secret: str) -> bool:
        return (
            data.get("token-id") == id
            and hmac.compare_digest(data.get("token-secret", "").encode(), secret.encode())
            and data.get("usage-bootstrap-authentication") == "true"
            and not self._is_expired(data.get("expiration", ""))
        )

    def _is_expired(self, until: str) -> bool:
        if not until:
            return False
        try:
            return parse_seconds(until) <= self._clock.now()
        except TimeError:
            return True


def _text(value: str) -> str:
    try:
        return base64.b64decode(value).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
