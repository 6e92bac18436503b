"""Tokens that are kept in secrets of type ``kubernetes.io/service-account-token``: they never expire, and are believed
while their secret holds them.

Source: https://kubernetes.io/docs/concepts/configuration/secret/#serviceaccount-token-secrets
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Sequence

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
from tiphys.apiserver.registry.registries import Registries

ISSUER = "kubernetes/serviceaccount"
_CLAIM = "kubernetes.io/serviceaccount/"
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
        keys = self._keys()
        claims = verified(token, keys.keys, (ISSUER,))
        if claims is None:
            return None
        shared = common_audiences(claims, keys.audiences, audiences)
        namespace, name, uid, secret = _parts(claims)
        await self._check_secret(namespace, secret, token, name)
        await self._check_account(namespace, name, uid)
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        return Bearer(User(username(namespace, name), groups, uid), shared)

    async def _check_secret(self, namespace: str, name: str, token: str, account: str) -> None:
        secret = await find_newest(self._registries, "secrets", namespace, name)
        if secret is None or "deletionTimestamp" in secret["metadata"]:
            raise Rejected("Token has been invalidated")
        kept = base64.b64decode((secret.get("data") or {}).get("token", ""))
        if not hmac.compare_digest(kept, token.encode()):
            raise Rejected("Token does not match server's copy")
        if (secret["metadata"].get("labels") or {}).get(_INVALID_SINCE):
            raise Rejected(
                f"the token in secret {namespace}/{name} for service account {namespace}/{account} has been marked"
                " invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the"
                f" '{_INVALID_SINCE}' label from the secret to temporarily allow use of this token"
            )

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
