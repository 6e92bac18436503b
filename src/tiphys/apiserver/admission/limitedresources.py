"""Resources that nobody may use without a quota for them. Pure.

Source: https://kubernetes.io/docs/concepts/policy/resource-quotas/#limit-priority-class-consumption-by-default
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.api.pods.quotausage import Usage, matches_scope, selectors_of


@dataclass(frozen=True, slots=True)
class LimitedResource:
    """``contains``: parts of the names of what is limited; ``scopes``: selectors of the objects that are."""

    group: str
    plural: str
    contains: tuple[str, ...]
    scopes: tuple[Object, ...]


def uncovered(
    limited: Iterable[LimitedResource], group: str, plural: str, usage: Usage, covered: set[str]
) -> list[str]:
    """The names that are used, limited, and in no quota. ``usage`` is that of the whole object."""
    parts = [part for row in limited if (row.group, row.plural) == (group, plural) for part in row.contains]
    used = [name for name, amount in usage.items() if amount.sign > 0]
    return sorted(name for name in used if name not in covered and any(part in name for part in parts))


def uncovered_scopes(
    limited: Iterable[LimitedResource], plural: str, obj: Object, quotas: Iterable[Object]
) -> list[Object]:
    """The selectors that take the object in and whose scope no quota has that takes it in, too."""
    wanted = [selector for row in limited for selector in row.scopes if matches_scope(selector, plural, obj)]
    if not wanted:
        return []
    selectors = [selector for quota in quotas for selector in selectors_of(quota)]
    known = {selector["scopeName"] for selector in selectors if matches_scope(selector, plural, obj)}
    return [selector for selector in wanted if selector["scopeName"] not in known]
