"""Tokens that are kept in secrets of type ``kubernetes.io/service-account-token``: they never expire, and are believed
while their secret holds them.

Source: https://kubernetes.io/docs/concepts/configuration/secret/#serviceaccount-token-secrets
"""

from __future__ import annotations

import base64
import hmac
import logging
from collections.abc import Callable, Sequence
from datetime import date, timedelta

from tiphys.api.errors import StatusError
from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.apiserver.authn.authenticator import Bearer, Rejected
from tiphys.apiserver.authn.serviceaccounts import (
    TokenKeys,
    common_audiences,
    find_newest,
    split_name,
    username,
    verified,
)
from tiphys.apiserver.call import User
from tiphys.apiserver.registry.making import owned
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.updating import ObjectRules, Update, update
from tiphys.store.backend import StoreError

log = logging.getLogger(__name__)

ISSUER = "kubernetes/serviceaccount"
_CLAIM = "kubernetes.io/serviceaccount/"
LAST_USED = "kubernetes.io/legacy-token-last-used"
_INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
_NEEDED = {
    "namespace": "namespace claim is missing",
    "secret.name": "secretName claim is missing",
    "service-account.name": "serviceAccountName claim is missing",
    "service-account.uid": "serviceAccountUID claim is missing",
}


class LegacyTokens:
    def __init__(self, keys: Callable[[], TokenKeys], registries: Registries) -> None:
        self._keys = keys
        self._registries = registries

    async def bearer_of(self, token: str, audiences: Sequence[str]) -> Bearer | None:
        """The account of a token that a secret keeps; None if another issuer signed it. Raises ``Rejected``."""
        keys = self._keys()
        claims = verified(token, keys.keys, (ISSUER,))
        if claims is None:
            return None
        shared = common_audiences(claims, keys.audiences, audiences)
        namespace, name, uid, secret = _parts(claims)
        kept = await self._secret(namespace, secret, token)
        await self._check_account(namespace, name, uid)
        await self._note_use(kept)
        if (kept["metadata"].get("labels") or {}).get(_INVALID_SINCE):
            raise Rejected(
                f"the token in secret {namespace}/{secret} for service account {namespace}/{name} has been marked"
                " invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the"
                f" '{_INVALID_SINCE}' label from the secret to temporarily allow use of this token"
            )
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        return Bearer(User(username(namespace, name), groups, uid), shared)

    async def _secret(self, namespace: str, name: str, token: str) -> Object:
        secret = await find_newest(self._registries, "secrets", namespace, name)
        if secret is None or "deletionTimestamp" in secret["metadata"]:
            raise Rejected("Token has been invalidated")
        kept = base64.b64decode((secret.get("data") or {}).get("token", ""))
        if not hmac.compare_digest(kept, token.encode()):
            raise Rejected("Token does not match server's copy")
        return secret

    async def _note_use(self, secret: Object) -> None:
        """Write down on which day the token was used last; that it cannot be is no reason to refuse it."""
        registry = self._registries.get("", "secrets")
        meta = secret["metadata"]
        write = registry.write_context(namespace=meta["namespace"])
        today = write.now[:10]
        tomorrow = str(date.fromisoformat(today) + timedelta(days=1))
        if (meta.get("labels") or {}).get(LAST_USED) in (today, tomorrow):  # another server's clock may be ahead
            return

        async def transform(stored: Object | None) -> Object:
            new = copy(stored or secret)
            new["metadata"]["labels"] = {**(new["metadata"].get("labels") or {}), LAST_USED: today}
            return owned(registry, stored, new, write)

        change = Update(meta["namespace"], meta["name"], transform, ObjectRules(registry), uid=meta["uid"])
        try:
            await update(registry, change, write)
        except (StatusError, StoreError) as error:
            log.warning("cannot note the use of the token in secret %s/%s: %s", meta["namespace"], meta["name"], error)

    async def _check_account(self, namespace: str, name: str, uid: str) -> None:
        account = await find_newest(self._registries, "serviceaccounts", namespace, name)
        if account is None:
            raise Rejected(f'serviceaccounts "{name}" not found')
        if "deletionTimestamp" in account["metadata"]:
            raise Rejected(f"ServiceAccount {namespace}/{name} has been deleted")
        if account["metadata"]["uid"] != uid:
            raise Rejected(f"ServiceAccount UID ({account['metadata']['uid']}) does not match claim ({uid})")


def _parts(claims: Object) -> tuple[str, str, str, str]:
    """Namespace, name and uid of the account, and the name of the secret. Raises ``Rejected`` if one is missing."""
    subject = claims.get("sub") or ""
    if not subject:
        raise Rejected("sub claim is missing")
    for claim, text in _NEEDED.items():
        if not claims.get(_CLAIM + claim):
            raise Rejected(text)
    namespace, secret, name, uid = (str(claims[_CLAIM + claim]) for claim in _NEEDED)
    if split_name(subject) != (namespace, name):
        raise Rejected("sub claim is invalid")
    return namespace, name, uid, secret
