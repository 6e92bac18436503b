"""To which backends a rule of an HTTPRoute sends its requests, and what share of them each gets (pure).

Each backend is a group of its own, with the rule's filters and its own. One that leads nowhere keeps its share: those
requests are answered with 500, and with 503 if there is a Service that has no endpoint, so that no other gets more
than it was meant to have.

Source: https://gateway-api.sigs.k8s.io/reference/spec/#httproutebackendref
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import gcd

from tiphys.addons.ingress.backends import World, group_of
from tiphys.addons.ingress.filters import filters_of, followed_by
from tiphys.addons.ingress.ingresses import Wishes
from tiphys.addons.ingress.model import Filters, Split, TargetGroup, Unusable
from tiphys.api.meta.objects import name_of, namespace_of
from tiphys.api.object import Object

MOST_SLOTS = 1000
"""Shares are exact up to this sum of weights, and to a thousandth beyond."""
_LARGEST_WEIGHT = 1_000_000


class Unresolved(Unusable):
    """A reference to a backend that leads nowhere; ``reason`` is that of the condition ResolvedRefs."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def backends_of(
    route: Object, number: int, filters: Filters, paths: Sequence[tuple[str, bool]], world: World, wishes: Wishes
) -> tuple[str, Unresolved | None]:
    """Where the requests of a route's rule go, by its number: a group or a split, added to ``wishes``; and what is
    wrong with one of its backends. Raises ``Unusable`` for what is not served."""
    name = f"route_{namespace_of(route)}_{name_of(route)}_{number}"
    made: list[tuple[TargetGroup, int]] = []
    problem: Unresolved | None = None
    for place, reference in enumerate(route["spec"]["rules"][number].get("backendRefs") or ()):
        weight = _weight(reference)
        described = reference.get("filters") or ()
        try:
            own = followed_by(filters, filters_of(described, paths, has_backends=False))
        except Unusable as error:
            raise type(error)(f"backendRefs[{place}].{error}") from error
        try:
            group = replace(_backend(reference, route, world, wishes), filters=own)
        except Unresolved as error:
            problem = problem or error
            group = TargetGroup(name, filters=own, resolved=False)
        if weight:
            made.append((replace(group, name=f"{name}_{place}"), weight))
    if len(made) > 1:
        wishes.groups += [group for group, _ in made]
        slots = slots_of([weight for _, weight in made])
        shares = tuple((group.name, count) for (group, _), count in zip(made, slots, strict=True))
        wishes.splits.append(Split(name, shares))
    elif made:
        wishes.groups.append(replace(made[0][0], name=name))
    else:
        wishes.groups.append(TargetGroup(name, filters=filters, resolved=False))
    return name, problem


def slots_of(weights: Sequence[int]) -> list[int]:
    """Small numbers in the proportion of the weights, none of which is 0."""
    divisor, total = gcd(*weights), sum(weights)
    if total // divisor <= MOST_SLOTS:
        return [weight // divisor for weight in weights]
    return [max(1, round(weight * MOST_SLOTS / total)) for weight in weights]


def _weight(reference: Object) -> int:
    weight = reference.get("weight")
    if weight is None:
        return 1
    if not 0 <= int(weight) <= _LARGEST_WEIGHT:
        raise Unusable(f"backendRefs: weight {weight} is not from 0 to {_LARGEST_WEIGHT}")
    return int(weight)


def _backend(reference: Object, route: Object, world: World, wishes: Wishes) -> TargetGroup:
    """Raises ``Unresolved``."""
    if reference.get("kind", "Service") != "Service" or reference.get("group"):
        raise Unresolved("InvalidKind", "a backend that is not a Service is not served")
    if reference.get("namespace", namespace_of(route)) != namespace_of(route):
        raise Unresolved("RefNotPermitted", "a Service of another namespace is not served")
    wishes.services.add((namespace_of(route), reference["name"]))
    try:
        return group_of(namespace_of(route), reference["name"], reference.get("port") or 0, world)
    except Unusable as problem:
        raise Unresolved("BackendNotFound", str(problem)) from problem
