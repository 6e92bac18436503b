"""Objects from one served version to another.

``convert`` covers every pair that v1.36 serves by default: HorizontalPodAutoscaler v1 and v2, and events of the core
group and of ``events.k8s.io``; it also reads the form in which upstream keeps CustomResourceDefinitions. Versions
of one kind whose fields are the same differ only in ``apiVersion``.
"""

from __future__ import annotations

from collections.abc import Callable

from tiphys.api.codec.complete import complete
from tiphys.api.codec.decoding import normalize
from tiphys.api.conversion import apiextensions, autoscaling, events
from tiphys.api.object import Object
from tiphys.api.schema import schema_for
from tiphys.api.scheme import GroupVersionKind

_HPA = ("autoscaling", "HorizontalPodAutoscaler")
_HPA_V1, _HPA_V2 = (GroupVersionKind("autoscaling", version, _HPA[1]) for version in ("v1", "v2"))
_CORE_EVENT, _EVENT = GroupVersionKind("", "v1", "Event"), GroupVersionKind("events.k8s.io", "v1", "Event")
_CRD_BETA, _CRD = (
    GroupVersionKind("apiextensions.k8s.io", version, "CustomResourceDefinition") for version in ("v1beta1", "v1")
)

_CONVERSIONS: dict[tuple[GroupVersionKind, GroupVersionKind], Callable[[Object], Object]] = {
    (_HPA_V1, _HPA_V2): autoscaling.v1_to_v2,
    (_HPA_V2, _HPA_V1): autoscaling.v2_to_v1,
    (_CORE_EVENT, _EVENT): events.core_to_events,
    (_EVENT, _CORE_EVENT): events.events_to_core,
    (_CRD_BETA, _CRD): apiextensions.v1beta1_to_v1,
}


class ConversionError(ValueError):
    """There is no way from one version to the other."""


def convert(obj: Object, source: GroupVersionKind, target: GroupVersionKind) -> Object:
    """A new object in the target version, which shares unchanged parts. Raises ``ConversionError``."""
    if source == target:
        return obj
    conversion = _CONVERSIONS.get((source, target))
    if conversion is not None:
        schema = schema_for(target)
        converted = {"kind": target.kind, "apiVersion": target.api_version, **conversion(obj)}
        # Each version has its own rules for what it shows of what is empty.
        return complete(normalize(converted, schema), schema)
    if (source.group, source.kind) != (target.group, target.kind):
        raise ConversionError(f"no conversion from {source.api_version} {source.kind} to {target.api_version}")
    rest = {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}
    return {"kind": target.kind, "apiVersion": target.api_version, **rest}
