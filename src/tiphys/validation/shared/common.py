"""What the validations of all groups share.

A validation appends to the list ``errs`` it is given, in the order in which upstream reports, and takes the path of
what it looks at as text. The paths of single fields are put together only when there is something to report.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from tiphys.api import fielderrors as field
from tiphys.api.fielderrors import FieldError
from tiphys.api.meta import names
from tiphys.api.meta.equality import equal as equal
from tiphys.api.object import Object

Errors = list[FieldError]
T = TypeVar("T", bound=Hashable)

NEGATIVE = "must be greater than or equal to 0"
NOT_POSITIVE = "must be greater than zero"
IMMUTABLE = "field is immutable"
MAX_INT32 = 2147483647

_REASON = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"
_REASON_RE = re.compile(_REASON)
_REASON_TEXT = names.regex_error(
    "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric "
    "characters or '_,:', and must end with an alphanumeric character or '_'",
    _REASON,
    "my_name",
    "MY_NAME",
    "MyName",
    "ReasonA,ReasonB",
    "ReasonA:ReasonB",
)


def invalid_all(errs: Errors, path: str, value: Any, complaints: Iterable[str]) -> None:
    """One error for each complaint about one value."""
    for text in complaints:
        errs.append(field.invalid(path, value, text))


def with_repeats(items: Iterable[T]) -> Iterator[tuple[int, T, bool]]:
    """Each item with its number, and whether an equal one came before it."""
    seen = set[T]()
    for number, item in enumerate(items):
        yield number, item, item in seen
        seen.add(item)


def non_negative(errs: Errors, value: int | None, path: str) -> None:
    if value is not None and value < 0:
        errs.append(field.invalid(path, value, NEGATIVE))


def positive(errs: Errors, value: int, path: str) -> None:
    if value <= 0:
        errs.append(field.invalid(path, value, NOT_POSITIVE))


def one_of(errs: Errors, value: Any, path: str, supported: Iterable[str]) -> None:
    if value not in supported:
        errs.append(field.not_supported(path, value, supported))


def immutable(errs: Errors, new: Any, old: Any, path: str, detail: str = IMMUTABLE) -> None:
    if not equal(new, old):
        errs.append(field.invalid(path, new, detail))


def label(errs: Errors, value: str, path: str) -> None:
    invalid_all(errs, path, value, names.dns1123_label(value))


def subdomain(errs: Errors, value: str, path: str) -> None:
    invalid_all(errs, path, value, names.dns1123_subdomain(value))


def qualified(errs: Errors, value: str, path: str) -> None:
    invalid_all(errs, path, value, names.qualified_name(value))


def path_segment(errs: Errors, value: str | None, path: str) -> None:
    """A required name that only has to fit into a path."""
    if not value:
        errs.append(field.required(path))
    else:
        invalid_all(errs, path, value, names.path_segment_name(value))


def domain_prefixed_path(errs: Errors, value: str, path: str) -> None:
    """A domain and a path: ``acme.io/foo``."""
    host, slash, rest = value.partition("/")
    if not value:
        errs.append(field.required(path))
    elif not slash or not host or not rest:
        errs.append(field.invalid(path, value, 'must be a domain-prefixed path (such as "acme.io/foo")'))
    else:
        invalid_all(errs, path, host, names.dns1123_subdomain(host))
        if not re.fullmatch(names.HTTP_PATH, rest):
            errs.append(field.invalid(path, rest, names.regex_error("Invalid path", names.HTTP_PATH)))


def fully_qualified_domain(errs: Errors, value: str, path: str) -> None:
    """A domain of two labels at least; a dot may follow."""
    if not value:
        errs.append(field.required(path))
        return
    name = value.removesuffix(".")
    if problems := names.dns1123_subdomain(name):
        errs.append(field.invalid(path, name, ",".join(problems)))
        return
    if "." not in name:
        errs.append(field.invalid(path, name, "should be a domain with at least two segments separated by dots"))
        return
    for part in name.split("."):
        if problems := names.dns1123_label(part):
            errs.append(field.invalid(path, part, ",".join(problems)))
            return


def labels(errs: Errors, entries: Mapping[str, str] | None, path: str) -> None:
    if not entries:
        return
    for key, value in entries.items():
        for text in names.qualified_name(key):
            errs.append(field.invalid(path, key, text))
        for text in names.label_value(value or ""):
            errs.append(field.invalid(path, value, text))


def label_selector(
    errs: Errors, selector: Object | None, path: str, *, allow_bad_values: bool = False, allow_unknown: bool = False
) -> None:
    if not selector:
        return
    labels(errs, selector.get("matchLabels"), f"{path}.matchLabels")
    for i, requirement in enumerate(selector.get("matchExpressions") or ()):
        _requirement(
            errs,
            requirement,
            f"{path}.matchExpressions[{i}]",
            allow_bad_values=allow_bad_values,
            allow_unknown=allow_unknown,
        )


def _requirement(errs: Errors, requirement: Object, path: str, *, allow_bad_values: bool, allow_unknown: bool) -> None:
    operator, values = requirement.get("operator") or "", requirement.get("values") or ()
    selector_operator(errs, operator, values, path, allow_unknown=allow_unknown)
    qualified(errs, requirement.get("key") or "", f"{path}.key")
    if not allow_bad_values:
        for i, value in enumerate(values):
            invalid_all(errs, f"{path}.values[{i}]", value, names.label_value(value))


def selector_operator(
    errs: Errors, operator: str, values: Iterable[Any], path: str, *, allow_unknown: bool = False
) -> None:
    """In and NotIn want values, Exists and DoesNotExist have none."""
    if operator in ("In", "NotIn"):
        if not values:
            text = "must be specified when `operator` is 'In' or 'NotIn'"
            errs.append(field.required(f"{path}.values", text))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errs.append(field.forbidden(f"{path}.values", text))
    elif not allow_unknown:
        errs.append(field.invalid(f"{path}.operator", operator, "not a valid selector operator"))


def selector_has_bad_value(selector: Object | None) -> bool:
    """A value that older servers let through; such a selector is tolerated on update."""
    expressions = (selector or {}).get("matchExpressions") or ()
    return any(names.label_value(value) for e in expressions for value in e.get("values") or ())


def sorted_map(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A map as JSON shows it, in the order of its keys; None if it is missing."""
    return {key: value[key] for key in sorted(value)} if value is not None else None


