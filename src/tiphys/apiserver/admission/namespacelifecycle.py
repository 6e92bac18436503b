"""NamespaceLifecycle: nothing is created in a missing or terminating namespace; some namespaces cannot be deleted.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#namespacelifecycle
"""

from __future__ import annotations

from tiphys.api import errors
from tiphys.apiserver.admission.attributes import CREATE, DELETE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.storage.entry import Entry

_IMMORTAL = frozenset(("default", "kube-system", "kube-public"))
_DISTRUST_SECONDS = 30.0
_REVIEWS = frozenset(("localsubjectaccessreviews",))


class NamespaceLifecycle(Plugin):
    operations = frozenset((CREATE, UPDATE, DELETE))
    subresources = None

    def __init__(self, registries: Registries) -> None:
        self._registries = registries
        self._deleted: dict[str, float] = {}

    async def admit(self, attributes: Attributes) -> None:
        is_namespace = attributes.plural == "namespaces" and not attributes.group
        if attributes.operation == DELETE:
            if is_namespace and attributes.name in _IMMORTAL:
                raise errors.forbidden("", "namespaces", attributes.name, "this namespace may not be deleted")
            if is_namespace:
                self._remember(attributes.name)
            return
        if is_namespace or not attributes.namespace or attributes.plural in _REVIEWS:
            return
        await self._check(attributes)

    async def _check(self, attributes: Attributes) -> None:
        namespace = attributes.namespace
        entry = await self._find(namespace)
        if attributes.operation == CREATE and _phase(entry) == "Terminating":
            error = forbid(
                attributes,
                f"unable to create new content in namespace {namespace} because it is being terminated",
            )
            message = f"namespace {namespace} is being terminated"
            error.status["details"]["causes"] = [errors.cause("NamespaceTerminating", message, "metadata.namespace")]
            raise error

    def _remember(self, namespace: str) -> None:
        """For a while the cache is not believed about a namespace that this server has begun to delete."""
        now = self._registries.clock.monotonic()
        self._deleted = {name: until for name, until in self._deleted.items() if until > now}
        self._deleted[namespace] = now + _DISTRUST_SECONDS

    async def _find(self, namespace: str) -> Entry:
        """From the cache; what it does not have may have been made a moment ago."""
        namespaces = self._registries.get("", "namespaces")
        if namespace in self._deleted:
            return await namespaces.get("", namespace)
        entry = await namespaces.store.cached("", namespace)
        return entry if entry is not None else await namespaces.get("", namespace)


def _phase(entry: Entry) -> str:
    return entry.fields[0]
