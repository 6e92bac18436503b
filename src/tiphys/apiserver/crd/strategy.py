"""The strategy of a custom resource in one version: the schema of that version holds for all who write by it.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

from typing import Protocol

from tiphys.api import errors
from tiphys.api.fielderrors import FieldError
from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.api.scheme import CustomVersion, Resource
from tiphys.apiserver.registry.strategy import Finish, Strategy, Write, copy_field, keep
from tiphys.validation.custom import objects


class _Validate(Protocol):
    def __call__(
        self, new: Object, old: Object, version: CustomVersion, warnings: list[str] | None, *, namespaced: bool
    ) -> list[FieldError]: ...


class CustomStrategy(Strategy):
    """Objects come in the storage version, where versions differ in ``apiVersion`` only; each is looked at as the
    version of the request has it."""

    unconditional_update = False
    counts = ("spec",)
    reset_by_status = ("metadata", "spec")

    def __init__(self, resource: Resource, version: str) -> None:
        self.version: CustomVersion = resource.custom[version]
        super().__init__(self.version.gvk)
        self._resource = resource
        self._is_stored = version == resource.storage_version

    @property
    def reset_fields(self) -> tuple[str, ...]:
        return ("status",) if self.version.has_status else ()

    def _seen(self, obj: Object) -> Object:
        """Any other version than the stored one that a caller named by mistake stays, and is refused."""
        stored = self._resource.gvk(self._resource.storage_version).api_version
        if self._is_stored or obj.get("apiVersion") != stored:
            return obj
        return {**obj, "apiVersion": self.gvk.api_version}

    # -- create

    async def begin_create(self, obj: Object, write: Write) -> Finish:
        if self._resource.terminating:
            reason = "create not allowed while custom resource definition is terminating"
            name = obj["metadata"].get("name", "")
            raise errors.forbidden(self._resource.group, self._resource.plural, name, reason)
        return keep

    def prepare_create(self, obj: Object, write: Write) -> None:
        if self.version.has_status:
            obj.pop("status", None)
        obj["metadata"]["generation"] = 1

    def validate_create(self, obj: Object, write: Write) -> list[FieldError]:
        return objects.validate_create(self._seen(obj), self.version, namespaced=self._resource.namespaced)

    def warnings(self, new: Object, old: Object | None, subresource: str = "") -> list[str]:
        return [] if subresource else objects.warnings(new, old)

    # -- update

    def prepare_update(self, new: Object, old: Object, write: Write) -> None:
        if self.version.has_status:
            copy_field(new, old, "status")
        if _content(new) != _content(old):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1

    def validate_update(self, new: Object, old: Object, write: Write) -> list[FieldError]:
        return self._checked(objects.validate_update, new, old, write)

    # -- status

    def prepare_status_update(self, new: Object, old: Object, write: Write) -> None:
        """Nothing but the status is the caller's, and who owns which field of it."""
        fields = new["metadata"].get("managedFields")
        meta = copy(old["metadata"])
        meta.pop("managedFields", None)
        new["metadata"] = {**meta, "managedFields": fields} if fields else meta
        for name in (new.keys() | old.keys()) - {"status", "metadata"}:
            copy_field(new, old, name)

    def validate_status_update(self, new: Object, old: Object, write: Write) -> list[FieldError]:
        return self._checked(objects.validate_status_update, new, old, write)

    def _checked(self, validate: _Validate, new: Object, old: Object, write: Write) -> list[FieldError]:
        warnings: list[str] = []
        namespaced = self._resource.namespaced
        problems = validate(self._seen(new), self._seen(old), self.version, warnings, namespaced=namespaced)
        for warning in warnings:
            write.warn(warning)
        return problems


def _content(obj: Object) -> Object:
    return {name: value for name, value in obj.items() if name != "metadata"}
