"""The AdmissionRequest: what webhooks are sent of a request, and what expressions see as ``request``. Pure.

Source: https://kubernetes.io/docs/reference/config-api/apiserver-admission.v1/#admission-k8s-io-v1-AdmissionRequest
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.api.scheme import GroupVersionKind
from tiphys.apiserver.admission.attributes import Attributes


def admission_request(attributes: Attributes, kind: GroupVersionKind, group: str, version: str, plural: str) -> Object:
    """All but the objects and the uid. ``kind`` and the resource are those in which the request is seen."""
    sub, own = attributes.subresource, attributes.kind
    request: Object = {
        "kind": _kind(kind),
        "resource": _resource(group, version, plural),
        "subResource": sub,
        "requestKind": _kind(own),
        "requestResource": _resource(attributes.group, attributes.version, attributes.plural),
        "requestSubResource": sub,
        "name": attributes.name,
        "namespace": attributes.namespace,
        "operation": attributes.operation,
        "userInfo": attributes.user.as_user_info(),
        "dryRun": attributes.dry_run,
        "options": attributes.options,
    }
    return {name: value for name, value in request.items() if value != ""}


def _kind(kind: GroupVersionKind) -> Object:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _resource(group: str, version: str, plural: str) -> Object:
    return {"group": group, "version": version, "resource": plural}
