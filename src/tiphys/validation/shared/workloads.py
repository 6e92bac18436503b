"""What the workload kinds share: selectors and their templates, amounts in numbers or percent, counts in a status.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/
"""

from __future__ import annotations

from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.meta.selectors import SelectorError, selector_from_object
from tiphys.api.object import Object
from tiphys.validation.shared.common import (
    Errors,
    invalid_all,
    label_selector,
    non_negative,
    sorted_map,
)

MISMATCH = "`selector` does not match template `labels`"


def selector(errs: Errors, given: Object | None, path: str, kind: str, *, allow_bad_values: bool = False) -> None:
    """A workload's selector is there and selects something."""
    if given is None:
        errs.append(field.required(path))
        return
    label_selector(errs, given, path, allow_bad_values=allow_bad_values)
    not_empty(errs, given, path, kind)


def not_empty(errs: Errors, label_selector: Object | None, path: str, kind: str) -> None:
    if (
        label_selector is not None
        and not label_selector.get("matchLabels")
        and not label_selector.get("matchExpressions")
    ):
        errs.append(field.invalid(path, {}, f"empty selector is invalid for {kind}"))


def template_labels(template: Object) -> dict[str, str] | None:
    labels: dict[str, str] | None = (template.get("metadata") or {}).get("labels")
    return labels


def matches(label_selector: Object | None, labels: dict[str, str] | None) -> bool | None:
    """Whether the selector matches; None if it is no selector at all. No selector matches nothing, an empty one all."""
    if label_selector is None:
        return False
    wanted = label_selector.get("matchLabels") or {}
    if any(names.qualified_name(key) or names.label_value(value or "") for key, value in wanted.items()):
        return None
    if not label_selector.get("matchExpressions"):
        have = labels or {}
        return all(have.get(key) == value for key, value in wanted.items())
    try:
        return selector_from_object(label_selector).matches(labels or {})
    except SelectorError:
        return None


def matches_template(errs: Errors, label_selector: Object | None, template: Object, path: str) -> bool:
    """Report a template that the selector does not match; false if the selector is broken."""
    have = template_labels(template)
    verdict = matches(label_selector, have)
    if verdict is False:
        errs.append(field.invalid(f"{path}.metadata.labels", sorted_map(have), MISMATCH))
    return verdict is not None


def int_or_percent(errs: Errors, value: Any, path: str) -> None:
    if isinstance(value, str):
        invalid_all(errs, path, value, names.percent(value))
    else:
        non_negative(errs, value, path)


def percentage(value: Any) -> int | None:
    return int(value[:-1]) if isinstance(value, str) and not names.percent(value) else None


def amount(value: Any) -> int:
    """A number, or the number before the percent sign; 0 for text that is neither."""
    share = percentage(value)
    if share is not None:
        return share
    if isinstance(value, str):
        digits = value[1:] if value[:1] in "+-" else value
        return int(value) if digits.isascii() and digits.isdecimal() else 0
    return value or 0


def at_most_all(errs: Errors, value: Any, path: str) -> None:
    share = percentage(value)
    if share is not None and share > 100:
        errs.append(field.invalid(path, value, "must not be greater than 100%"))


def counts(errs: Errors, status: Object, path: str, keys: tuple[str, ...]) -> None:
    for key in keys:
        non_negative(errs, status.get(key), f"{path}.{key}")


def not_more_than(errs: Errors, status: Object, path: str, keys: tuple[str, ...]) -> None:
    total = status.get("replicas") or 0
    for key in keys:
        value = status.get(key) or 0
        if value > total:
            errs.append(field.invalid(f"{path}.{key}", value, "cannot be greater than status.replicas"))


def available_are_ready(
    errs: Errors, status: Object, path: str, text: str = "cannot be greater than readyReplicas"
) -> None:
    available = status.get("availableReplicas") or 0
    if available > (status.get("readyReplicas") or 0):
        errs.append(field.invalid(f"{path}.availableReplicas", available, text))


def collisions_only_grow(errs: Errors, new: Object, old: Object) -> None:
    after, before = new.get("collisionCount"), old.get("collisionCount")
    if before is not None and (after is None or after < before):
        errs.append(field.invalid("status.collisionCount", after or 0, "cannot be decremented"))
