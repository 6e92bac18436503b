"""ResourceSlice: the devices that a driver has to offer, on a node or for several.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#resourceslice-v1-resource-k8s-io
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.validation.pods.placement import node_selector
from tiphys.validation.pods.volumes import csi_driver_name
from tiphys.validation.resource.devices import (
    MAX_ID,
    binding_conditions,
    limited,
    limited_map,
    name_of,
    pool_name,
    qualified_device_name,
    taint,
    unique,
)
from tiphys.validation.shared.common import (
    Errors,
    equal,
    immutable,
    invalid_all,
    label,
    name_is_subdomain,
)
from tiphys.validation.shared.internal import internal_value
from tiphys.validation.shared.objectmeta import validate_meta, validate_meta_update

MAX_DEVICES = 128
MAX_RICH_DEVICES = 64
"""Devices with taints or shared counters take more room."""
MAX_ATTRIBUTES = 32
MAX_ATTRIBUTE_VALUES = 48
MAX_COUNTER_SETS = 8
MAX_COUNTERS = 32
MAX_CONSUMED_SETS = 2
MAX_TAINTS = 16
MAX_VALUE = 64
MAX_OPTIONS = 10
_KEY = 63 + 1 + MAX_ID
_NUMBER = r"(0|[1-9]\d*)"
_PRE = r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_BUILD = r"[0-9a-zA-Z-]+"
_SEMVER = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_PRE}(\.{_PRE})*)?(\+{_BUILD}(\.{_BUILD})*)?",
    re.ASCII,
)
_LISTS = ("bools", "ints", "strings", "versions")


def validate_slice(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=False)
    _spec(errs, obj.get("spec") or {}, None)
    return errs


def validate_slice_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    _spec(errs, new.get("spec") or {}, old.get("spec") or {})
    return errs


def _spec(errs: Errors, spec: Object, old: Object | None) -> None:
    csi_driver_name(errs, spec.get("driver") or "", "spec.driver")
    pool = spec.get("pool") or {}
    pool_name(errs, name_of(pool), "spec.pool.name")
    count, generation = pool.get("resourceSliceCount") or 0, pool.get("generation") or 0
    if count <= 0:
        errs.append(field.invalid("spec.pool.resourceSliceCount", count, "must be greater than zero"))
    if generation < 0:
        errs.append(field.invalid("spec.pool.generation", generation, "must be greater than or equal to zero"))
    if old is not None:
        immutable(errs, name_of(pool), name_of(old.get("pool") or {}), "spec.pool.name")
        immutable(errs, spec.get("driver") or "", old.get("driver") or "", "spec.driver")
        immutable(errs, spec.get("nodeName"), old.get("nodeName"), "spec.nodeName")
    _placement(errs, spec)
    devices, counters = spec.get("devices"), spec.get("sharedCounters")
    if devices is not None and counters is not None:
        errs.append(field.invalid("spec", "", "only one of `sharedCounters` or `devices` is allowed"))
    known = {name_of(device): device for device in (old or {}).get("devices") or ()}
    device = partial(_device, known=known, per_device=bool(spec.get("perDeviceNodeSelection")))
    unique(errs, devices, _max_devices(devices or ()), device, "spec.devices", name_of)
    unique(errs, counters, MAX_COUNTER_SETS, _counter_set, "spec.sharedCounters", name_of)


def _max_devices(devices: Sequence[Object]) -> int:
    for device in devices:
        if device.get("taints") or device.get("consumesCounters"):
            return MAX_RICH_DEVICES
        if any(a.get(key) is not None for a in (device.get("attributes") or {}).values() for key in _LISTS):
            return MAX_RICH_DEVICES
    return MAX_DEVICES


def _placement(errs: Errors, spec: Object) -> None:
    """Validate that a slice names exactly one way of placement; appends to ``errs``."""
    places = []
    name, selector = spec.get("nodeName"), spec.get("nodeSelector")
    if name:
        places.append("`nodeName`")
        invalid_all(errs, "spec.nodeName", name, name_is_subdomain(name))
    elif name is not None:
        errs.append(field.invalid("spec.nodeName", name, "must be either unset or set to a non-empty string"))
    if selector is not None:
        places.append("`nodeSelector`")
        node_selector(errs, selector, "spec.nodeSelector")
        terms = selector.get("nodeSelectorTerms") or []
        if len(terms) != 1:
            at, text = "spec.nodeSelector.nodeSelectorTerms", "must have exactly one node selector term"
            shown = (internal_value("NodeSelector", selector) or {})["NodeSelectorTerms"]
            errs.append(field.invalid(at, shown, text))
    for key in ("allNodes", "perDeviceNodeSelection"):
        _only_true(errs, spec, key, places, "spec")
    choice = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
    if not places:
        errs.append(field.required("spec", choice))
    elif len(places) > 1:
        shown = f"{{{', '.join(places)}}}"
        errs.append(field.invalid("spec", shown, f"{choice}, but multiple fields are set"))


def _only_true(errs: Errors, obj: Object, key: str, places: list[str], path: str) -> None:
    if obj.get(key):
        places.append(f"`{key}`")
    elif obj.get(key) is not None:
        errs.append(field.invalid(f"{path}.{key}", False, "must be either unset or set to true"))


def _counter_set(errs: Errors, counters: Object, path: str) -> None:
    _counters(errs, counters, "name", path)


def _consumption(errs: Errors, consumption: Object, path: str) -> None:
    _counters(errs, consumption, "counterSet", path)


def _counters(errs: Errors, reference: Object, key: str, path: str) -> None:
    if not reference.get(key):
        errs.append(field.required(f"{path}.{key}"))
    else:
        label(errs, reference[key], f"{path}.{key}")
    counters = reference.get("counters")
    if not counters:
        errs.append(field.required(f"{path}.counters"))
    else:
        limited_map(errs, counters, MAX_COUNTERS, 63, label, _nothing, f"{path}.counters")


def _nothing(errs: Errors, value: Any, path: str) -> None:
    pass


def _device(errs: Errors, device: Object, path: str, known: dict[str, Object], *, per_device: bool) -> None:
    """Validate one device; taints that were stored before may stay. Appends to ``errs``."""
    label(errs, name_of(device), f"{path}.name")
    attributes, capacity = device.get("attributes") or {}, device.get("capacity") or {}
    if len(attributes) + len(capacity) > MAX_ATTRIBUTES:
        text = f"the total number of attributes and capacities must not exceed {MAX_ATTRIBUTES}"
        errs.append(field.invalid(path, len(attributes) + len(capacity), text))
    values = sum(sum(len(a.get(key) or ()) for key in _LISTS) or 1 for a in attributes.values())
    if values > MAX_ATTRIBUTE_VALUES:
        text = f"the total number of attribute values must not exceed {MAX_ATTRIBUTE_VALUES}"
        errs.append(field.invalid(path, values, text))
    limited_map(errs, attributes, -1, _KEY, qualified_device_name, _attribute, f"{path}.attributes")
    shared = partial(_capacity, shared=bool(device.get("allowMultipleAllocations")))
    limited_map(errs, capacity, -1, _KEY, qualified_device_name, shared, f"{path}.capacity")
    before = known.get(name_of(device))
    if before is None or not equal(before.get("taints"), device.get("taints")):
        limited(errs, device.get("taints"), MAX_TAINTS, taint, f"{path}.taints")
    at = f"{path}.consumesCounters"
    unique(
        errs,
        device.get("consumesCounters"),
        MAX_CONSUMED_SETS,
        _consumption,
        at,
        lambda consumed: consumed.get("counterSet") or "",
    )
    _device_placement(errs, device, path, per_device=per_device)
    binding_conditions(errs, device, path)


def _device_placement(errs: Errors, device: Object, path: str, *, per_device: bool) -> None:
    """Validate a device's own placement, which needs ``perDeviceNodeSelection``. Appends to ``errs``."""
    if not per_device:
        if any(device.get(key) is not None for key in ("nodeName", "nodeSelector", "allNodes")):
            text = (
                "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to "
                "true in the ResourceSlice spec"
            )
            errs.append(field.invalid(path, None, text))
        return
    places: list[str] = []
    name = device.get("nodeName")
    if name:
        places.append("`nodeName`")
        invalid_all(errs, f"{path}.nodeName", name, name_is_subdomain(name))
    elif name is not None:
        errs.append(field.invalid(f"{path}.nodeName", name, "must not be empty"))
    if device.get("nodeSelector") is not None:
        places.append("`nodeSelector`")
        node_selector(errs, device["nodeSelector"], f"{path}.nodeSelector")
    _only_true(errs, device, "allNodes", places, path)
    text = (
        "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set "
        "to true in the ResourceSlice spec"
    )
    if not places:
        errs.append(field.required(path, text))
    elif len(places) > 1:
        errs.append(field.invalid(path, f"{{{', '.join(places)}}}", text))


