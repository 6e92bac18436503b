"""Whether a custom resource keeps the rules in CEL of its schema (``x-kubernetes-validations``).

A rule is evaluated for each value that its schema describes. One that needs the old value is left out if there is
none. On an update, what fails but has not changed only warns. All rules together may cost so much.
Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Any

from tiphys.api.fielderrors import FieldError
from tiphys.api.object import Object
from tiphys.api.structural import RULES
from tiphys.cel.patience import Lengthy
from tiphys.cel.patience import current as current_patience

if TYPE_CHECKING:
    from tiphys.validation.custom.ruleplan import RulePlan

Errors = list[FieldError]

_planning = Lock()
_plans: OrderedDict[int, tuple[Object, bool, RulePlan | None]] = OrderedDict()
_MAX_PLANS = 256


def has_rules(schema: Object) -> bool:
    """Whether there is a rule anywhere in a structural schema."""
    if schema.get(RULES):
        return True
    inner = [*(schema.get("properties") or {}).values(), schema.get("items"), schema.get("additionalProperties")]
    inner += schema.get("allOf") or ()
    return any(has_rules(child) for child in inner if isinstance(child, dict))


def validate_rules(
    obj: Any, old: Any, schema: Object, path: str = "", warnings: list[str] | None = None, *, ratchets: bool = True
) -> Errors:
    """What the rules find wrong; ``warnings`` takes what is wrong as it was before. Without a path it is a resource.

    ``ratchets`` False: what has not changed must be right, too.
    """
    plan = _plan(schema, is_resource=not path)
    if plan is None:
        return []
    from tiphys.validation.custom.ruleplan import Checking

    return Checking(warnings).check(plan, obj, old, path, ratchets=ratchets)


def _plan(schema: Object, *, is_resource: bool) -> RulePlan | None:
    """The compiled rules of a schema. A schema is never changed, and kept as long as its plan."""
    with _planning:
        known = _plans.get(id(schema))
        if known is not None and known[0] is schema and known[1] is is_resource:
            _plans.move_to_end(id(schema))
            return known[2]
    plan: RulePlan | None = None
    if has_rules(schema):
        if current_patience() is not None:  # to compile them takes longer than to evaluate them
            raise Lengthy
        from tiphys.validation.custom.ruleplan import make_plan

        plan = make_plan(schema, schema, is_resource=is_resource)
    with _planning:
        _plans[id(schema)] = schema, is_resource, plan
        if len(_plans) > _MAX_PLANS:
            _plans.popitem(last=False)
    return plan
