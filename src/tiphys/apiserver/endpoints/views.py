"""Other views of objects: as rows of a table, and as their metadata only.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""

from __future__ import annotations

from tiphys.api import errors, fielderrors
from tiphys.api.object import Object
from tiphys.api.tables.tables import IncludeObject, partial_metadata
from tiphys.apiserver.endpoints.negotiation import Form
from tiphys.apiserver.endpoints.target import Target


def partial(obj: Object, form: Form) -> Object:
    """A PartialObjectMetadata."""
    return partial_metadata(obj, form.version)


def table(target: Target, objects: list[Object], form: Form, meta: Object, *, headers: bool = True) -> Object:
    """A Table of objects in the version of the call; ``meta`` is that of the list."""
    return _rendered(target, objects, form, meta, target.registry.clock.now(), headers=headers)


def rows_of(target: Target, objects: list[Object], form: Form, now: float) -> list[Object]:
    """The rows of such a table, as of ``now`` in Unix seconds."""
    rows: list[Object] = _rendered(target, objects, form, {}, now, headers=False)["rows"]
    return rows


def _rendered(target: Target, objects: list[Object], form: Form, meta: Object, now: float, *, headers: bool) -> Object:
    rendered = target.table(objects, now, meta, include_of(form), headers=headers)
    rendered["apiVersion"] = f"meta.k8s.io/{form.version}"
    if form.include == "Metadata":
        for row in rendered["rows"]:
            row["object"]["apiVersion"] = rendered["apiVersion"]
    return rendered


def include_of(form: Form) -> IncludeObject:
    """What the rows of a table hold of their objects. Raises 400 for what is none of the three."""
    match form.include:
        case "None" | "Metadata" | "Object":
            return form.include
    error = fielderrors.invalid("includeObject", form.include, "must be 'Metadata', 'Object', 'None', or empty")
    raise errors.bad_request(f"Unable to convert to Table as requested: {error}")
