"""Where a pod may run: node selectors, affinity, tolerations, topology spread, scheduling gates.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/
"""

from __future__ import annotations

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.validation.pods.podoptions import PodOptions
from tiphys.validation.shared.common import (
    Errors,
    invalid_all,
    label_selector,
    name_is_label,
    name_is_subdomain,
    positive,
    qualified,
)

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_OPERATOR = "not a valid selector operator"


def affinity(errs: Errors, rules: Object, path: str, options: PodOptions) -> None:
    """Validate node affinity, pod affinity and anti-affinity; appends to ``errs``."""
    if node := rules.get("nodeAffinity"):
        required = node.get(_REQUIRED)
        if required is not None:
            node_selector(
                errs, required, f"{path}.nodeAffinity.{_REQUIRED}", allow_bad_values=options.node_affinity_values
            )
        for i, term in enumerate(node.get(_PREFERRED) or ()):
            at = f"{path}.nodeAffinity.{_PREFERRED}[{i}]"
            _weight(errs, term, at)
            node_selector_term(errs, term.get("preference") or {}, f"{at}.preference", allow_bad_values=True)
    for key in ("podAffinity", "podAntiAffinity"):
        part = rules.get(key) or {}
        for i, term in enumerate(part.get(_REQUIRED) or ()):
            _pod_term(errs, term, f"{path}.{key}.{_REQUIRED}[{i}]", options)
        for i, weighted in enumerate(part.get(_PREFERRED) or ()):
            at = f"{path}.{key}.{_PREFERRED}[{i}]"
            _weight(errs, weighted, at)
            _pod_term(errs, weighted.get("podAffinityTerm") or {}, f"{at}.podAffinityTerm", options)


def _weight(errs: Errors, term: Object, path: str) -> None:
    weight = term.get("weight") or 0
    if not 0 < weight <= 100:
        errs.append(field.invalid(f"{path}.weight", weight, "must be in the range 1-100"))


def node_selector(errs: Errors, selector: Object, path: str, *, allow_bad_values: bool = False) -> None:
    terms = selector.get("nodeSelectorTerms")
    if not terms:
        text = "must have at least one node selector term"
        errs.append(field.required(f"{path}.nodeSelectorTerms", text))
        return
    for i, term in enumerate(terms):
        node_selector_term(errs, term or {}, f"{path}.nodeSelectorTerms[{i}]", allow_bad_values=allow_bad_values)


def node_selector_term(errs: Errors, term: Object, path: str, *, allow_bad_values: bool) -> None:
    for i, requirement in enumerate(term.get("matchExpressions") or ()):
        _node_requirement(errs, requirement, f"{path}.matchExpressions[{i}]", allow_bad_values=allow_bad_values)
    for i, requirement in enumerate(term.get("matchFields") or ()):
        _field_requirement(errs, requirement, f"{path}.matchFields[{i}]")


def _node_requirement(errs: Errors, requirement: Object, path: str, *, allow_bad_values: bool) -> None:
    operator, values = requirement.get("operator") or "", requirement.get("values") or ()
    if operator in ("In", "NotIn"):
        if not values:
            text = "must be specified when `operator` is 'In' or 'NotIn'"
            errs.append(field.required(f"{path}.values", text))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errs.append(field.forbidden(f"{path}.values", text))
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            text = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            errs.append(field.required(f"{path}.values", text))
    else:
        errs.append(field.invalid(f"{path}.operator", operator, _OPERATOR))
    qualified(errs, requirement.get("key") or "", f"{path}.key")
    if not allow_bad_values:
        for i, value in enumerate(values):
            invalid_all(errs, f"{path}.values[{i}]", value, names.label_value(value))


def _field_requirement(errs: Errors, requirement: Object, path: str) -> None:
    """The one field of a node that can be selected by is its name."""
    operator, values = requirement.get("operator") or "", requirement.get("values") or ()
    if operator in ("In", "NotIn"):
        if len(values) != 1:
            text = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            errs.append(field.required(f"{path}.values", text))
    else:
        errs.append(field.invalid(f"{path}.operator", operator, _OPERATOR))
    key = requirement.get("key") or ""
    if key != "metadata.name":
        errs.append(field.invalid(f"{path}.key", key, "not a valid field selector key"))
        return
    for i, value in enumerate(values):
        invalid_all(errs, f"{path}.values[{i}]", value, name_is_subdomain(value))


def _pod_term(errs: Errors, term: Object, path: str, options: PodOptions) -> None:
    label_selector(errs, term.get("labelSelector"), f"{path}.labelSelector", allow_bad_values=options.selector_values)
    label_selector(
        errs, term.get("namespaceSelector"), f"{path}.namespaceSelector", allow_bad_values=options.selector_values
    )
    for name in term.get("namespaces") or ():
        invalid_all(errs, f"{path}.namespace", name, name_is_label(name))
    match_label_keys(errs, term, path)
    key = term.get("topologyKey") or ""
    if not key:
        errs.append(field.required(f"{path}.topologyKey", "can not be empty"))
    qualified(errs, key, f"{path}.topologyKey")


def match_label_keys(errs: Errors, holder: Object, path: str) -> None:
    """``matchLabelKeys`` and ``mismatchLabelKeys`` add to a selector, and so need one, and do not repeat it."""
    match, mismatch = holder.get("matchLabelKeys") or [], holder.get("mismatchLabelKeys") or []
    if not match and not mismatch:
        return
    selector = holder.get("labelSelector")
    for key, keys in (("matchLabelKeys", match), ("mismatchLabelKeys", mismatch)):
        if keys and selector is None:
            errs.append(field.forbidden(f"{path}.{key}", "must not be specified when labelSelector is not set"))
            continue
        for i, name in enumerate(keys):
            qualified(errs, name, f"{path}.{key}[{i}]")
    if selector is not None:
        _not_selected_twice(errs, selector, match, path)
    unlike = set(mismatch)
    for i, name in enumerate(match):
        if name in unlike:
            text = "exists in both matchLabelKeys and mismatchLabelKeys"
            errs.append(field.invalid(f"{path}.matchLabelKeys[{i}]", name, text))


