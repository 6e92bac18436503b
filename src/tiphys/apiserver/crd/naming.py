"""Which names a definition gets: those that no other definition of its group has.

Source: https://kubernetes.io/docs/reference/kubernetes-api/extend-resources/custom-resource-definition-v1/ (status)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tiphys.api.fielderrors import aggregate
from tiphys.api.gotext import quote
from tiphys.api.meta.conditions import find_condition
from tiphys.api.object import Object
from tiphys.apiserver.registry.strategies.definitions import set_status_condition

ACCEPTED, ESTABLISHED = "NamesAccepted", "Established"
_INSTALLING = ("False", "Installing", "the initial names have been accepted")
_NOT_ACCEPTED = ("False", "NotAccepted", "not all names are accepted")
_NO_CONFLICTS = ("True", "NoConflicts", "no conflicts found")


def accept_names(obj: Object, others: Iterable[Object], now: str) -> bool:
    """Bring the accepted names and their conditions up to date, in place; whether anything changed.

    ``others`` are all definitions of the group, this one included.
    """
    wanted = obj["spec"]["names"]
    status = obj.setdefault("status", {})
    had = status.get("acceptedNames") or {}
    if wanted == had:
        return False
    names, verdict = _decide(wanted, had, others)
    known = find_condition(status.get("conditions"), ACCEPTED)
    if names == had and known is not None and (known["status"], known["reason"], known["message"]) == verdict:
        return False
    status["acceptedNames"] = names
    set_status_condition(obj, ACCEPTED, *verdict, now)
    established = find_condition(status["conditions"], ESTABLISHED)
    if established is None or established["status"] != "True":
        waiting = _INSTALLING if verdict[0] == "True" else _NOT_ACCEPTED
        if verdict[0] == "True" or established is None:
            set_status_condition(obj, ESTABLISHED, *waiting, now)
    return True


def _decide(wanted: Object, had: Object, others: Iterable[Object]) -> tuple[Object, tuple[str, str, str]]:
    """The names a definition gets, and the condition (status, reason, message) about conflicts."""
    resources, kinds = _taken(others)
    names, verdict = dict(had), _NO_CONFLICTS
    for key, taken in (
        ("plural", resources),
        ("singular", resources),
        ("shortNames", resources),
        ("kind", kinds),
        ("listKind", kinds),
    ):
        conflict = _conflict(wanted.get(key), had.get(key), taken)
        if conflict:
            verdict = ("False", f"{key[0].upper()}{key[1:]}Conflict", conflict)
        elif wanted.get(key):
            names[key] = wanted[key]
        else:
            names.pop(key, None)
    if wanted.get("categories"):
        names["categories"] = wanted["categories"]
    else:
        names.pop("categories", None)
    return names, verdict


def _conflict(wanted: Any, had: Any, taken: set[str]) -> str:
    if wanted == had:
        return ""
    if isinstance(wanted, list):
        return _told([name for name in wanted if name not in (had or ()) and name in taken])
    return _told([wanted] if wanted in taken else [])


def _told(names: list[str]) -> str:
    return aggregate(f"{quote(name)} is already in use" for name in names) if names else ""


def _taken(others: Iterable[Object]) -> tuple[set[str], set[str]]:
    resources, kinds = set[str](), set[str]()
    for other in others:
        names = (other.get("status") or {}).get("acceptedNames") or {}
        resources |= {names.get("plural", ""), names.get("singular", ""), *(names.get("shortNames") or ())}
        kinds |= {names.get("kind", ""), names.get("listKind", "")}
    return resources, kinds


def establish(obj: Object, now: str) -> bool:
    """Say that the resource is served, if its names are accepted; whether that is news."""
    conditions = (obj.get("status") or {}).get("conditions")
    accepted, established = find_condition(conditions, ACCEPTED), find_condition(conditions, ESTABLISHED)
    if accepted is None or accepted["status"] != "True":
        return False
    if established is not None and established["status"] == "True":
        return False
    return set_status_condition(
        obj, ESTABLISHED, "True", "InitialNamesAccepted", "the initial names have been accepted", now
    )
