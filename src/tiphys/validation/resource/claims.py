"""ResourceClaim, ResourceClaimTemplate and DeviceClass: what is wanted, and what was allocated for it.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#resourceclaim-v1-resource-k8s-io
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from tiphys.api import fielderrors as field
from tiphys.api.meta.fingerprints import fingerprint
from tiphys.api.object import Object
from tiphys.api.pods.resources import is_extended
from tiphys.validation.pods.placement import node_selector
from tiphys.validation.pods.volumes import csi_driver_name
from tiphys.validation.resource.devices import (
    MAX_CONFIG,
    binding_conditions,
    configuration,
    full_device_name,
    json_object,
    limited,
    name_of,
    pool_name,
    selectors,
    toleration,
    uid,
    unique,
)
from tiphys.validation.shared import ip
from tiphys.validation.shared.common import (
    IMMUTABLE,
    Errors,
    conditions,
    equal,
    label,
    one_of,
    subdomain,
)
from tiphys.validation.shared.internal import internal_value, metadata_shown
from tiphys.validation.shared.objectmeta import template_meta, validate_meta, validate_meta_named, validate_meta_update

MAX_REQUESTS = MAX_CONSTRAINTS = 32
MAX_ALTERNATIVES = 8
MAX_RESERVED_FOR = 256
_REFERENCE = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"

Requests = Mapping[str, frozenset[str]]
"""The names of a claim's requests, with the names of the alternatives of each."""


def validate_claim(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=True)
    _devices(errs, (obj.get("spec") or {}).get("devices") or {}, "spec.devices")
    return errs


def validate_claim_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, new, namespaced=True)
    validate_meta_update(errs, new, old)
    if not equal(new.get("spec") or {}, old.get("spec") or {}):
        shown = internal_value("ResourceClaimSpec", new.get("spec") or {})
        errs.append(field.invalid("spec", shown, IMMUTABLE))
    return errs


def validate_claim_template(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=True)
    spec = obj.get("spec") or {}
    template_meta(errs, spec.get("metadata"), "spec.metadata")
    _devices(errs, (spec.get("spec") or {}).get("devices") or {}, "spec.spec.devices")
    return errs


def validate_claim_template_update(new: Object, old: Object) -> Errors:
    errs = validate_claim_template(new)
    validate_meta_update(errs, new, old)
    if not equal(new.get("spec") or {}, old.get("spec") or {}):
        shown = {
            **metadata_shown(new["spec"]),
            "Spec": internal_value("ResourceClaimSpec", new["spec"].get("spec") or {}),
        }
        errs.append(field.invalid("spec", shown, IMMUTABLE))
    return errs


