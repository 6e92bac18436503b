"""What claims, classes and slices say alike: names of drivers, pools and devices, selectors, configuration, taints.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.cel.expression import Expression, Use
from tiphys.validation.pods.volumes import csi_driver_name
from tiphys.validation.shared.common import (
    Errors,
    invalid_all,
    one_of,
    qualified,
    subdomain,
    with_repeats,
)
from tiphys.validation.shared.expressions import check

MAX_EXPRESSION = 10 * 1024
MAX_PARAMETERS = 10 * 1024
MAX_SELECTORS = MAX_CONFIG = 32
MAX_ID = 32
MAX_BINDING_CONDITIONS = 4
EFFECTS = ("NoExecute", "NoSchedule", "None")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Item = Callable[[Errors, Any, str], None]


def limited(errs: Errors, items: Sequence[Any] | None, maximum: int, item: Item, path: str) -> bool:
    """A list of limited length; what is in one that is too long is not looked at."""
    if items and 0 <= maximum < len(items):
        errs.append(field.too_many(path, len(items), maximum))
        return False
    for i, value in enumerate(items or ()):
        item(errs, value, f"{path}[{i}]")
    return True


def unique(
    errs: Errors,
    items: Sequence[Any] | None,
    maximum: int,
    item: Item,
    path: str,
    key: Callable[[Any], str] = str,
) -> None:
    """Validate a list of at most ``maximum`` items (negative: no limit) with unique keys; appends to ``errs``."""
    if not limited(errs, items, maximum, item, path):
        return
    seen: set[str] = set()
    for i, value in enumerate(items or ()):
        name = key(value)
        if name in seen:
            errs.append(field.duplicate(f"{path}[{i}]", name))
        seen.add(name)


def limited_map(
    errs: Errors, entries: Mapping[str, Any] | None, maximum: int, longest: int, key: Item, item: Item, path: str
) -> None:
    if entries and 0 <= maximum < len(entries):
        errs.append(field.too_many(path, len(entries), maximum))
        return
    for name, value in (entries or {}).items():
        key(errs, name, path)
        item(errs, value or {}, f"{path}[{shortened(name, longest)}]")


def shortened(name: str, longest: int) -> str:
    longest = max(longest, 16)
    if len(name) <= longest:
        return name
    rest = longest - 3
    return name[: (rest + 1) // 2] + "..." + name[len(name) - rest // 2 :]


def name_of(value: Object) -> str:
    return value.get("name") or ""


def pool_name(errs: Errors, name: str, path: str) -> None:
    if not name:
        errs.append(field.required(path))
        return
    if names.byte_length(name) > 253:
        errs.append(field.too_long(path, 253))
    for part in name.split("/"):
        subdomain(errs, part, path)


def uid(errs: Errors, value: str, path: str) -> None:
    if _UUID.fullmatch(value):
        return
    bare = value.removeprefix("urn:uuid:").strip("{}")
    if len(value) not in (32, 36, 38, 45):
        text = f"error validating uid: invalid UUID length: {len(value)}"
    elif not re.fullmatch(r"(?i)[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", bare):
        text = "error validating uid: invalid UUID format"
    else:
        text = (
            "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase "
            "hexadecimal characters"
        )
    errs.append(field.invalid(path, value, text))


def identifier(errs: Errors, name: str, path: str) -> None:
    if names.byte_length(name) > MAX_ID:
        errs.append(field.too_long(path, MAX_ID))
    invalid_all(errs, path, name, names.c_identifier(name))


def qualified_device_name(errs: Errors, name: str, path: str) -> None:
    """Of an attribute or a capacity: an identifier, maybe with the domain it belongs to."""
    parts = name.split("/")
    if len(parts) == 1:
        identifier(errs, name, path)
    elif len(parts) == 2:
        domain, rest = parts
        if not domain:
            errs.append(field.invalid(path, "", "the domain must not be empty"))
        else:
            csi_driver_name(errs, domain, path)
        if not rest:
            errs.append(field.invalid(path, "", "the name must not be empty"))
        else:
            identifier(errs, rest, path)


def full_device_name(errs: Errors, name: str, path: str) -> None:
    qualified_device_name(errs, name, path)
    if "/" not in name:
        text = "a fully qualified name must be a domain and a name separated by a slash"
        errs.append(field.invalid(path, name, text))


def selectors(errs: Errors, items: Sequence[Object] | None, path: str, *, stored: bool = False) -> None:
    def item(errs: Errors, selector: Object, at: str) -> None:
        cel = selector.get("cel")
        if cel is None:
            errs.append(field.required(f"{at}.cel"))
            return
        text = cel.get("expression") or ""
        if names.byte_length(text) > MAX_EXPRESSION:
            errs.append(field.too_long(f"{at}.cel.expression", MAX_EXPRESSION))
        else:
            check(errs, Expression(text, Use.DEVICE_SELECTOR, stored=stored), f"{at}.cel.expression")

    limited(errs, items, MAX_SELECTORS, item, path)


def configuration(errs: Errors, config: Object, path: str, *, stored: bool = False) -> None:
    opaque = config.get("opaque")
    if opaque is None:
        errs.append(field.required(f"{path}.opaque"))
        return
    csi_driver_name(errs, opaque.get("driver") or "", f"{path}.opaque.driver")
    json_object(errs, opaque.get("parameters"), f"{path}.opaque.parameters", stored=stored)


def json_object(errs: Errors, value: Any, path: str, maximum: int = MAX_PARAMETERS, *, stored: bool = False) -> None:
    if value is None:
        errs.append(field.required(path))
    elif not stored and names.byte_length(json.dumps(value, separators=(",", ":"), ensure_ascii=False)) > maximum:
        errs.append(field.too_long(path, maximum))
    elif not isinstance(value, dict):
        errs.append(field.invalid(path, "<value omitted>", "must be a valid JSON object"))


def taint(errs: Errors, entry: Object, path: str, old: Object | None = None) -> None:
    qualified(errs, entry.get("key") or "", f"{path}.key")
    if entry.get("value"):
        invalid_all(errs, f"{path}.value", entry["value"], names.label_value(entry["value"]))
    effect = entry.get("effect") or ""
    if old is not None and (old.get("effect") or "") == effect:
        return
    if not effect:
        errs.append(field.required(f"{path}.effect"))
    else:
        one_of(errs, effect, f"{path}.effect", EFFECTS)


def toleration(errs: Errors, entry: Object, path: str) -> None:
    """Validate a device toleration; appends to ``errs``."""
    operator, value = entry.get("operator") or "", entry.get("value") or ""
    if entry.get("key"):
        qualified(errs, entry["key"], f"{path}.key")
    if operator == "Exists":
        if value:
            errs.append(field.invalid(f"{path}.value", value, "must be empty for operator `Exists`"))
    elif operator == "Equal":
        invalid_all(errs, f"{path}.value", value, names.label_value(value))
    elif not operator:
        errs.append(field.required(f"{path}.operator"))
    else:
        errs.append(field.not_supported(f"{path}.operator", operator, ("Equal", "Exists")))
    if entry.get("effect"):
        one_of(errs, entry["effect"], f"{path}.effect", EFFECTS)


def binding_conditions(errs: Errors, obj: Object, path: str) -> None:
    """Conditions under which a pod may be bound, and those under which it must be scheduled again."""
    wanted, failed = obj.get("bindingConditions") or [], obj.get("bindingFailureConditions") or []
    limited(errs, wanted, MAX_BINDING_CONDITIONS, qualified, f"{path}.bindingConditions")
    limited(errs, failed, MAX_BINDING_CONDITIONS, qualified, f"{path}.bindingFailureConditions")
    for i, condition, repeated in with_repeats(wanted):
        if repeated:
            errs.append(field.duplicate(f"{path}.bindingConditions[{i}]", condition))
    awaited = set(wanted)
    for i, condition, repeated in with_repeats(failed):
        at = f"{path}.bindingFailureConditions[{i}]"
        if repeated:
            errs.append(field.duplicate(at, condition))
        if condition in awaited:
            text = "bindingFailureConditions must not overlap with bindingConditions"
            errs.append(field.invalid(at, condition, text))
    if failed and not wanted:
        text = "bindingConditions are required to use bindingFailureConditions"
        errs.append(field.invalid(f"{path}.bindingConditions", obj.get("bindingConditions"), text))
    if wanted and not failed:
        text = "bindingFailureConditions are required to use bindingConditions"
        errs.append(field.invalid(f"{path}.bindingFailureConditions", obj.get("bindingFailureConditions"), text))
