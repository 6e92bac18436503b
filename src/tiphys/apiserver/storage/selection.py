"""``Selection``: which objects a list or a watch is about.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tiphys.api.meta.selectors import Selector
from tiphys.apiserver.storage.entry import Entry


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """``position`` is that of the field's value in an entry; -1 is the name, -2 the namespace."""

    position: int
    value: str
    equal: bool = True

    def matches(self, entry: Entry) -> bool:
        return (self.read(entry) == self.value) is self.equal

    def read(self, entry: Entry) -> str:
        if self.position >= 0:
            return entry.fields[self.position]
        return entry.name if self.position == NAME else entry.namespace


NAME, NAMESPACE = -1, -2


@dataclass(frozen=True, slots=True)
class Selection:
    """Everything under ``prefix`` (a key prefix, so a namespace or all) that matches labels and fields.

    ``key`` identifies the selection: watches with equal keys share the work.
    """

    prefix: str
    namespace: str = ""
    labels: Selector | None = None
    terms: tuple[FieldTerm, ...] = ()
    key: tuple[str, ...] = field(default=())

    @property
    def is_everything(self) -> bool:
        return self.labels is None and not self.terms

    def matches(self, entry: Entry) -> bool:
        if self.namespace and entry.namespace != self.namespace:
            return False
        if self.labels is not None and not self.labels.matches(entry.labels):
            return False
        return all(term.matches(entry) for term in self.terms)

    def index(self) -> tuple[int, str] | None:
        """A field and its value that every match has, if there is one: the most selective first."""
        for term in self.terms:
            if term.equal and term.position != NAMESPACE:
                return term.position, term.value
        return (NAMESPACE, self.namespace) if self.namespace else None
