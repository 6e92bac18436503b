"""Says of a claim that is to grow who grows it: the resizer of its driver.

No volume type in the tree grows here; upstream's grow by their drivers too. Source:
https://kubernetes.io/docs/concepts/storage/persistent-volumes/#expanding-persistent-volumes-claims
"""

from __future__ import annotations

from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.api.volumes.matching import request
from tiphys.client.informer import Callbacks
from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from tiphys.controlkit.objects import key_of, split_key, status_of, uid_of
from tiphys.controlkit.retry import TryAgain
from tiphys.controllers.context import ControllerContext

_WAITING = "waiting for an external controller to expand this PVC"


def present(claim: Object) -> Quantity:
    """How large a claim's volume is, as its status says."""
    return Quantity((status_of(claim).get("capacity") or {}).get("storage", "0"))


class ExpandController:
    def __init__(self, context: ControllerContext) -> None:
        self._recorder = context.recorder.named("volume_expand")
        self._claims = context.informers.informer(PERSISTENT_VOLUME_CLAIMS)
        self._volumes = context.informers.informer(PERSISTENT_VOLUMES)
        self._controller = context.controller("volume_expand", self.reconcile)
        self._controller.handles(
            self._claims, Callbacks(added=self._seen, updated=self._updated, deleted=lambda claim: None)
        )
        self._controller.reads(self._volumes)

    async def run(self) -> None:
        await self._controller.run()

    def _updated(self, old: Object, new: Object) -> None:
        if request(new) > request(old) or present(new) > present(old):
            self._seen(new)

    def _seen(self, claim: Object) -> None:
        if status_of(claim).get("phase") == "Bound":
            self._controller.queue.add(key_of(claim))

    async def reconcile(self, key: str) -> None:
        claim = self._claims.store.get(*split_key(key))
        if claim is None or request(claim) <= present(claim):
            return
        volume = self._volumes.store.get("", claim["spec"].get("volumeName") or "")
        if volume is None or (volume["spec"].get("claimRef") or {}).get("uid") != uid_of(claim):
            raise TryAgain(f"persistent Volume is not bound to PVC being updated : {key}")
        self._recorder.event(claim, "Normal", "ExternalExpanding", _WAITING)