def condition(errs: Errors, entry: Object, path: str) -> None:
    """A ``metav1.Condition``."""
    qualified(errs, entry.get("type") or "", f"{path}.type")
    one_of(errs, entry.get("status") or "", f"{path}.status", ("False", "True", "Unknown"))
    if (entry.get("observedGeneration") or 0) < 0:
        value = entry["observedGeneration"]
        errs.append(field.invalid(f"{path}.observedGeneration", value, "must be greater than or equal to zero"))
    if not entry.get("lastTransitionTime"):
        errs.append(field.required(f"{path}.lastTransitionTime"))
    reason = entry.get("reason") or ""
    if not reason:
        errs.append(field.required(f"{path}.reason"))
    else:
        if not _REASON_RE.fullmatch(reason):
            errs.append(field.invalid(f"{path}.reason", reason, _REASON_TEXT))
        if names.byte_length(reason) > 1024:
            errs.append(field.too_long(f"{path}.reason", 1024))
    if names.byte_length(entry.get("message") or "") > 32 * 1024:
        errs.append(field.too_long(f"{path}.message", 32 * 1024))


def conditions(errs: Errors, items: list[Object] | None, path: str) -> None:
    seen: set[str] = set()
    for i, entry in enumerate(items or ()):
        kind = entry.get("type") or ""
        if kind in seen:
            errs.append(field.duplicate(f"{path}[{i}].type", kind))
        seen.add(kind)
        condition(errs, entry, f"{path}[{i}]")


class NameCheck(Protocol):
    """Checks a name, or (``prefix``) the first part of one, to which more will be appended. Returns what is wrong."""

    def __call__(self, name: str, *, prefix: bool) -> list[str]: ...


def _unprefixed(name: str, *, prefix: bool) -> str:
    """What a generated name would look like up to the dash: the dash and the letter before it count as one letter."""
    return name[:-2] + "a" if prefix and len(name) > 1 and name.endswith("-") else name


def name_is_subdomain(name: str, *, prefix: bool = False) -> list[str]:
    return names.dns1123_subdomain(_unprefixed(name, prefix=prefix))


def name_is_label(name: str, *, prefix: bool = False) -> list[str]:
    return names.dns1123_label(_unprefixed(name, prefix=prefix))


def name_is_path_segment(name: str, *, prefix: bool = False) -> list[str]:
    return names.path_segment_prefix(name) if prefix else names.path_segment_name(name)
