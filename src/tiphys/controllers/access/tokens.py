"""The tokens controller: fills secrets of type ``kubernetes.io/service-account-token``, and removes those without
account.

Source: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#token-controller
"""

from __future__ import annotations

import base64
from functools import cached_property
from typing import TYPE_CHECKING

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import SECRETS, SERVICE_ACCOUNTS
from tiphys.controlkit.objects import (
    annotations_of,
    key_of,
    name_of,
    namespace_of,
    set_annotation,
    split_key,
    uid_of,
)
from tiphys.controllers.context import ControllerContext

if TYPE_CHECKING:
    from tiphys.api.jwt import SigningKey

TOKEN_TYPE = "kubernetes.io/service-account-token"
ACCOUNT_NAME = "kubernetes.io/service-account.name"
ACCOUNT_UID = "kubernetes.io/service-account.uid"
ISSUER = "kubernetes/serviceaccount"
MAX_RETRIES = 10


def legacy_claims(account: Object, secret: Object) -> dict[str, str]:
    """The claims of a token that never expires and is bound to a secret."""
    return {
        "iss": ISSUER,
        "kubernetes.io/serviceaccount/namespace": namespace_of(account),
        "kubernetes.io/serviceaccount/secret.name": name_of(secret),
        "kubernetes.io/serviceaccount/service-account.name": name_of(account),
        "kubernetes.io/serviceaccount/service-account.uid": uid_of(account),
        "sub": f"system:serviceaccount:{namespace_of(account)}:{name_of(account)}",
    }


def missing_data(secret: Object, root_ca: bytes) -> dict[str, str]:
    """What of ``ca.crt`` and ``namespace`` the secret lacks, in base64."""
    data = secret.get("data") or {}
    missing = {}
    wanted_ca = base64.b64encode(root_ca).decode()
    if root_ca and data.get("ca.crt") != wanted_ca:
        missing["ca.crt"] = wanted_ca
    if not data.get("namespace"):
        missing["namespace"] = base64.b64encode(namespace_of(secret).encode()).decode()
    return missing


class TokensController:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._root_ca = context.client, context.config.root_ca
        self._key_pem = context.config.service_account_signing_key
        self._accounts = context.informers.informer(SERVICE_ACCOUNTS)
        self._secrets = context.informers.informer(SECRETS, field_selector=f"type={TOKEN_TYPE}")
        self._controller = context.controller(
            "serviceaccount_tokens_secret",
            self.reconcile,
            workers=context.config.concurrent_serviceaccount_token_syncs,
            max_retries=MAX_RETRIES,
        )
        self._controller.watches(self._secrets)
        self._controller.watches(self._accounts, self._secrets_of)

    async def run(self) -> None:
        if self._key_pem:
            await self._controller.run()

    @cached_property
    def _signing_key(self) -> SigningKey:
        from tiphys.api import jwt

        return jwt.signing_key(self._key_pem)

    def _secrets_of(self, account: Object) -> list[str]:
        return [
            key_of(secret)
            for secret in self._secrets.store.list(namespace_of(account))
            if annotations_of(secret).get(ACCOUNT_NAME) == name_of(account)
        ]

    async def reconcile(self, key: str) -> None:
        secret = self._secrets.store.get(*split_key(key))
        name = annotations_of(secret).get(ACCOUNT_NAME) if secret is not None else None
        if secret is None or not name:
            return
        account = await self._account(namespace_of(secret), name, annotations_of(secret).get(ACCOUNT_UID))
        if account is None:
            await self._delete(secret)
        elif missing_data(secret, self._root_ca) or not (secret.get("data") or {}).get("token"):
            await self._fill(secret, account)

    async def _account(self, namespace: str, name: str, uid: str | None) -> Object | None:
        account = self._accounts.store.get(namespace, name)
        if account is None or (uid and uid_of(account) != uid):
            try:
                account = await self._client.get(SERVICE_ACCOUNTS, name, namespace)
            except errors.NotFound:
                return None
        return account if not uid or uid_of(account) == uid else None

    async def _delete(self, secret: Object) -> None:
        try:
            await self._client.delete(SECRETS, name_of(secret), namespace_of(secret), uid=uid_of(secret))
        except (errors.NotFound, errors.Conflict):
            return  # gone, or another one by now

    async def _fill(self, cached: Object, account: Object) -> None:
        live = await self._client.get(SECRETS, name_of(cached), namespace_of(cached))
        if live["metadata"].get("resourceVersion") != cached["metadata"].get("resourceVersion"):
            return  # the informer will show the newer one soon
        data = {**(live.get("data") or {}), **missing_data(live, self._root_ca)}
        if not data.get("token"):
            data["token"] = base64.b64encode(self._signing_key.sign(legacy_claims(account, live)).encode()).decode()
        live["data"] = data
        set_annotation(live, ACCOUNT_NAME, name_of(account))
        set_annotation(live, ACCOUNT_UID, uid_of(account))
        try:
            await self._client.update(SECRETS, live)
        except (errors.Conflict, errors.NotFound):
            return  # somebody else was faster; its event brings the key back