def _not_selected_twice(errs: Errors, selector: Object, match: list[str], path: str) -> None:
    """The server itself adds the keys to the expressions once; a second time is the author's mistake."""
    index = {name: i for i, name in enumerate(match)}
    seen = set(selector.get("matchLabels") or ())
    for expression in selector.get("matchExpressions") or ():
        key = expression.get("key") or ""
        if key in index and key in seen:
            text = "exists in both matchLabelKeys and labelSelector"
            errs.append(field.invalid(f"{path}[{index[key]}]", key, text))
        seen.add(key)


def tolerations(errs: Errors, items: list[Object], path: str, options: PodOptions) -> None:
    for i, toleration in enumerate(items):
        _toleration(errs, toleration, f"{path}[{i}]", options)


def _toleration(errs: Errors, toleration: Object, path: str, options: PodOptions) -> None:
    """Validate a toleration; appends to ``errs``."""
    key, operator = toleration.get("key") or "", toleration.get("operator") or ""
    value, effect = toleration.get("value") or "", toleration.get("effect") or ""
    if key:
        qualified(errs, key, f"{path}.key")
    elif operator != "Exists":
        text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        errs.append(field.invalid(f"{path}.operator", operator, text))
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        errs.append(field.invalid(f"{path}.effect", effect, text))
    if operator in ("Equal", ""):
        if problems := names.label_value(value):
            errs.append(field.invalid(f"{path}.operator", value, ";".join(problems)))
    elif operator == "Exists":
        if value:
            text = "value must be empty when `operator` is 'Exists'"
            errs.append(field.invalid(f"{path}.operator", value, text))
    elif operator in ("Lt", "Gt"):
        if not options.compare_tolerations:
            errs.append(field.not_supported(f"{path}.operator", operator, ("Equal", "Exists", "Lt", "Gt")))
    else:
        errs.append(field.not_supported(f"{path}.operator", operator, ("Equal", "Exists")))
    if effect:
        taint_effect(errs, effect, f"{path}.effect")


def taint_effect(errs: Errors, effect: str, path: str) -> None:
    if effect not in _EFFECTS:
        errs.append(field.not_supported(path, effect, _EFFECTS))


def spread_constraints(errs: Errors, constraints: list[Object], path: str, options: PodOptions) -> None:
    """Validate topology spread constraints, unique by key and action; appends to ``errs``."""
    last = {_identity(constraint): i for i, constraint in enumerate(constraints)}
    for i, constraint in enumerate(constraints):
        at = f"{path}[{i}]"
        key, action = constraint.get("topologyKey") or "", constraint.get("whenUnsatisfiable") or ""
        positive(errs, constraint.get("maxSkew") or 0, f"{at}.maxSkew")
        if not key:
            errs.append(field.required(f"{at}.topologyKey", "can not be empty"))
        if action not in ("DoNotSchedule", "ScheduleAnyway"):
            errs.append(field.not_supported(f"{at}.whenUnsatisfiable", action, ("DoNotSchedule", "ScheduleAnyway")))
        if last[key, action] > i:
            errs.append(field.duplicate(f"{at}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {action}}}"))
        _spread_details(errs, constraint, action, at)
        if options.spread_match_label_keys:
            _legacy_match_label_keys(errs, constraint, f"{at}.matchLabelKeys")
        else:
            match_label_keys(errs, {**constraint, "mismatchLabelKeys": None}, at)
        if not options.spread_selector:
            label_selector(errs, constraint.get("labelSelector"), f"{at}.labelSelector")


def _identity(constraint: Object) -> tuple[str, str]:
    return constraint.get("topologyKey") or "", constraint.get("whenUnsatisfiable") or ""


def _spread_details(errs: Errors, constraint: Object, action: str, path: str) -> None:
    domains = constraint.get("minDomains")
    if domains is not None:
        positive(errs, domains, f"{path}.minDomains")
        if action != "DoNotSchedule":
            text = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
            errs.append(field.invalid(f"{path}.minDomains", domains, text))
    for key in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
        policy = constraint.get(key)
        if policy is not None and policy not in ("Honor", "Ignore"):
            errs.append(field.not_supported(f"{path}.{key}", policy, ("Honor", "Ignore")))


def _legacy_match_label_keys(errs: Errors, constraint: Object, path: str) -> None:
    """The rule of before the keys were merged into the selector, for pods of that time."""
    keys = constraint.get("matchLabelKeys") or []
    if not keys:
        return
    selector = constraint.get("labelSelector")
    selected: set[str] = set()
    if selector is None:
        errs.append(field.forbidden(path, "must not be specified when labelSelector is not set"))
    else:
        selected |= set(selector.get("matchLabels") or ())
        selected |= {e.get("key") or "" for e in selector.get("matchExpressions") or ()}
    for i, key in enumerate(keys):
        qualified(errs, key, f"{path}[{i}]")
        if key in selected:
            errs.append(field.invalid(f"{path}[{i}]", key, "exists in both matchLabelKeys and labelSelector"))


def scheduling_gates(errs: Errors, gates: list[Object], path: str) -> None:
    seen: set[str] = set()
    for i, gate in enumerate(gates):
        name = gate.get("name") or ""
        qualified(errs, name, f"{path}[{i}]")
        if name in seen:
            errs.append(field.duplicate(f"{path}[{i}]", name))
        seen.add(name)
