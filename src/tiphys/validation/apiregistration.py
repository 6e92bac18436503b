"""Validation of the apiregistration.k8s.io group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#apiservice-v1-apiregistration-k8s-io
"""

from __future__ import annotations

import base64

from tiphys.api import fielderrors as field
from tiphys.api.gotext import quote
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.validation.shared.common import (
    Errors,
    invalid_all,
    one_of,
)
from tiphys.validation.shared.objectmeta import validate_meta, validate_meta_update


def validate_api_service(obj: Object) -> Errors:
    """The errors of an APIService."""
    errs: Errors = []
    spec = obj.get("spec") or {}
    group, version = spec.get("group") or "", spec.get("version") or ""
    wanted = f"{version}.{group}"

    def named(name: str, *, prefix: bool) -> list[str]:
        if problems := names.path_segment_name(name):
            return problems
        return [] if name == wanted else [f'must be `spec.version+"."+spec.group`: {quote(wanted)}']

    validate_meta(errs, obj, namespaced=False, name_check=named, core=False)
    if not group and version != "v1":
        text = "only v1 may have an empty group and it better be legacy kube"
        errs.append(field.required("spec.group", text))
    if group:
        invalid_all(errs, "spec.group", group, names.dns1123_subdomain(group))
    invalid_all(errs, "spec.version", version, names.dns1035_label(version))
    for key, limit in (("groupPriorityMinimum", 20000), ("versionPriority", 1000)):
        priority = spec.get(key) or 0
        if not 0 < priority <= limit:
            errs.append(field.invalid(f"spec.{key}", priority, f"must be positive and less than {limit}"))
    _connection(errs, spec)
    return errs


def _connection(errs: Errors, spec: Object) -> None:
    service, bundle, insecure = spec.get("service"), spec.get("caBundle"), spec.get("insecureSkipTLSVerify")
    at = "spec.insecureSkipTLSVerify"
    if service is None:
        if bundle:
            shown = f"{len(base64.b64decode(bundle))} bytes"
            errs.append(field.invalid("spec.caBundle", shown, "local APIServices may not have a caBundle"))
        if insecure:
            errs.append(field.invalid(at, True, "local APIServices may not have insecureSkipTLSVerify"))
        return
    for key in ("namespace", "name"):
        if not service.get(key):
            errs.append(field.required(f"spec.service.{key}"))
    port = service.get("port") or 0
    if problems := names.port_number(port):
        errs.append(field.invalid("spec.service.port", port, f"port is not valid: {', '.join(problems)}"))
    if insecure and bundle:
        errs.append(field.invalid(at, True, "may not be true if caBundle is present"))


def validate_api_service_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old, core=False)
    return errs + validate_api_service(new)


def validate_api_service_status_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old, core=False)
    for i, condition in enumerate((new.get("status") or {}).get("conditions") or ()):
        one_of(errs, condition.get("status") or "", f"status.conditions[{i}].status", ("True", "False", "Unknown"))
    return errs
