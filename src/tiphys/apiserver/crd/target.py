"""``CustomTarget``: a custom resource in the version of the path; and its scale, which is found by paths.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from tiphys.api import errors
from tiphys.api.codec.decoding import Decoded
from tiphys.api.codec.typed import DecodeError
from tiphys.api.custom import columns
from tiphys.api.custom.decoding import check_version, coerce, decode
from tiphys.api.custom.metadata import coerce_embedded, read_metadata
from tiphys.api.custom.shaping import default
from tiphys.api.object import Object
from tiphys.api.patch import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, patch_object
from tiphys.api.schema import Schema
from tiphys.api.scheme import CustomVersion, Resource, ScalePaths
from tiphys.api.tables.tables import IncludeObject, partial_metadata
from tiphys.apiserver.call import Call
from tiphys.apiserver.crd.stored import CustomCodec, StoredCodec, in_version
from tiphys.apiserver.crd.strategy import CustomStrategy
from tiphys.apiserver.endpoints.options import WriteOptions
from tiphys.apiserver.endpoints.subresources.scale import ScaleTarget, scale_of
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.registry.registry import Registry
from tiphys.apiserver.storage.converted import Conversions, ConvertedStore, StoredStore
from tiphys.apiserver.storage.selection import NAME, NAMESPACE
from tiphys.validation.custom.objects import number_at, text_at

CUSTOM_PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)


def custom_target(
    resource: Resource, version: str, registry: Registry, subresource: str, watch_seconds: float
) -> Target:
    """The target of a path, with the registry under the rules of its version, and in it if a webhook converts."""
    own = registry.under(CustomStrategy(resource, version))
    if isinstance(own.store, StoredStore):
        codec = own.store.codec
        assert isinstance(codec, StoredCodec)
        own.store = own.store.in_version(version, resource.storage_version, codec.of(version))
        own.resource = replace(resource, storage_version=version)
    kind = CustomScaleTarget if subresource == "scale" else CustomTarget
    return kind(resource, version, own, subresource, watch_seconds)


class CustomTarget(Target):
    patch_types = CUSTOM_PATCH_TYPES

    @cached_property
    def custom(self) -> CustomVersion:
        return self.resource.custom[self.version]

    @cached_property
    def schema(self) -> Schema:
        return self.custom.tree

    @cached_property
    def is_stored_version(self) -> bool:
        """Whether the registry has objects as they are shown: what a webhook converts is converted below it."""
        return self.version == self.registry.resource.storage_version

    # -- objects

    def decode(self, call: Call, options: WriteOptions) -> Object:
        media = call.request.headers.get("content-type", "")
        decoded = decode(call.request.body, media, self.custom, self.resource.custom, options.field_validation)
        for warning in decoded.warnings:
            call.warn(warning)
        check_version(decoded.object, self.custom)
        prepared = self.prepared(decoded.object)
        if call.trail is not None:
            call.trail.request_object(prepared)
        return prepared

    def patch(self, old: Object, body: bytes, media: str, field_validation: str) -> Decoded:
        def read(obj: Object) -> list[str]:
            return coerce(obj, self.resource.custom, self.gvk)

        return patch_object(old, body, media, self.gvk, self.schema, field_validation, read)

    def prepared(self, obj: Object) -> Object:
        obj.setdefault("metadata", {})
        default(obj, self.custom.structural)
        return obj

    def applied(self, obj: Object) -> Object:
        """Metadata, the one part with a type, gets its canonical form; nulls elsewhere are left to validation."""
        try:
            obj["metadata"], _ = read_metadata(obj.get("metadata"))
            coerce_embedded(obj, self.custom.structural, "", [])
        except DecodeError as error:
            raise errors.from_code(500, str(error)) from None
        return self.prepared(obj)

    def renew(self, obj: Object) -> Object:
        try:
            coerce(obj, self.resource.custom, self.gvk)
        except DecodeError as error:
            raise errors.internal(str(error)) from None
        return self.prepared(obj)

    def show(self, stored: Object) -> Object:
        return stored if self.is_stored_version else in_version(stored, self.custom)

    def merge(self, stored: Object | None, changed: Object) -> Object:
        if self.is_stored_version or changed.get("apiVersion") != self.gvk.api_version:
            return changed
        return {**changed, "apiVersion": self.stored.api_version}

    def converter(self, obj: Object, source: str, target: str) -> tuple[Object, Schema] | None:
        versions = {version.gvk.api_version: version for version in self.resource.custom.values()}
        if source not in versions or target not in versions:
            return None
        return {**obj, "apiVersion": target}, versions[target].tree

    @property
    def conversions(self) -> Conversions | None:
        store = self.registry.store
        return store.stored.conversions if isinstance(store, ConvertedStore) else None

    # -- selections and tables

    def _position(self, name: str) -> int:
        if name == "metadata.name":
            return NAME
        if name == "metadata.namespace" and self.resource.namespaced:
            return NAMESPACE
        codec = self.registry.store.codec
        assert isinstance(codec, CustomCodec)
        if f".{name}" not in self.custom.selectable:
            raise errors.bad_request(f"field label not supported: {name}")
        return codec.selectable.index(f".{name}")

    def table(
        self, objects: list[Object], now: float, meta: Object, include: IncludeObject, *, headers: bool = True
    ) -> Object:
        return _table(self.custom.columns or columns.default_columns(), objects, now, meta, include, headers=headers)


def _table(
    shown: tuple[Object, ...], objects: list[Object], now: float, meta: Object, include: IncludeObject, *, headers: bool
) -> Object:
    rendered = columns.table(shown, objects, now, with_headers=headers)
    for row, obj in zip(rendered["rows"], objects, strict=True):
        row["object"] = _of_row(obj, include)
    return {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta, **rendered}


def _of_row(obj: Object, include: IncludeObject) -> Object | None:
    if include == "None":
        return None
    return partial_metadata(obj) if include == "Metadata" else obj


_UNSET = -(2**31)
"""Stands for a number of replicas that is not there; no object can have it."""


class CustomScaleTarget(ScaleTarget):
    patch_types = CUSTOM_PATCH_TYPES

    """The scale of a custom resource, read from and written to where its definition says."""

    @cached_property
    def paths(self) -> ScalePaths:
        scale = self.resource.custom[self.version].scale
        assert scale is not None
        return scale

    @cached_property
    def replicas_path(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(self.paths.spec.removeprefix(".").split("."))

    def show(self, stored: Object) -> Object:
        scale, present = self._scale(stored)
        if not present:
            raise errors.internal(f'the spec replicas field "{self.paths.spec}" does not exist')
        return scale

    def _scale(self, stored: Object) -> tuple[Object, bool]:
        replicas, present, problem = number_at(stored, self.paths.spec)
        current, _, current_problem = number_at(stored, self.paths.status)
        selector, selector_problem = text_at(stored, self.paths.selector) if self.paths.selector else ("", "")
        if message := problem or current_problem or selector_problem:
            raise errors.from_code(500, message)
        return scale_of(stored, replicas, current, selector), present

    def judged(self, stored: Object) -> Object:
        return self._scale(stored)[0]

    def starting_point(self, stored: Object) -> Object:
        scale, present = self._scale(stored)
        if not present:
            scale["spec"]["replicas"] = _UNSET
        return scale

    def write_replicas(self, obj: Object, replicas: int) -> None:
        if replicas == _UNSET:
            raise errors.bad_request(f'the spec replicas field "{self.paths.spec}" cannot be empty')
        *parents, last = self.replicas_path
        for name in parents:
            obj = obj.setdefault(name, {})
        obj[last] = replicas

    def table(
        self, objects: list[Object], now: float, meta: Object, include: IncludeObject, *, headers: bool = True
    ) -> Object:
        shown = columns.SCALE_COLUMNS + columns.default_columns()
        return _table(shown, objects, now, meta, include, headers=headers)
