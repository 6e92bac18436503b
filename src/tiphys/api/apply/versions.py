"""One object in the versions that its managers wrote it in.

A manager's set of fields is in the version that it wrote. To see what a change means for it, the objects before and
after are converted to that version and compared there. A version that is not there any more gives no object: what was
owned in it is forgotten. Source: KEP-555
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tiphys.api.apply.compare import Comparison, compare
from tiphys.api.apply.fieldset import Filter
from tiphys.api.object import Object
from tiphys.api.schema import Schema

Converter = Callable[[Object, str, str], tuple[Object, Schema] | None]
"""``(object, its API version, wanted API version)`` to the converted object and its type; None for no such version."""


def no_versions(obj: Object, source: str, target: str) -> tuple[Object, Schema] | None:
    """The converter of kinds that have one version."""
    return None


@dataclass(slots=True)
class Change:
    """An object before and after, compared in any version."""

    old: Object
    new: Object
    api_version: str
    schema: Schema
    convert: Converter = no_versions
    filters: Mapping[str, Filter] = field(default_factory=dict)
    _found: dict[str, Comparison | None] = field(default_factory=dict)

    def at(self, api_version: str) -> Comparison | None:
        """The comparison in a version; None if that version is not served."""
        if api_version not in self._found:
            self._found[api_version] = self._compare(api_version)
        return self._found[api_version]

    def _compare(self, api_version: str) -> Comparison | None:
        keep = self.filters.get(api_version)
        if api_version == self.api_version:
            return compare(self.old, self.new, self.schema).filtered(keep)
        old = self.convert(self.old, self.api_version, api_version)
        new = self.convert(self.new, self.api_version, api_version)
        if old is None or new is None:
            return None
        return compare(old[0], new[0], new[1]).filtered(keep)
