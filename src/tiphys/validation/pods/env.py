"""Environment variables of a container, and the references to fields and keys that they are filled from.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#envvar-v1-core
"""

from __future__ import annotations

from collections.abc import Collection

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.validation.core.paths import no_backsteps
from tiphys.validation.shared.common import (
    Errors,
    invalid_all,
    label,
    name_is_subdomain,
    qualified,
)

ENV_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_KNOWN_FIELDS = frozenset(
    (
        *ENV_FIELDS,
        "metadata.annotations",
        "metadata.labels",
        "spec.restartPolicy",
        "spec.schedulerName",
        "status.phase",
    )
)
RESOURCE_FIELDS = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_HUGE_PAGES = ("limits.hugepages-", "requests.hugepages-")
_SIZES = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")


def variables(errs: Errors, items: list[Object], path: str) -> None:
    for i, variable in enumerate(items):
        at = f"{path}[{i}]"
        name = variable.get("name")
        if not name:
            errs.append(field.required(f"{at}.name"))
        else:
            invalid_all(errs, f"{at}.name", name, names.relaxed_env_var_name(name))
        if variable.get("valueFrom") is not None:
            _value_from(errs, variable, f"{at}.valueFrom")


def _value_from(errs: Errors, variable: Object, path: str) -> None:
    """Validate that a variable has exactly one source; appends to ``errs``."""
    source = variable["valueFrom"]
    count = 0
    if source.get("fieldRef") is not None:
        count += 1
        field_ref(errs, source["fieldRef"], ENV_FIELDS, f"{path}.fieldRef")
    if source.get("resourceFieldRef") is not None:
        count += 1
        resource_field_ref(errs, source["resourceFieldRef"], f"{path}.resourceFieldRef", volume=False)
    for key in ("configMapKeyRef", "secretKeyRef"):
        if source.get(key) is not None:
            count += 1
            _key_ref(errs, source[key], f"{path}.{key}")
    if source.get("fileKeyRef") is not None:
        count += 1
        _file_key_ref(errs, source["fileKeyRef"], f"{path}.fileKeyRef")
    if count == 0:
        text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        errs.append(field.invalid(path, "", text))
    elif variable.get("value"):
        errs.append(field.invalid(path, "", "may not be specified when `value` is not empty"))
    elif count > 1:
        errs.append(field.invalid(path, "", "may not have more than one field specified at a time"))


def from_sources(errs: Errors, items: list[Object], path: str) -> None:
    """Validate ``envFrom``: each entry names one config map or secret; appends to ``errs``."""
    for i, source in enumerate(items):
        at = f"{path}[{i}]"
        prefix = source.get("prefix")
        if prefix:
            invalid_all(errs, f"{at}.prefix", prefix, names.relaxed_env_var_name(prefix))
        count = 0
        for key in ("configMapRef", "secretRef"):
            reference = source.get(key)
            if reference is None:
                continue
            count += 1
            name = reference.get("name")
            if not name:
                errs.append(field.required(f"{at}.{key}.name"))
            else:
                invalid_all(errs, f"{at}.{key}.name", name, name_is_subdomain(name, prefix=True))
        if count == 0:
            errs.append(field.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif count > 1:
            errs.append(field.invalid(path, "", "may not have more than one field specified at a time"))


def split_subscript(text: str) -> tuple[str, str] | None:
    """``metadata.labels['a']`` as path and subscript."""
    if not text.endswith("']"):
        return None
    path, opened, subscript = text[:-2].partition("['")
    return (path, subscript) if opened and path else None


def _label_problem(text: str) -> str:
    """Why a field is not known to the downward API; empty if it is."""
    if subscripted := split_subscript(text):
        if subscripted[0] in ("metadata.annotations", "metadata.labels"):
            return ""
        return f"field label does not support subscript: {text}"
    return "" if text in _KNOWN_FIELDS or text == "spec.host" else f"field label not supported: {text}"


def field_ref(errs: Errors, ref: Object, allowed: Collection[str], path: str) -> None:
    """Validate a reference to a field of the pod, one of ``allowed``; appends to ``errs``."""
    version, text = ref.get("apiVersion"), ref.get("fieldPath")
    if not version:
        errs.append(field.required(f"{path}.apiVersion"))
        return
    if not text:
        errs.append(field.required(f"{path}.fieldPath"))
        return
    problem = _label_problem(text) if version == "v1" else f"unsupported pod version: {version}"
    if problem:
        errs.append(field.invalid(f"{path}.fieldPath", text, f"error converting fieldPath: {problem}"))
        return
    if subscripted := split_subscript(text):
        name = subscripted[1].lower() if subscripted[0] == "metadata.annotations" else subscripted[1]
        qualified(errs, name, path)
        return
    known = "spec.nodeName" if text == "spec.host" else text
    if known not in allowed:
        errs.append(field.not_supported(f"{path}.fieldPath", known, sorted(allowed)))


def resource_field_ref(errs: Errors, ref: Object, path: str, *, volume: bool) -> None:
    resource = ref.get("resource") or ""
    if volume and not ref.get("containerName"):
        errs.append(field.required(f"{path}.containerName"))
    elif not resource:
        errs.append(field.required(f"{path}.resource"))
    elif resource not in RESOURCE_FIELDS and not resource.startswith(_HUGE_PAGES):
        errs.append(field.not_supported(f"{path}.resource", resource, RESOURCE_FIELDS))
    _divisor(errs, resource, ref.get("divisor"), f"{path}.divisor")


def _divisor(errs: Errors, resource: str, text: str | None, path: str) -> None:
    if not text:
        return
    divisor = Quantity(text)
    if not divisor:
        return
    kind = resource.partition(".")[2]
    if resource in ("limits.cpu", "requests.cpu"):
        if str(divisor) not in ("1m", "1"):
            detail = "only divisor's values 1m and 1 are supported with the cpu resource"
            errs.append(field.invalid(path, resource, detail))
        return
    if resource.startswith(_HUGE_PAGES):
        what = "hugepages"
    elif resource in RESOURCE_FIELDS:
        what = "memory" if kind == "memory" else "local ephemeral storage"
    else:
        return
    if str(divisor) not in _SIZES:
        detail = f"only divisor's values {', '.join(_SIZES)} are supported with the {what} resource"
        errs.append(field.invalid(path, resource, detail))


def _key_ref(errs: Errors, ref: Object, path: str) -> None:
    """A key of a config map or a secret."""
    name = ref.get("name") or ""
    invalid_all(errs, f"{path}.name", name, name_is_subdomain(name))
    if not ref.get("key"):
        errs.append(field.required(f"{path}.key"))
    else:
        invalid_all(errs, f"{path}.key", ref["key"], names.config_map_key(ref["key"]))


def _file_key_ref(errs: Errors, ref: Object, path: str) -> None:
    """A key of a file of variables in an emptyDir."""
    key, volume, target = ref.get("key"), ref.get("volumeName"), ref.get("path")
    if not key:
        errs.append(field.required(f"{path}.key"))
    else:
        invalid_all(errs, f"{path}.key", key, names.relaxed_env_var_name(key))
    if not volume:
        errs.append(field.required(f"{path}.volumeName"))
    else:
        label(errs, volume, f"{path}.volumeName")
    if not target:
        errs.append(field.required(f"{path}.path"))
    else:
        no_backsteps(errs, target, f"{path}.path")
