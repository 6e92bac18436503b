"""The special claims of pods at the API server: made when a node is chosen, deleted if the pod does not come to it.

Source: KEP-5004
"""

from __future__ import annotations

import asyncio
import logging

from tiphys.api.meta.objects import finalizers_of, key_of, name_of, namespace_of, uid_of
from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import PODS, RESOURCE_CLAIMS
from tiphys.scheduler.devices.extended import Variant
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.handle import Handle

log = logging.getLogger(__name__)

FINALIZER = "resource.kubernetes.io/delete-protection"
SHOWN_SECONDS = 120.0
"""How long the informer may take to show a claim that was made."""
_TRIES = 5


class SpecialClaims:
    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def create(self, variant: Variant) -> Object:
        """The claim as the API server has named it. Raises ``ApiError``."""
        meta = {key: value for key, value in variant.claim["metadata"].items() if key not in ("name", "uid")}
        try:
            made = await self._handle.client.create(RESOURCE_CLAIMS, {**variant.claim, "metadata": meta})
        except (errors.ApiError, ConnectionError, TimeoutError):
            self._handle.claims_made.inc("failure")
            raise
        self._handle.claims_made.inc("success")
        return made

    async def say(self, pod: PodInfo, claim: Object, variant: Variant) -> None:
        """Have the pod's status say which container has which request. Raises ``ApiError``."""
        known = {"requestMappings": list(variant.mappings), "resourceClaimName": name_of(claim)}
        change = {"metadata": {"uid": pod.uid}, "status": {"extendedResourceClaimStatus": known}}
        await self._handle.client.patch(PODS, pod.name, change, pod.namespace, subresource="status")

    async def until_shown(self, claim: Object) -> None:
        """Wait until the informer shows what was written: until then its devices must count as given in another way."""
        changed = asyncio.Event()
        self._handle.watching.add(changed)
        try:
            async with asyncio.timeout(SHOWN_SECONDS):
                while not self._handle.claims.is_shown(claim):
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            log.warning("claim %s was not shown within %d s of being made", key_of(claim), SHOWN_SECONDS)
        finally:
            self._handle.watching.discard(changed)

    async def delete(self, claim: Object) -> None:
        """Without its finalizer, so that it goes at once. What cannot be done is tried again in the next attempt."""
        try:
            await self._release(claim)
            await self._handle.client.delete(RESOURCE_CLAIMS, name_of(claim), namespace_of(claim), uid=uid_of(claim))
        except errors.NotFound:
            return
        except (errors.ApiError, ConnectionError, TimeoutError) as problem:
            log.warning("cannot delete claim %s: %s", key_of(claim), problem)

    async def _release(self, claim: Object) -> None:
        for tries_left in reversed(range(_TRIES)):
            left = [name for name in finalizers_of(claim) if name != FINALIZER]
            if left == list(finalizers_of(claim)):
                return
            wanted = {**claim, "metadata": {**claim["metadata"], "finalizers": left}}
            try:
                await self._handle.client.update(RESOURCE_CLAIMS, wanted)
            except errors.Conflict:
                if not tries_left:
                    raise
                claim = await self._handle.client.get(RESOURCE_CLAIMS, name_of(claim), namespace_of(claim))
            else:
                return
