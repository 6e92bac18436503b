"""OwnerReferencesPermissionEnforcement: who blocks an owner's deletion must be allowed to set its finalizers.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#ownerreferencespermissionenforcement
"""

from __future__ import annotations

import asyncio

from tiphys.api.meta.fingerprints import fingerprint
from tiphys.api.object import Object
from tiphys.api.scheme import Scheme
from tiphys.apiserver.admission.attributes import CREATE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid
from tiphys.apiserver.authz.authorizer import Access, Authorizer

_SLICE = 100
"""So many owners are asked about between two turns of the loop."""


class OwnerReferencesPermissionEnforcement(Plugin):
    operations = frozenset((CREATE, UPDATE))

    def __init__(self, scheme: Scheme, authorizer: Authorizer) -> None:
        self._scheme = scheme
        self._authorizer = authorizer

    async def validate(self, attributes: Attributes) -> None:
        new, old = _references(attributes.object), _references(attributes.old)
        if new == old:
            return
        if attributes.operation == UPDATE and not await self._may(attributes, "delete", attributes.name):
            raise forbid(attributes, "cannot set an ownerRef on a resource you can't delete: , <nil>")
        known = {fingerprint(reference) for reference in _blocking(old)}
        for number, reference in enumerate(_blocking(new)):
            if number % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            if fingerprint(reference) not in known and not await self._may_block(attributes, reference):
                reason = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set"
                raise forbid(attributes, f"{reason} finalizers on: , <nil>")

    async def _may(self, attributes: Attributes, verb: str, name: str) -> bool:
        access = Access(
            attributes.user,
            verb,
            attributes.group,
            attributes.kind.version,
            attributes.plural,
            namespace=attributes.namespace,
            name=name,
        )
        return (await self._authorizer.authorize(access)).allowed

    async def _may_block(self, attributes: Attributes, reference: Object) -> bool:
        group, _, version = reference["apiVersion"].rpartition("/")
        resource = self._scheme.for_kind(group, reference["kind"])
        if resource is None:
            reason = (
                "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion"
                f" {reference['apiVersion']} Kind {reference['kind']}"
            )
            raise forbid(attributes, reason)
        namespace = attributes.namespace if resource.namespaced else ""
        access = Access(
            attributes.user, "update", group, version, resource.plural, "finalizers", namespace, reference["name"]
        )
        return (await self._authorizer.authorize(access)).allowed


def _references(obj: Object | None) -> list[Object]:
    return ((obj or {}).get("metadata") or {}).get("ownerReferences") or []


def _blocking(references: list[Object]) -> list[Object]:
    return [reference for reference in references if reference.get("blockOwnerDeletion")]