def _attribute(errs: Errors, attribute: Object, path: str) -> None:
    keys = [key for key in ("bool", "int", "string", "version", *_LISTS) if attribute.get(key) is not None]
    for key in keys:
        at, value = f"{path}.{key}", attribute[key]
        if key in _LISTS and not value:
            errs.append(field.invalid(at, value, "must not be empty if specified"))
        if key == "string":
            _text(errs, value, at)
        elif key == "version":
            _version(errs, value, at)
        elif key == "strings":
            limited(errs, value, -1, _text, at)
        elif key == "versions":
            limited(errs, value, -1, _version, at)
    if len(keys) != 1:
        shown: Any = _ATTRIBUTE | {_GO[key]: attribute[key] for key in keys} if keys else ""
        errs.append(field.invalid(path, shown, "exactly one value must be specified"))


_GO = {
    "int": "IntValue",
    "bool": "BoolValue",
    "string": "StringValue",
    "version": "VersionValue",
    "ints": "IntValues",
    "bools": "BoolValues",
    "strings": "StringValues",
    "versions": "VersionValues",
}
_ATTRIBUTE: Object = dict.fromkeys(_GO.values())


def _text(errs: Errors, value: str, path: str) -> None:
    if names.byte_length(value) > MAX_VALUE:
        errs.append(field.too_long(path, MAX_VALUE))


