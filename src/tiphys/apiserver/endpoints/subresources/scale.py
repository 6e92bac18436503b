"""``scale``: the number of replicas of a workload, as its own object.

Source: https://kubernetes.io/docs/reference/kubernetes-api/autoscaling-resources/scale-v1/
"""

from __future__ import annotations

from functools import cached_property

from tiphys.api import errors, fielderrors
from tiphys.api.apply import Filter, from_scale, to_scale
from tiphys.api.apply.scale import Paths
from tiphys.api.meta.copying import copy
from tiphys.api.meta.selectors import selector_from_labels, selector_from_object
from tiphys.api.object import Object
from tiphys.api.scheme import GroupVersionKind
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.registry.updating import EndpointRules, ObjectRules

SCALE = GroupVersionKind("autoscaling", "v1", "Scale")
_OLD_VERSIONS = {"apps": ("v1beta1", "v1beta2")}
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
    def rules(self) -> EndpointRules:
        return ObjectRules(self.registry)

    @cached_property
    def filters(self) -> dict[str, Filter]:
        return {}

    replicas_path: tuple[str, ...] = ("spec", "replicas")

    @cached_property
    def _paths(self) -> Paths:
        """By API version, where the workload holds its replicas; upstream knows versions that it serves no more."""
        path = tuple(f"f:{name}" for name in self.replicas_path)
        versions = {*self.resource.versions, *_OLD_VERSIONS.get(self.resource.group, ())}
        return {self.resource.gvk(version).api_version: path for version in versions}

    def show(self, stored: Object) -> Object:
        spec, status = stored.get("spec") or {}, stored.get("status") or {}
        return scale_of(stored, spec.get("replicas") or 0, status.get("replicas", 0), _selector(spec.get("selector")))

    def starting_point(self, stored: Object) -> Object:
        """The scale that a change is made to."""
        return self.show(stored)

    def working(self, stored: Object) -> Object:
        scale = self.starting_point(stored)
        if entries := to_scale(stored["metadata"].get("managedFields"), self._paths):
            scale["metadata"]["managedFields"] = entries
        return scale

    def merge(self, stored: Object | None, changed: Object) -> Object:
        assert stored is not None
        merged = copy(stored)
        self.write_replicas(merged, (changed.get("spec") or {}).get("replicas", 0))
        if version := changed["metadata"].get("resourceVersion"):
            merged["metadata"]["resourceVersion"] = version
        api_version = self.resource.gvk(self.version).api_version
        before, after = stored["metadata"].get("managedFields"), changed["metadata"].get("managedFields")
        merged["metadata"]["managedFields"] = from_scale(before, after, api_version, self._paths)
        return merged

    def write_replicas(self, obj: Object, replicas: int) -> None:
        """Put the number into the workload. Raises 422."""
        if replicas < 0:
            error = fielderrors.invalid("spec.replicas", replicas, "must be greater than or equal to 0")
            raise errors.invalid("autoscaling", "Scale", obj["metadata"]["name"], [error])
        obj["spec"]["replicas"] = replicas


def scale_of(stored: Object, replicas: int, current: int, selector: str) -> Object:
    """A Scale of a workload."""
    scale: Object = {
        "kind": SCALE.kind,
        "apiVersion": SCALE.api_version,
        "metadata": {name: stored["metadata"][name] for name in _SHOWN if name in stored["metadata"]},
        "spec": {},
        "status": {"replicas": current},
    }
    if replicas:
        scale["spec"]["replicas"] = replicas
    if selector:
        scale["status"]["selector"] = selector
    return scale


def _selector(selector: Object | None) -> str:
    if not selector:
        return ""
    if "matchLabels" in selector or "matchExpressions" in selector:
        return str(selector_from_object(selector))
    return str(selector_from_labels(selector))
