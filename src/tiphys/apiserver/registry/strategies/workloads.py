"""Workloads that differ from the rule by more than facts.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/
"""

from __future__ import annotations

from tiphys.api.defaults.aliases import TEMPLATE_GENERATION
from tiphys.api.object import Object
from tiphys.apiserver.registry.strategy import (
    Strategy,
    Write,
    annotations_of,
    copy_field,
)
from tiphys.validation.shared.common import equal, name_is_subdomain


class DeploymentStrategy(Strategy):
    """A change of annotations counts too, as they hold the revision that a rollback goes to."""

    has_status = True
    initial_status: Object | None = {}
    counts = ("spec",)
    counts_annotations = True
    reset_by_status = ("spec", "metadata.labels")

    def prepare_status_update(self, new: Object, old: Object, write: Write) -> None:
        super().prepare_status_update(new, old, write)
        copy_field(new["metadata"], old["metadata"], "labels")


class DaemonSetStrategy(Strategy):
    """The number of changes of the template is kept in an annotation, which stands for a field of former versions."""

    has_status = True
    initial_status: Object | None = {
        "currentNumberScheduled": 0,
        "numberMisscheduled": 0,
        "desiredNumberScheduled": 0,
        "numberReady": 0,
    }
    counts = ("spec",)

    def prepare_create(self, obj: Object, write: Write) -> None:
        super().prepare_create(obj, write)
        _set_generation(obj, max(_generation(obj), 1))

    def prepare_update(self, new: Object, old: Object, write: Write) -> None:
        changed = not equal(new["spec"].get("template"), old["spec"].get("template"))
        _set_generation(new, _generation(old) + changed)
        super().prepare_update(new, old, write)

    def prepare_status_update(self, new: Object, old: Object, write: Write) -> None:
        super().prepare_status_update(new, old, write)
        _set_generation(new, _generation(old))


def _generation(obj: Object) -> int:
    return int(annotations_of(obj).get(TEMPLATE_GENERATION, "0"))


def _set_generation(obj: Object, generation: int) -> None:
    obj["metadata"].setdefault("annotations", {})[TEMPLATE_GENERATION] = str(generation)


class EndpointSliceStrategy(Strategy):
    """Everything but metadata counts, and labels do."""

    def prepare_create(self, obj: Object, write: Write) -> None:
        obj["metadata"]["generation"] = 1
        _drop_topology(obj, {})

    def prepare_update(self, new: Object, old: Object, write: Write) -> None:
        if not equal(_counted(new), _counted(old)):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        if not equal(new.get("endpoints"), old.get("endpoints")):
            _drop_topology(new, old)


def _drop_topology(new: Object, old: Object) -> None:
    """A field of former versions; the node's name that it held goes into the field of today."""
    known = {_topology_node(endpoint) for endpoint in old.get("endpoints") or ()}
    for endpoint in new.get("endpoints") or ():
        node = _topology_node(endpoint)
        if endpoint.get("nodeName") is None and node and node in known and not name_is_subdomain(node):
            endpoint["nodeName"] = node
        endpoint.pop("deprecatedTopology", None)


def _topology_node(endpoint: Object) -> str:
    name: str = (endpoint.get("deprecatedTopology") or {}).get("kubernetes.io/hostname", "")
    return name


def _counted(obj: Object) -> Object:
    counted = {key: value for key, value in obj.items() if key not in ("metadata", "kind", "apiVersion")}
    counted["labels"] = obj["metadata"].get("labels") or {}
    return counted
