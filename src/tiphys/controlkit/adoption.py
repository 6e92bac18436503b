"""Who controls whom: adopt orphans that match a controller's selector, release what no longer matches.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/ and
https://github.com/kubernetes/design-proposals-archive/blob/main/api-machinery/controller-ref.md
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import ResourcePath
from tiphys.client.rest import STRATEGIC_MERGE, Client
from tiphys.controlkit.objects import (
    controller_of,
    controller_reference,
    is_deleting,
    name_of,
    namespace_of,
    uid_of,
)
from tiphys.controlkit.retry import TryAgain


class Claim(enum.Enum):
    """What a controller does about one object."""

    KEEP = "it is the controller's and matches"
    IGNORE = "it is none of the controller's business"
    ADOPT = "an orphan that matches"
    RELEASE = "it is the controller's and matches no longer"


def claim(owner: Object, obj: Object, *, matches: bool) -> Claim:
    """Decide about one object."""
    reference = controller_of(obj)
    if reference is not None:
        if reference.get("uid") != uid_of(owner):
            return Claim.IGNORE
        if matches:
            return Claim.KEEP
        return Claim.IGNORE if is_deleting(owner) else Claim.RELEASE
    if is_deleting(owner) or not matches or is_deleting(obj):
        return Claim.IGNORE
    if namespace_of(owner) and namespace_of(owner) != namespace_of(obj):
        return Claim.IGNORE
    return Claim.ADOPT


class CannotAdopt(TryAgain):
    """The controller itself is being deleted or was replaced."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A controller object and what its kind is."""

    resource: ResourcePath
    kind: str
    object: Object

    def reference(self) -> Object:
        return controller_reference(self.object, self.resource.api_version, self.kind)


class Claimer:
    """Claims objects of one resource for one owner; asks the API once whether the owner still lives before adopting."""

    def __init__(self, client: Client, owner: Owner, resource: ResourcePath, *, finalizers: Iterable[str] = ()) -> None:
        self._client, self._owner, self._resource = client, owner, resource
        self._finalizers = list(finalizers)
        self._may_adopt: CannotAdopt | bool | None = None

    async def claim(self, objects: Iterable[Object], matches: Callable[[Object], bool]) -> list[Object]:
        """Adopt and release as needed; the objects that are the owner's now."""
        claimed = []
        for obj in objects:
            decision = claim(self._owner.object, obj, matches=matches(obj))
            if decision is Claim.KEEP or (decision is Claim.ADOPT and await self._adopt(obj)):
                claimed.append(obj)
            elif decision is Claim.RELEASE:
                await self._release(obj)
        return claimed

    async def _check_owner(self) -> None:
        owner = self._owner.object
        if self._may_adopt is None:
            fresh = await self._client.get(self._owner.resource, name_of(owner), namespace_of(owner))
            if uid_of(fresh) != uid_of(owner):
                self._may_adopt = CannotAdopt(
                    f"original {self._owner.kind} {namespace_of(owner)}/{name_of(owner)} is gone: "
                    f"got uid {uid_of(fresh)}, wanted {uid_of(owner)}"
                )
            elif is_deleting(fresh):
                when = fresh["metadata"]["deletionTimestamp"]
                self._may_adopt = CannotAdopt(f"{namespace_of(owner)}/{name_of(owner)} has just been deleted at {when}")
            else:
                self._may_adopt = True
        if isinstance(self._may_adopt, CannotAdopt):
            raise self._may_adopt

    async def _adopt(self, obj: Object) -> bool:
        await self._check_owner()
        meta: dict[str, Any] = {"uid": uid_of(obj), "ownerReferences": [self._owner.reference()]}
        if self._finalizers:
            meta["finalizers"] = self._finalizers
        try:
            await self._patch(obj, {"metadata": meta})
        except errors.NotFound:
            return False
        return True

    async def _release(self, obj: Object) -> None:
        references = [{"$patch": "delete", "uid": uid_of(self._owner.object)}]
        meta: dict[str, Any] = {"uid": uid_of(obj), "ownerReferences": references}
        if self._finalizers:
            meta["$deleteFromPrimitiveList/finalizers"] = self._finalizers
        try:
            await self._patch(obj, {"metadata": meta})
        except (errors.NotFound, errors.Invalid):
            return  # gone, or replaced by another of its name: there is nothing to release

    async def _patch(self, obj: Object, patch: Object) -> None:
        await self._client.patch(self._resource, name_of(obj), patch, namespace_of(obj), type=STRATEGIC_MERGE)
