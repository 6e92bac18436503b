"""Where a volume may be: what a claim, its class and the nodes say, in the driver's terms, and back again. Pure.

Source: https://kubernetes-csi.github.io/docs/topology.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from tiphys.api.object import Object

Segments = dict[str, str]


class TopologyError(ValueError):
    """The nodes do not say what is needed; they may do so later."""


def keys_of(csi_node: Object | None, driver: str) -> list[str]:
    """The topology keys of a driver on a node; none if it is not there."""
    drivers = ((csi_node or {}).get("spec") or {}).get("drivers") or []
    return next((list(each.get("topologyKeys") or []) for each in drivers if each["name"] == driver), [])


def segments_of(node: Object, keys: Sequence[str]) -> Segments | None:
    """Where a node is; None if it does not say for every key."""
    labels = node["metadata"].get("labels") or {}
    return {key: labels[key] for key in keys} if all(key in labels for key in keys) else None


def allowed_segments(storage_class: Object) -> list[Segments]:
    """Every place that a class's allowedTopologies allow."""
    places = []
    for term in storage_class.get("allowedTopologies") or []:
        expressions = term.get("matchLabelExpressions") or []
        choices = [[(each["key"], value) for value in each["values"]] for each in expressions]
        places += [dict(combination) for combination in product(*choices)]
    return places


def requirement(
    *, selected: Segments | None, everywhere: Iterable[Segments], allowed: Sequence[Segments], strict: bool
) -> dict[str, Any] | None:
    """``accessibility_requirements``: the selected node's place first. None for a driver that is everywhere the same.

    ``strict``: the volume must be where the selected node is. Raises ``TopologyError``.
    """
    if selected is not None and strict:
        places = [selected]
    else:
        places = _distinct(allowed or everywhere)
    if not places:
        return None
    if selected is not None:
        matching = [place for place in places if place.items() <= selected.items() or selected.items() <= place.items()]
        if not matching:
            raise TopologyError(f"selected node's topology {written(selected)} is not one of the allowed topologies")
        places = matching + [place for place in places if place not in matching]
    as_messages = [{"segments": place} for place in places]
    return {"requisite": as_messages, "preferred": as_messages}


def written(place: Segments) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(place.items()))


def _distinct(places: Iterable[Segments]) -> list[Segments]:
    seen: list[Segments] = []
    for place in sorted(places, key=lambda each: sorted(each.items())):
        if place and place not in seen:
            seen.append(place)
    return seen


def node_affinity(accessible: Iterable[Any]) -> Object | None:
    """What a volume that can be used from ``accessible`` (``Topology`` messages) says of nodes."""
    terms = []
    for topology in accessible:
        expressions = [{"key": k, "operator": "In", "values": [v]} for k, v in sorted(topology.segments.items())]
        if expressions:
            terms.append({"matchExpressions": expressions})
    return {"required": {"nodeSelectorTerms": terms}} if terms else None


def is_at(volume: Object, segments: Mapping[str, str]) -> bool:
    """Whether a persistent volume can be used from a place, as far as its affinity is of the form made here."""
    required = ((volume["spec"].get("nodeAffinity") or {}).get("required")) or {}
    terms = required.get("nodeSelectorTerms")
    if not terms:
        return True
    return any(
        all(segments.get(each["key"]) in each["values"] for each in term.get("matchExpressions") or [])
        for term in terms
    )
