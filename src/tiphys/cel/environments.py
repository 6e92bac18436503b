"""The environments of Kubernetes v1.36: what every expression may use, and what each use adds.

All versions of the libraries up to 1.36 are there, for new expressions as for stored ones.

Source: https://kubernetes.io/docs/reference/using-api/cel/
"""

from __future__ import annotations

from functools import cache

from tiphys.cel import types
from tiphys.cel.checking import declarations
from tiphys.cel.environment import Environment
from tiphys.cel.library import (
    authorizer,
    cidr,
    comprehensions,
    formats,
    ip,
    jsonpatch,
    lists,
    optionals,
    quantity,
    regex,
    semver,
    sets,
    standard,
    strings,
    urls,
)
from tiphys.cel.schema import decltypes
from tiphys.cel.schema.decltypes import DeclType, list_type, map_type, object_type

_STRING, _BOOL, _DYN, _TIME = decltypes.STRING, decltypes.BOOL, decltypes.DYN, decltypes.TIMESTAMP
_STRINGS, _LABELS = list_type(_STRING), map_type(_STRING, _STRING)
PER_CALL_LIMIT = 1_000_000
"""The cost that one evaluation may have."""
MAX_DEVICE_SELECTOR_COST = 1_000_000


@cache
def base() -> Environment:
    """The libraries that every expression of v1.36 may use."""
    return Environment(
        (
            standard.LIBRARY,
            urls.LIBRARY,
            regex.LIBRARY,
            lists.LIBRARY,
            authorizer.LIBRARY,
            optionals.LIBRARY,
            quantity.LIBRARY,
            strings.LIBRARY,
            sets.LIBRARY,
            ip.LIBRARY,
            cidr.LIBRARY,
            formats.LIBRARY,
            comprehensions.LIBRARY,
            semver.LIBRARY,
            lists.EXTENSION,
        )
    )


def _strings(*names: str) -> dict[str, DeclType]:
    return dict.fromkeys(names, _STRING)


@cache
def _request() -> DeclType:
    kind = object_type("kubernetes.GroupVersionKind", _strings("group", "version", "kind"))
    resource = object_type("kubernetes.GroupVersionResource", _strings("group", "version", "resource"))
    user = object_type(
        "kubernetes.UserInfo",
        {**_strings("username", "uid"), "groups": _STRINGS, "extra": map_type(_STRING, _STRINGS)},
    )
    fields = {
        **_strings("subResource", "requestSubResource", "name", "namespace", "operation"),
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "userInfo": user,
        "dryRun": _BOOL,
        "options": _DYN,
    }
    return object_type("kubernetes.AdmissionRequest", fields)


@cache
def _namespace() -> DeclType:
    condition = object_type(
        "kubernetes.NamespaceCondition",
        {**_strings("status", "type", "message", "reason"), "lastTransitionTime": _TIME},
    )
    metadata = object_type(
        "kubernetes.NamespaceMetadata",
        {
            **_strings("name", "generateName", "namespace", "UID", "resourceVersion"),
            "labels": _LABELS,
            "annotations": _LABELS,
            "creationTimestamp": _TIME,
            "deletionTimestamp": _TIME,
            "deletionGracePeriodSeconds": decltypes.INT,
            "generation": decltypes.INT,
            "finalizers": _STRINGS,
        },
    )
    status = object_type("kubernetes.NamespaceStatus", {"conditions": list_type(condition), "phase": _STRING})
    spec = object_type("kubernetes.NamespaceSpec", {"finalizers": _STRINGS})
    return object_type("kubernetes.Namespace", {"metadata": metadata, "spec": spec, "status": status})


@cache
def admission(*, has_params: bool, has_authorizer: bool, patches: bool) -> Environment:
    """For policies and match conditions; ``patches`` for those that mutate."""
    variables = {
        "object": types.DYN,
        "oldObject": types.DYN,
        "namespaceObject": _namespace().type,
        "request": _request().type,
    }
    if has_params:
        variables["params"] = types.DYN
    if has_authorizer:
        variables["authorizer"] = declarations.AUTHORIZER
        variables["authorizer.requestResource"] = declarations.RESOURCE_CHECK
    libraries = (jsonpatch.LIBRARY,) if patches else ()
    return base().extend(variables, (_namespace(), _request()), libraries, patches=patches)


VARIABLES = "kubernetes.variables"


def with_variables(environment: Environment, known: dict[str, DeclType]) -> Environment:
    """With ``variables``, whose fields are what is in ``known`` when an expression is compiled."""
    holder = object_type(VARIABLES, known)
    return environment.extend({"variables": holder.type}, (holder,))


def variable_type(type: types.Type) -> types.Type:
    """The type by which a variable is known later: what is no plain value, list or map is ``dyn``."""
    if type.kind is types.Kind.LIST:
        return types.list_of(variable_type(type.params[0]))
    if type.kind is types.Kind.MAP:
        return types.map_of(variable_type(type.params[0]), variable_type(type.params[1]))
    plain = (
        types.BOOL,
        types.BYTES,
        types.DOUBLE,
        types.DURATION,
        types.INT,
        types.NULL,
        types.STRING,
        types.TIMESTAMP,
        types.UINT,
    )
    return type if type in plain else types.DYN


_MAX_PER_DEVICE, _MAX_VALUE = 32, 64
_DOMAIN = DeclType("string", types.STRING, 2, 63)
_ID = DeclType("string", types.STRING, 2, 32)


@cache
def _device() -> DeclType:
    attribute = DeclType("any", types.ANY, 1, _MAX_VALUE)
    amount = DeclType("quantity", declarations.QUANTITY, 8)
    return object_type(
        "kubernetes.DRADevice",
        {
            "driver": DeclType("string", types.STRING, 2, 63),
            "allowMultipleAllocations": DeclType("bool", types.BOOL, 4, 1),
            "attributes": map_type(_DOMAIN, map_type(_ID, attribute, _MAX_PER_DEVICE), _MAX_PER_DEVICE),
            "capacity": map_type(_DOMAIN, map_type(_ID, amount, _MAX_PER_DEVICE), _MAX_PER_DEVICE),
        },
    )


@cache
def device() -> Environment:
    """For the selectors of devices."""
    return base().extend({"device": _device().type}, (_device(),), (comprehensions.BINDINGS,))


def device_size(path: list[str]) -> tuple[int, int] | None:
    """The size of what is at a path below ``device``."""
    if path[0] != "device":
        return None
    place: DeclType | None = _device()
    for step in path[1:]:
        if place is None:
            return None
        if step in ("@items", "@values"):
            place = place.element
        elif step == "@keys":
            place = place.key
        elif place.element is not None and place.element.name == "any":
            place = place.element
        else:
            place = (place.fields or {}).get(step)
    return None if place is None else (0, place.max_elements)
