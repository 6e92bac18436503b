"""The token cleaner: removes bootstrap tokens that have expired.

Source: https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/
"""

from __future__ import annotations

from tiphys.client import errors
from tiphys.client.resources import SECRETS
from tiphys.controlkit.controller import Result
from tiphys.controlkit.objects import name_of, namespace_of, split_key, uid_of
from tiphys.controllers.access.bootstrap import tokens
from tiphys.controllers.context import ControllerContext


class TokenCleaner:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._clock = context.client, context.clock
        self._secrets = context.informers.informer(
            SECRETS, namespace=tokens.NAMESPACE, field_selector=f"type={tokens.SECRET_TYPE}"
        )
        self._controller = context.controller("token_cleaner", self.reconcile)
        self._controller.watches(self._secrets)

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, key: str) -> Result | None:
        secret = self._secrets.store.get(*split_key(key))
        if secret is None or (left := tokens.time_left(secret, self._clock.now())) is None:
            return None
        if left > 0:
            return Result(after=left)
        try:
            await self._client.delete(SECRETS, name_of(secret), namespace_of(secret), uid=uid_of(secret))
        except (errors.NotFound, errors.Conflict):
            return None
        return None
