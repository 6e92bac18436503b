"""Validation of ConfigMap, Secret and ServiceAccount.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#configmap-v1-core
"""

from __future__ import annotations

import base64

from tiphys.api import fielderrors as field
from tiphys.api.codec import jsontext
from tiphys.api.codec.typed import type_name
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.validation.shared.common import (
    Errors,
    equal,
    immutable,
    invalid_all,
)
from tiphys.validation.shared.objectmeta import meta_of, validate_meta, validate_meta_update

MAX_SIZE = 1024 * 1024
_SEALED = "field is immutable when `immutable` is set"
_ACCOUNT_NAME = "kubernetes.io/service-account.name"
_DOCKER = {
    "kubernetes.io/dockercfg": ".dockercfg",
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
}


def validate_config_map(obj: Object) -> Errors:
    errs: Errors = []
    _config_map(errs, obj)
    return errs


def _config_map(errs: Errors, obj: Object) -> None:
    validate_meta(errs, obj, namespaced=True)
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    total = 0
    for key, value in data.items():
        invalid_all(errs, f"data[{key}]", key, names.config_map_key(key))
        if key in binary:
            errs.append(field.invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
        total += names.byte_length(value or "")
    for key, value in binary.items():
        invalid_all(errs, f"binaryData[{key}]", key, names.config_map_key(key))
        total += _decoded_size(value)
    if total > MAX_SIZE:
        errs.append(field.too_long("[]", MAX_SIZE))


def _decoded_size(text: str | None) -> int:
    """The size of what base64 text stands for."""
    return (len(text) - text.count("=")) * 3 // 4 if text else 0


def validate_config_map_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    _sealed(errs, new, old, ("data", "binaryData"), never_absent="data")
    _config_map(errs, new)
    return errs


def _sealed(errs: Errors, new: Object, old: Object, keys: tuple[str, ...], never_absent: str = "") -> None:
    """A field that was sent empty is something else than an absent one, but for one that is empty by default."""
    if not old.get("immutable"):
        return
    if not new.get("immutable"):
        errs.append(field.forbidden("immutable", _SEALED))
    for key in keys:
        default: Object | None = {} if key == never_absent else None
        one, other = (default if side.get(key) is None else side[key] for side in (new, old))
        if not equal(one, other) or (one is None) != (other is None):
            errs.append(field.forbidden(key, _SEALED))


def validate_secret(obj: Object) -> Errors:
    errs: Errors = []
    _secret(errs, obj)
    return errs


def _secret(errs: Errors, obj: Object) -> None:
    """Validate a Secret: its size, and the keys that its type requires. Appends to ``errs``."""
    validate_meta(errs, obj, namespaced=True)
    data, kind = obj.get("data") or {}, obj.get("type") or ""
    total = 0
    for key, value in data.items():
        invalid_all(errs, f"data[{key}]", key, names.config_map_key(key))
        total += _decoded_size(value)
    if total > MAX_SIZE:
        errs.append(field.too_long("data", MAX_SIZE))
    if kind == "kubernetes.io/service-account-token":
        if not (meta_of(obj).get("annotations") or {}).get(_ACCOUNT_NAME):
            errs.append(field.required(f"metadata.annotations[{_ACCOUNT_NAME}]"))
    elif kind in _DOCKER:
        _docker(errs, data, _DOCKER[kind])
    elif kind == "kubernetes.io/basic-auth":
        if "username" not in data and "password" not in data:
            errs += [field.required("data[username]"), field.required("data[password]")]
    elif kind == "kubernetes.io/ssh-auth":
        if not data.get("ssh-privatekey"):
            errs.append(field.required("data[ssh-privatekey]"))
    elif kind == "kubernetes.io/tls":
        errs.extend(field.required(f"data[{key}]") for key in ("tls.crt", "tls.key") if key not in data)


def _docker(errs: Errors, data: dict[str, str], key: str) -> None:
    if key not in data:
        errs.append(field.required(f"data[{key}]"))
        return
    if problem := _json_problem(data[key] or ""):
        errs.append(field.invalid(f"data[{key}]", "<secret contents redacted>", problem))


def _json_problem(text: str) -> str:
    """Why this is not a JSON object, in the words of upstream's decoder; never with the content itself."""
    try:
        value = jsontext.read(base64.b64decode(text))
    except jsontext.JSONError as error:
        return str(error)
    if value is None or isinstance(value, jsontext.Pairs):
        return ""
    return f"json: cannot unmarshal {type_name(value)} into Go value of type map[string]interface {{}}"


def validate_secret_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    immutable(errs, new.get("type") or "", old.get("type") or "", "type")
    _sealed(errs, new, old, ("data",))
    _secret(errs, new)
    return errs


def validate_service_account(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=True)
    return errs


def validate_service_account_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    validate_meta(errs, new, namespaced=True)
    return errs
