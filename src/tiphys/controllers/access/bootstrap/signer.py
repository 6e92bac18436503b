"""The bootstrap signer: signs the config map ``cluster-info`` with every bootstrap token that is allowed to.

A node that joins knows a token but not yet the cluster's CA; the signature lets it trust the config map, which
everybody may read. Source: https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/
"""

from __future__ import annotations

from collections.abc import Mapping

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import CONFIG_MAPS, SECRETS
from tiphys.controlkit.objects import (
    copy,
)
from tiphys.controllers.access.bootstrap import tokens
from tiphys.controllers.context import ControllerContext

MAP_NAMESPACE = "kube-public"
MAP_NAME = "cluster-info"

_SIGNED = "kubeconfig"
_PREFIX = "jws-kubeconfig-"


def signed_data(data: Mapping[str, str], keys: Mapping[str, str]) -> dict[str, str] | None:
    """The data of the config map with a signature for each of the tokens and no other; None if there is nothing
    to sign."""
    if _SIGNED not in data:
        return None
    wanted = {name: text for name, text in data.items() if not name.startswith(_PREFIX)}
    for token_id, token_secret in keys.items():
        wanted[_PREFIX + token_id] = tokens.signature(data[_SIGNED], token_id, token_secret)
    return wanted


class BootstrapSigner:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._clock = context.client, context.clock
        self._maps = context.informers.informer(
            CONFIG_MAPS, namespace=MAP_NAMESPACE, field_selector=f"metadata.name={MAP_NAME}"
        )
        self._secrets = context.informers.informer(
            SECRETS, namespace=tokens.NAMESPACE, field_selector=f"type={tokens.SECRET_TYPE}"
        )
        self._controller = context.controller("bootstrap_signer_queue", self.reconcile)
        for informer in (self._maps, self._secrets):
            self._controller.handles(
                informer, Callbacks(added=self._poke, updated=lambda old, new: self._poke(new), deleted=self._poke)
            )

    async def run(self) -> None:
        await self._controller.run()

    def _poke(self, changed: Object) -> None:
        self._controller.queue.add(f"{MAP_NAMESPACE}/{MAP_NAME}")

    async def reconcile(self, key: str) -> None:
        current = self._maps.store.get(MAP_NAMESPACE, MAP_NAME)
        if current is None:
            return
        data = current.get("data") or {}
        wanted = signed_data(data, self._keys())
        if wanted is None or wanted == data:
            return
        try:
            await self._client.update(CONFIG_MAPS, copy(current) | {"data": wanted})
        except errors.NotFound:
            return

    def _keys(self) -> dict[str, str]:
        keys = (tokens.for_signing(secret, self._clock.now()) for secret in self._secrets.store.list())
        return dict(key for key in keys if key is not None)