def _version(errs: Errors, value: str, path: str) -> None:
    if not _SEMVER.fullmatch(value):
        errs.append(field.invalid(path, value, "must be a string compatible with semver.org spec 2.0.0"))
    _text(errs, value, path)


def _capacity(errs: Errors, capacity: Object, path: str, *, shared: bool) -> None:
    """Validate how a device's capacity may be shared; appends to ``errs``."""
    policy, at = capacity.get("requestPolicy"), f"{path}.requestPolicy"
    if policy is None:
        return
    if not shared:
        errs.append(field.forbidden(at, "allowMultipleAllocations must be true"))
        return
    values, bounds, default = policy.get("validValues"), policy.get("validRange"), policy.get("default")
    if values and bounds is not None:
        text = 'exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time'
        errs.append(field.forbidden(at, text))
        return
    if not values and bounds is None:
        return
    key = "validValues" if values else "validRange"
    if default is None:
        errs.append(field.required(f"{at}.default", f"required when {key} is defined"))
        return
    total = Quantity(capacity.get("value") or "0")
    if values:
        _options(errs, Quantity(default), total, [Quantity(value) for value in values], f"{at}.validValues")
    elif bounds is not None:
        _range(errs, Quantity(default), total, bounds, f"{at}.validRange")


def _options(errs: Errors, default: Quantity, total: Quantity, values: Sequence[Quantity], path: str) -> None:
    for i, (value, following) in enumerate(pairwise(values)):
        if following < value:
            text = "values must be sorted in ascending order"
            errs.append(field.invalid(f"{path}[{i + 1}]", str(following), text))

    def option(errs: Errors, value: Quantity, at: str) -> None:
        if total < value:
            errs.append(field.invalid(at, str(value), f"option is larger than capacity value: {total}"))

    unique(errs, values, MAX_OPTIONS, option, path, lambda value: str(value.value()))
    if len(values) > MAX_OPTIONS or default not in values:
        errs.append(field.invalid(path, str(default), "default value is not valid according to the requestPolicy"))


def _range(errs: Errors, default: Quantity, total: Quantity, bounds: Object, path: str) -> None:
    """Validate a range of requests: bounds, step and default fit the capacity. Appends to ``errs``."""
    if bounds.get("min") is None:
        errs.append(field.required(f"{path}.min", "required when validRange is defined"))
        return
    low = Quantity(bounds["min"])
    high = Quantity(bounds["max"]) if bounds.get("max") is not None else None
    if total < low:
        errs.append(field.invalid(f"{path}.min", str(low), f"min is larger than capacity value: {total}"))
    if default < low:
        errs.append(field.invalid(f"{path}.min", str(default), f"default is less than min: {low}"))
    if high is not None:
        if high < low:
            errs.append(field.invalid(f"{path}.max", str(low), f"min is larger than max: {high}"))
        if total < high:
            errs.append(field.invalid(f"{path}.max", str(high), f"max is larger than capacity value: {total}"))
        if high < default:
            errs.append(field.invalid(f"{path}.max", str(default), f"default is more than max: {high}"))
    if bounds.get("step") is None:
        return
    step = Quantity(bounds["step"])
    one = low + step
    if total < one:
        text = f"one step {one} is larger than capacity value: {total}"
        errs.append(field.invalid(f"{path}.step", str(step), text))
    for value in (default, high):
        if value is not None and step.value() and (value.value() - low.value()) % step.value():
            text = f"value is not a multiple of a given step ({step}) from ({low})"
            errs.append(field.invalid(f"{path}.step", str(value), text))