def validate_device_class(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta_named(errs, obj, namespaced=False, check=subdomain)
    _class_spec(errs, obj.get("spec") or {}, {})
    return errs


def validate_device_class_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_named(errs, new, namespaced=False, check=subdomain)
    validate_meta_update(errs, new, old)
    _class_spec(errs, new.get("spec") or {}, old.get("spec") or {})
    return errs


def _class_spec(errs: Errors, spec: Object, old: Object) -> None:
    stored = bool(old) and equal(spec.get("selectors"), old.get("selectors"))
    selectors(errs, spec.get("selectors"), "spec.selectors", stored=stored)
    stored = bool(old) and equal(spec.get("config"), old.get("config"))
    limited(errs, spec.get("config"), MAX_CONFIG, partial(configuration, stored=stored), "spec.config")
    name = spec.get("extendedResourceName")
    if name is not None and not is_extended(name):
        text = "must be a valid extended resource name"
        errs.append(field.invalid("spec.extendedResourceName", name, text))


def _devices(errs: Errors, devices: Object, path: str) -> None:
    requests = _requests(devices)
    unique(errs, devices.get("requests"), MAX_REQUESTS, _request, f"{path}.requests", name_of)
    constraint = partial(_constraint, requests=requests)
    limited(errs, devices.get("constraints"), MAX_CONSTRAINTS, constraint, f"{path}.constraints")
    config = partial(_config, requests=requests)
    limited(errs, devices.get("config"), MAX_CONFIG, config, f"{path}.config")


def _requests(devices: Object) -> Requests:
    return {
        name_of(request): frozenset(name_of(sub) for sub in request.get("firstAvailable") or ())
        for request in devices.get("requests") or ()
    }


def _request(errs: Errors, request: Object, path: str) -> None:
    label(errs, name_of(request), f"{path}.name")
    alternatives, exactly = request.get("firstAvailable"), request.get("exactly")
    if alternatives and exactly is not None:
        text = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"
        errs.append(field.invalid(path, None, text))
    elif alternatives:
        unique(errs, alternatives, MAX_ALTERNATIVES, _alternative, f"{path}.firstAvailable", name_of)
    elif exactly is not None:
        _exact(errs, exactly, f"{path}.exactly")
    else:
        errs.append(field.required(path, "exactly one of `exactly` or `firstAvailable` is required"))


def _alternative(errs: Errors, request: Object, path: str) -> None:
    label(errs, name_of(request), f"{path}.name")
    _exact(errs, request, path)


def _exact(errs: Errors, request: Object, path: str) -> None:
    name = request.get("deviceClassName")
    if not name:
        errs.append(field.required(f"{path}.deviceClassName"))
    else:
        subdomain(errs, name, f"{path}.deviceClassName")
    selectors(errs, request.get("selectors"), f"{path}.selectors")
    mode, count = request.get("allocationMode") or "", request.get("count") or 0
    if mode == "All":
        if count:
            text = "must not be specified when allocationMode is 'All'"
            errs.append(field.invalid(f"{path}.count", count, text))
    elif mode == "ExactCount":
        if count <= 0:
            errs.append(field.invalid(f"{path}.count", count, "must be greater than zero"))
    else:
        errs.append(field.not_supported(f"{path}.allocationMode", mode, ("All", "ExactCount")))
    for i, entry in enumerate(request.get("tolerations") or ()):
        toleration(errs, entry, f"{path}.tolerations[{i}]")


def _constraint(errs: Errors, constraint: Object, path: str, requests: Requests) -> None:
    reference = partial(_reference, requests=requests)
    unique(errs, constraint.get("requests"), MAX_REQUESTS, reference, f"{path}.requests")
    for key in ("matchAttribute", "distinctAttribute"):
        if constraint.get(key) is not None:
            full_device_name(errs, constraint[key], f"{path}.{key}")
            return
    text = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
    errs.append(field.required(path, text))


def _config(errs: Errors, config: Object, path: str, requests: Requests) -> None:
    reference = partial(_reference, requests=requests)
    unique(errs, config.get("requests"), MAX_REQUESTS, reference, f"{path}.requests")
    configuration(errs, config, path)


def _reference(errs: Errors, name: str, path: str, requests: Requests) -> None:
    segments = name.split("/")
    if len(segments) > 2:
        errs.append(field.invalid(path, name, _REFERENCE))
        return
    for segment in segments:
        label(errs, segment, path)
    alternatives = requests.get(segments[0])
    if alternatives is None or (len(segments) == 2 and segments[1] not in alternatives):
        errs.append(field.invalid(path, name, _REFERENCE))


def validate_claim_status_update(new: Object, old: Object) -> Errors:
    """The errors of an update of a ResourceClaim's status; an allocation is immutable once set."""
    errs: Errors = []
    validate_meta_update(errs, new, old)
    status, before = new.get("status") or {}, old.get("status") or {}
    allocation = status.get("allocation")
    requests = _requests((new.get("spec") or {}).get("devices") or {})
    reserved = status.get("reservedFor")
    at = "status.reservedFor"
    unique(errs, reserved, MAX_RESERVED_FOR, _consumer, at, lambda consumer: consumer.get("uid") or "")
    results = ((allocation or {}).get("devices") or {}).get("results") or ()
    allocated = frozenset(_device_id(result) for result in results)
    device = partial(_device_status, allocated=allocated)
    unique(errs, status.get("devices"), -1, device, "status.devices", _device_id)
    if reserved:
        if allocation is None:
            errs.append(field.forbidden(at, "may not be specified when `allocated` is not set"))
        elif (new.get("metadata") or {}).get("deletionTimestamp"):
            known = {fingerprint(consumer) for consumer in before.get("reservedFor") or ()}
            if any(fingerprint(consumer) not in known for consumer in reserved):
                text = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
                errs.append(field.forbidden(at, text))
    if allocation is not None and before.get("allocation") is not None:
        if not equal(allocation, before["allocation"]):
            errs.append(field.invalid("status.allocation", internal_value("AllocationResult", allocation), IMMUTABLE))
    elif allocation is not None:
        _allocation(errs, allocation, requests, "status.allocation")
    return errs


def _device_id(result: Object) -> str:
    """As upstream writes it: driver, pool and device, and the share of it."""
    parts = [result.get(key) or "" for key in ("driver", "pool", "device")]
    if result.get("shareID") is not None:
        parts.append(result["shareID"])
    return "/".join(parts)


def _consumer(errs: Errors, consumer: Object, path: str) -> None:
    for key in ("resource", "name", "uid"):
        if not consumer.get(key):
            errs.append(field.required(f"{path}.{key}"))


def _allocation(errs: Errors, allocation: Object, requests: Requests, path: str) -> None:
    devices, at = allocation.get("devices") or {}, f"{path}.devices"
    limited(errs, devices.get("results"), MAX_REQUESTS, partial(_result, requests=requests), f"{at}.results")
    config = partial(_allocated_config, requests=requests)
    limited(errs, devices.get("config"), 2 * MAX_CONFIG, config, f"{at}.config")
    if allocation.get("nodeSelector") is not None:
        node_selector(errs, allocation["nodeSelector"], f"{path}.nodeSelector")


def _result(errs: Errors, result: Object, path: str, requests: Requests) -> None:
    _reference(errs, result.get("request") or "", f"{path}.request", requests)
    _device(errs, result, path)
    binding_conditions(errs, result, path)
    if result.get("shareID") is not None:
        uid(errs, result["shareID"], f"{path}.shareID")


def _device(errs: Errors, result: Object, path: str) -> None:
    csi_driver_name(errs, result.get("driver") or "", f"{path}.driver")
    pool_name(errs, result.get("pool") or "", f"{path}.pool")
    label(errs, result.get("device") or "", f"{path}.device")


def _allocated_config(errs: Errors, config: Object, path: str, requests: Requests) -> None:
    source = config.get("source") or ""
    if not source:
        errs.append(field.required(f"{path}.source"))
    else:
        one_of(errs, source, f"{path}.source", ("FromClaim", "FromClass"))
    _config(errs, config, path, requests)


def _device_status(errs: Errors, device: Object, path: str, allocated: frozenset[str]) -> None:
    _device(errs, device, path)
    if device.get("shareID") is not None:
        uid(errs, device["shareID"], f"{path}.shareID")
    name = _device_id(device)
    if name not in allocated:
        errs.append(field.invalid(path, name, "must be an allocated device in the claim"))
    items = device.get("conditions") or []
    if len(items) > 8:
        errs.append(field.too_many(f"{path}.conditions", len(items), 8))
    conditions(errs, items, f"{path}.conditions")
    if device.get("data") is not None:
        json_object(errs, device["data"], f"{path}.data")
    network = device.get("networkData")
    if network is not None:
        _network(errs, network, f"{path}.networkData")


def _network(errs: Errors, data: Object, path: str) -> None:
    for key, longest in (("interfaceName", 256), ("hardwareAddress", 128)):
        if len((data.get(key) or "").encode()) > longest:
            errs.append(field.too_long(f"{path}.{key}", longest))
    unique(errs, data.get("ips"), 16, ip.interface_address, f"{path}.ips")
