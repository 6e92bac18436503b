"""Whether a node is one that a pod may run on, by node selector and required node affinity.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/
"""

from __future__ import annotations

from tiphys.controlkit.objects import Object, labels_of, name_of


def matches(pod_spec: Object, node: Object) -> bool:
    """``spec.nodeSelector`` and ``requiredDuringSchedulingIgnoredDuringExecution`` together."""
    labels = labels_of(node)
    if any(labels.get(key) != value for key, value in (pod_spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return any(_matches_term(term, node) for term in required.get("nodeSelectorTerms") or ())


def _matches_term(term: Object, node: Object) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    labels = labels_of(node)
    own = {"metadata.name": name_of(node)}
    return all(_holds(wanted, labels.get(wanted["key"])) for wanted in expressions) and all(
        _holds(wanted, own.get(wanted["key"])) for wanted in fields
    )


def _holds(wanted: Object, value: str | None) -> bool:
    operator, values = wanted["operator"], wanted.get("values") or []
    if operator == "In":
        return value is not None and value in values
    if operator == "NotIn":
        return value is None or value not in values
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    return value is not None and _compares(operator, value, values)


def _compares(operator: str, value: str, values: list[str]) -> bool:
    try:
        have, limit = int(value), int(values[0])
    except (ValueError, IndexError):
        return False
    return have > limit if operator == "Gt" else operator == "Lt" and have < limit
