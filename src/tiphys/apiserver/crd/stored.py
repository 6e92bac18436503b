"""How custom resources are kept: in the storage version of their definition as it is now.

What is in the store may have been written under an older definition: it is brought into the present shape when it is
read, as if it were new; and what is written has only what the schema of the storage version knows.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from tiphys.api.codec.typed import whole_numbers
from tiphys.api.custom.shaping import default, drop_nulls, prune, shape
from tiphys.api.gotext import value_text
from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.api.scheme import CustomVersion, Resource
from tiphys.apiserver.storage.converted import ConvertedEntry, StoredEntry, stored_of
from tiphys.apiserver.storage.entry import Codec, Draft, Entry
from tiphys.apiserver.storage.foreign import CannotRead, read_value
from tiphys.validation.custom.objects import dig

_FRACTION = re.compile(rb"[0-9]\.0[,\]}]|[0-9]e[0-9]")
"""In the text of an object: a number that Go writes without a fraction."""


class CustomCodec(Codec):
    def __init__(self, resource: Resource) -> None:
        self.selectable = selectable_fields(resource)
        super().__init__(resource, self._fields_of)
        self._stored = resource.custom[resource.storage_version]
        self._differs = len(resource.custom) > 1

    def draft(self, obj: Object) -> Draft:
        if self._differs:
            # Only then can it have what this version does not know.
            obj = copy(obj)
            meta = obj["metadata"]
            prune(obj, self._stored.structural)
            drop_nulls(obj, self._stored.structural)
            default(obj, self._stored.structural)
            obj["metadata"] = meta
        return self.written(obj)

    def written(self, obj: Object) -> Draft:
        """The draft of an object that is in shape."""
        draft = super().draft(obj)
        if _FRACTION.search(draft.value):
            draft = super().draft(whole_numbers(copy(obj)))
        return draft

    def _parse(self, value: bytes) -> Object:
        obj = read_value(value)
        obj["kind"], obj["apiVersion"] = self._stored.gvk.kind, self._stored.gvk.api_version
        shape(obj, self._stored.structural)
        meta = obj.setdefault("metadata", {})
        if not meta.get("generation"):
            meta["generation"] = 1
        return obj

    def _fields_of(self, obj: Object) -> tuple[str, ...]:
        return tuple(_text(dig(obj, path)[0]) for path in self.selectable)


class StoredCodec(Codec):
    """For custom resources that a webhook converts: every object stays in the version that it has in the store."""

    def __init__(self, resource: Resource) -> None:
        super().__init__(resource, lambda _: ())
        self._of = {
            version.gvk.api_version: CustomCodec(replace(resource, storage_version=name))
            for name, version in resource.custom.items()
        }

    def of(self, version: str) -> CustomCodec:
        return self._of[f"{self.resource.group}/{version}"]

    def draft(self, obj: Object) -> Draft:
        return self._of[obj["apiVersion"]].draft(obj)

    def entry(
        self,
        key: str,
        value: bytes,
        revision: int,
        draft: Draft | None = None,
        create_revision: int = 0,
        lease: int = 0,
    ) -> StoredEntry:
        """The entry of a stored value in the version it is in. Raises ``CannotRead`` for a version nobody knows."""
        api_version = self._version_in(value)
        if api_version not in self._of:
            what = f"request to convert CR from an invalid group/version: {api_version}"
            raise CannotRead(what)
        made = self._of[api_version].entry(key, value, revision, draft, create_revision, lease)
        return StoredEntry.of(made, api_version.rpartition("/")[2])

    def _version_in(self, value: bytes) -> str:
        for api_version, codec in self._of.items():
            if value.startswith(codec.head):
                return api_version
        return str(read_value(value).get("apiVersion") or "")

    def object(self, entry: Entry) -> Object:
        return self.of(stored_of(entry).version).object(entry)

    def encoded(self, entry: Entry) -> bytes:
        return self.of(stored_of(entry).version).encoded(entry)

    def converted(self, obj: Object, stored: StoredEntry, version: str) -> ConvertedEntry:
        """The entry of an object that was converted to ``version``."""
        codec, revision = self.of(version), stored.revision
        draft = codec.written(obj)
        made = codec.entry(stored.key, draft.value, revision, draft, stored.create_revision, stored.lease)
        return ConvertedEntry.of_stored(made, stored)


def selectable_fields(resource: Resource) -> list[str]:
    """The paths that field selectors may name in some version, such as ``.spec.color``."""
    paths = dict.fromkeys(path for version in resource.custom.values() for path in version.selectable)
    return list(paths)


def _text(value: Any) -> str:
    return "" if value is None else value_text(value)


def in_version(stored: Object, version: CustomVersion) -> Object:
    """A stored object in another version, to which it is converted by name only; only what is written gets defaults."""
    obj = copy(stored)
    prune(obj, version.structural)
    drop_nulls(obj, version.structural)
    obj["apiVersion"] = version.gvk.api_version
    return obj
