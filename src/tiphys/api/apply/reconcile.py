"""Owned fields brought in line with a type that changed.

If a list or map became atomic since a manager's set was written, the manager owns it as one piece from now on.
Built-in types do not change while a server runs; those of custom resources do.
Source: KEP-2155, "Topology changes".
"""

from __future__ import annotations

from tiphys.api.apply.fieldset import SELF, FieldSet
from tiphys.api.apply.managers import Managers
from tiphys.api.apply.shapes import DEDUCED, ENTRIES, ITEMS, LEAF, STRUCT, TypePlan, plan_of
from tiphys.api.apply.versions import Converter
from tiphys.api.schema import ARRAY, MAP, OBJECT, Schema


def reconcile(managers: Managers, schema: Schema, api_version: str, convert: Converter) -> Managers:
    """The managers with sets that fit the type. Sets of other versions are left: they are compared by conversion."""
    reconciled: Managers = {}
    for identity, entry in managers.items():
        if entry.api_version == api_version:
            fields = _fit(entry.fields, plan_of(schema))
            reconciled[identity] = entry if fields is entry.fields else entry.with_fields(fields)
        else:
            reconciled[identity] = entry
    return reconciled


def _fit(node: FieldSet, plan: TypePlan) -> FieldSet:
    if plan.shape == DEDUCED or not node:
        return node
    if plan.shape == LEAF:
        # Owned below, but one piece now.
        return {} if plan.schema.kind in (OBJECT, MAP, ARRAY) and set(node) != {SELF} else node
    fitted_node: FieldSet | None = None
    for element, below in node.items():
        inner = _below(plan, element)
        if inner is None or element == SELF:
            continue
        fitted = _fit(below, inner)
        if fitted is not below:
            fitted_node = dict(node) if fitted_node is None else fitted_node
            fitted_node[element] = fitted
    return node if fitted_node is None else fitted_node


def _below(plan: TypePlan, element: str) -> TypePlan | None:
    if plan.shape == STRUCT:
        known = plan.children.get(element[2:])
        return known[1] if known else None
    return plan.items if plan.shape in (ENTRIES, ITEMS) else None


__all__ = ["reconcile"]
