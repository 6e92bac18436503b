"""What admission sees of a write.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tiphys.api.object import Object
from tiphys.api.scheme import GroupVersionKind, Resource
from tiphys.apiserver.aside import aside
from tiphys.apiserver.call import User
from tiphys.apiserver.warnings import add_warning

T = TypeVar("T")

CREATE, UPDATE, DELETE, CONNECT = "CREATE", "UPDATE", "DELETE", "CONNECT"


def _not_recorded(key: str, value: str) -> None:
    """Nobody records the request."""


def _never_made(key: str, value: Callable[[], str]) -> None:
    """Nobody records the request."""


def _as_it_is(obj: Object) -> Object:
    return obj


@dataclass(slots=True)
class Attributes:
    """``object`` is what is to be written, in the version of the request, and may be changed by mutating plugins;
    ``old`` what is there now. One of them is None for a creation or a deletion."""

    operation: str
    resource: Resource
    kind: GroupVersionKind
    """Of ``object``; a subresource such as scale has its own."""
    version: str
    """Of the resource, as in the path."""
    user: User
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    object: Object | None = None
    old: Object | None = None
    dry_run: bool = False
    options: Object = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    annotate: Callable[[str, str], None] = _not_recorded
    """Adds an annotation, key and value, to the request's audit event."""
    annotate_request: Callable[[str, Callable[[], str]], None] = _never_made
    """The same for what holds parts of the object: its value is made if the audit level is ``Request`` or above."""
    renew: Callable[[Object], Object] = _as_it_is
    """Brings an object that came from outside, such as from a webhook, into the form of one that was decoded."""
    wants_second_run: bool = False
    """Set by a mutating plugin after whose change the others should look again."""
    is_second_run: bool = False
    big: bool = False
    """Whether the objects are so long that work on them leaves the loop."""
    memory: dict[str, Any] = field(default_factory=dict)
    """What a plugin keeps from the first run for the second, by its name."""

    @property
    def group(self) -> str:
        return self.resource.group

    @property
    def plural(self) -> str:
        return self.resource.plural

    def new(self) -> Object:
        """The object to be written, if the operation has one."""
        assert self.object is not None
        return self.object

    async def work(self, on_objects: Callable[[], T]) -> T:
        """What a plugin does with every part of the objects: beside the loop if they are big."""
        return await aside(on_objects) if self.big else on_objects()

    def warn(self, text: str) -> None:
        add_warning(self.warnings, text)
