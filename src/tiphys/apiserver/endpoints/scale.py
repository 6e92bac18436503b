"""``scale``: the number of replicas of a workload, as an object of its own.

Source: https://kubernetes.io/docs/reference/kubernetes-api/autoscaling-resources/scale-v1/
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from tiphys.api import errors, fielderrors
from tiphys.api.apply import Filter
from tiphys.api.meta.copying import copy
from tiphys.api.meta.selectors import selector_from_labels, selector_from_object
from tiphys.api.scheme import GroupVersionKind
from tiphys.apiserver.endpoints.scalemanagers import to_parent, to_scale
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.registry.updating import ObjectRules, Rules

Object = dict[str, Any]

SCALE = GroupVersionKind("autoscaling", "v1", "Scale")
_SHOWN = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


class ScaleTarget(Target):
    """The scale of a stored workload; ``merge`` writes its replicas back."""

    @cached_property
    def gvk(self) -> GroupVersionKind:
        return SCALE

    @cached_property
    def is_stored_version(self) -> bool:
        return False

    @cached_property
    def rules(self) -> Rules:
        return ObjectRules(self.registry)

    @cached_property
    def filters(self) -> dict[str, Filter]:
        return {}

    def show(self, stored: Object) -> Object:
        spec, status = stored.get("spec") or {}, stored.get("status") or {}
        scale: Object = {
            "kind": SCALE.kind,
            "apiVersion": SCALE.api_version,
            "metadata": {name: stored["metadata"][name] for name in _SHOWN if name in stored["metadata"]},
            "spec": {},
            "status": {"replicas": status.get("replicas", 0)},
        }
        if spec.get("replicas"):
            scale["spec"]["replicas"] = spec["replicas"]
        if text := _selector(spec.get("selector")):
            scale["status"]["selector"] = text
        return scale

    def working(self, stored: Object) -> Object:
        scale = self.show(stored)
        if entries := to_scale(stored["metadata"].get("managedFields")):
            scale["metadata"]["managedFields"] = entries
        return scale

    def merge(self, stored: Object | None, changed: Object) -> Object:
        assert stored is not None
        replicas = (changed.get("spec") or {}).get("replicas", 0)
        if replicas < 0:
            detail = "must be greater than or equal to 0"
            error = fielderrors.invalid("spec.replicas", replicas, detail)
            raise errors.invalid("autoscaling", "Scale", stored["metadata"]["name"], [error])
        merged = copy(stored)
        merged["spec"]["replicas"] = replicas
        merged["metadata"]["resourceVersion"] = changed["metadata"].get("resourceVersion", "")
        api_version = self.resource.gvk(self.version).api_version
        before = stored["metadata"].get("managedFields")
        merged["metadata"]["managedFields"] = to_parent(before, changed["metadata"].get("managedFields"), api_version)
        return merged


def _selector(selector: Object | None) -> str:
    if not selector:
        return ""
    if "matchLabels" in selector or "matchExpressions" in selector:
        return str(selector_from_object(selector))
    return str(selector_from_labels(selector))
