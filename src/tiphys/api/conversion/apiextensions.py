"""CustomResourceDefinition v1beta1, not served any more: the form in which upstream keeps definitions in etcd.

Source: https://kubernetes.io/docs/reference/using-api/deprecation-guide/#customresourcedefinition-v122
"""

from __future__ import annotations

from tiphys.api.object import Object

_PER_VERSION = ("subresources", "additionalPrinterColumns", "selectableFields")


def v1beta1_to_v1(obj: Object) -> Object:
    """What v1beta1 says once for all versions, v1 says in each."""
    spec = dict(obj.get("spec") or {})
    shared = {name: spec.pop(name, None) for name in _PER_VERSION}
    validation, version = spec.pop("validation", None), spec.pop("version", "")
    versions = spec.get("versions") or [{"name": version, "served": True, "storage": True}]
    spec["versions"] = [_version(item, shared, validation) for item in versions]
    if spec.get("conversion"):
        spec["conversion"] = _conversion(dict(spec["conversion"]))
    definition = {"metadata": obj.get("metadata") or {}, "spec": spec}
    return {**definition, "status": obj["status"]} if "status" in obj else definition


def _version(version: Object, shared: Object, validation: Object | None) -> Object:
    converted = dict(version)
    for name, value in shared.items():
        if value is not None and converted.get(name) is None:
            converted[name] = value
    if validation is not None and converted.get("schema") is None:
        converted["schema"] = validation
    if converted.get("additionalPrinterColumns"):
        converted["additionalPrinterColumns"] = [_column(column) for column in converted["additionalPrinterColumns"]]
    return converted


def _column(column: Object) -> Object:
    return {"jsonPath" if name == "JSONPath" else name: value for name, value in column.items()}


def _conversion(conversion: Object) -> Object:
    client, reviews = conversion.pop("webhookClientConfig", None), conversion.pop("conversionReviewVersions", None)
    if client is not None or reviews is not None:
        webhook = {"clientConfig": client, "conversionReviewVersions": reviews}
        conversion["webhook"] = {name: value for name, value in webhook.items() if value is not None}
    return conversion
