"""The seam of admission: a plugin says what it handles, and changes or judges it.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/
"""

from __future__ import annotations

from tiphys.api import errors
from tiphys.api.gotext import quote
from tiphys.api.meta import names
from tiphys.apiserver.admission.attributes import Attributes


class Plugin:
    """``resources`` holds (group, plural) pairs, empty for all; ``operations`` CREATE, UPDATE, DELETE, CONNECT.

    Plugins override ``admit`` (may change ``attributes.object``), ``validate`` (may not), or both. Either raises a
    ``StatusError`` to refuse. ``subresources`` lists which subresources are seen; the empty one is the object itself.
    """

    name = ""
    resources: frozenset[tuple[str, str]] = frozenset()
    operations: frozenset[str] = frozenset()
    subresources: frozenset[str] | None = frozenset(("",))

    def handles(self, operation: str, group: str, plural: str, subresource: str) -> bool:
        return (
            operation in self.operations
            and (not self.resources or (group, plural) in self.resources)
            and (self.subresources is None or subresource in self.subresources)
        )

    async def admit(self, attributes: Attributes) -> None:
        """Change the object, or refuse the request."""

    async def validate(self, attributes: Attributes) -> None:
        """Refuse the request."""

    async def close(self) -> None:
        """Release what the plugin holds: the server stops."""

    def mutates(self) -> bool:
        return type(self).admit is not Plugin.admit

    def validates(self) -> bool:
        return type(self).validate is not Plugin.validate


def lookup_problem(name: str) -> str:
    """Why no client could ask for an object of this name, in the words of upstream's client; empty if one could."""
    if not name:
        return "resource name may not be empty"
    problems = names.path_segment_name(name)
    return f"invalid resource name {quote(name)}: [{' '.join(problems)}]" if problems else ""


def forbid(attributes: Attributes, reason: object) -> errors.StatusError:
    """The refusal in upstream's form, which names the object, or the resource if the object has no name yet."""
    name = attributes.name
    if attributes.object is not None:
        meta = attributes.object.get("metadata") or {}
        name = meta.get("name") or name or meta.get("generateName") or ""
        if not meta.get("name") and not attributes.name and meta.get("generateName"):
            name = "Unknown"
    return errors.forbidden(attributes.group, attributes.plural, name or "Unknown", reason)
