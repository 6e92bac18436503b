"""Where a volume can be provisioned: topologies that a class allows, and what CSI drivers say is left.

Source: https://kubernetes.io/docs/concepts/storage/storage-capacity/
"""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.api.meta.quantity import Quantity, parse
from tiphys.api.meta.selectors import selector_from_object
from tiphys.api.object import Object
from tiphys.api.scheduling.nodeselector import Labels
from tiphys.api.volumes.matching import request
from tiphys.scheduler.handle import Handle


def in_topology(terms: Sequence[Object], labels: Labels) -> bool:
    """Whether a node with these labels is in one of the topologies; without any, it is."""
    return not terms or any(_term_matches(term, labels) for term in terms)


def _term_matches(term: Object, labels: Labels) -> bool:
    expressions = term.get("matchLabelExpressions") or ()
    return bool(expressions) and all(labels.get(e["key"]) in e["values"] for e in expressions)


def enough(handle: Handle, claim: Object, storage_class: Object, labels: Labels) -> bool:
    """Whether the class's driver, if it says what is left, has room for the claim near a node with these labels."""
    driver = handle.store("csidrivers").get("", storage_class["provisioner"])
    if driver is None or not driver["spec"].get("storageCapacity"):
        return True
    if "storage" not in ((claim["spec"].get("resources") or {}).get("requests") or {}):
        return True
    size = request(claim)
    return any(
        capacity.get("storageClassName") == storage_class["metadata"]["name"]
        and (limit := largest_volume(capacity)) is not None
        and limit >= size
        and capacity.get("nodeTopology") is not None
        and selector_from_object(capacity["nodeTopology"]).matches(labels)
        for capacity in handle.store("csistoragecapacities").list()
    )


def largest_volume(capacity: Object) -> Quantity | None:
    """The size of the largest volume that can be made there; None if the driver does not say."""
    for field in ("maximumVolumeSize", "capacity"):
        if capacity.get(field) is not None:
            return parse(capacity[field])
    return None
