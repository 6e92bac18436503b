"""NamespaceAutoProvision makes namespaces that are missing; NamespaceExists refuses to write into them.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#namespaceautoprovision
"""

from __future__ import annotations

from tiphys.api import errors
from tiphys.apiserver.admission.attributes import CREATE, DELETE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid
from tiphys.apiserver.bootstrap.objects import namespace
from tiphys.apiserver.registry.making import make_if_missing
from tiphys.apiserver.registry.registries import Registries
from tiphys.store.backend import StoreError


def _within(attributes: Attributes) -> bool:
    """Whether the request is about something in a namespace."""
    return bool(attributes.namespace) and (attributes.kind.group, attributes.kind.kind) != ("", "Namespace")


class NamespaceAutoProvision(Plugin):
    operations = frozenset((CREATE,))
    subresources = None

    def __init__(self, registries: Registries) -> None:
        self._namespaces = registries.get("", "namespaces")

    async def admit(self, attributes: Attributes) -> None:
        if attributes.dry_run or not _within(attributes):
            return
        try:
            await make_if_missing(self._namespaces, namespace(attributes.namespace))
        except StoreError as error:
            raise forbid(attributes, error) from error


class NamespaceExists(Plugin):
    operations = frozenset((CREATE, UPDATE, DELETE))
    subresources = None

    def __init__(self, registries: Registries) -> None:
        self._namespaces = registries.get("", "namespaces")

    async def validate(self, attributes: Attributes) -> None:
        if not _within(attributes):
            return
        if await self._namespaces.store.cached("", attributes.namespace) is not None:
            return
        try:
            await self._namespaces.get("", attributes.namespace)
        except StoreError as error:
            raise errors.internal(error) from error
