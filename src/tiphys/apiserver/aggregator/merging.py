"""What another server says of itself, in the form in which this one shows it. Pure.

Source: apiserver's discovery aggregation and kube-openapi's aggregator, whose rules for names in conflict are followed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

from tiphys.api.object import Object

_REF = "#/definitions/"
_ROUNDS = 8
"""If names have not settled after so many, every definition gets one of its own."""
_KINDS = "x-kubernetes-group-version-kind"


def discovered(listed: Object, group: str, version: str) -> list[Object]:
    """The resources of an APIResourceList as aggregated discovery shows them."""
    resources: dict[str, Object] = {}
    for row in listed.get("resources") or ():
        name, slash, part = row["name"].partition("/")
        kind = {
            "group": row.get("group") or group,
            "version": row.get("version") or version,
            "kind": row.get("kind") or "",
        }
        verbs = list(row.get("verbs") or ())
        if slash:
            shown = {"subresource": part, "responseKind": kind, "verbs": verbs}
            resources.setdefault(name, {"resource": name, "verbs": []}).setdefault("subresources", []).append(shown)
            continue
        resource = {
            "resource": name,
            "responseKind": kind,
            "scope": "Namespaced" if row.get("namespaced") else "Cluster",
        }
        resource |= {"singularResource": row.get("singularName") or "", "verbs": verbs}
        resource |= {key: row[key] for key in ("shortNames", "categories") if row.get(key)}
        resources[name] = resources.get(name, {}) | resource
    return list(resources.values())


def of_version(answer: Object, group: str, version: str) -> list[Object] | None:
    """The resources of one version in an APIGroupDiscoveryList; None if it is not in there."""
    for item in answer.get("items") or ():
        if (item.get("metadata") or {}).get("name", "") == group:
            for shown in item.get("versions") or ():
                if shown.get("version") == version:
                    return list(shown.get("resources") or ())
    return None


def part_of(spec: Object, path: str) -> Object:
    """Of an OpenAPI v2 document: the paths at or below ``path``, and the definitions that they need."""
    paths = {
        name: item for name, item in (spec.get("paths") or {}).items() if name == path or name.startswith(f"{path}/")
    }
    known: Object = spec.get("definitions") or {}
    needed: set[str] = set()
    waiting = list(_references(paths))
    while waiting:
        name = waiting.pop()
        if name in known and name not in needed:
            needed.add(name)
            waiting.extend(_references(known[name]))
    return {"paths": paths, "definitions": {name: known[name] for name in sorted(needed)}}


def merged(base: Object, parts: Iterable[Object]) -> Object:
    """An OpenAPI v2 document with what other servers add. Their definitions of names that mean something else here get
    names of their own; paths that are here already stay as they are."""
    paths, definitions = dict(base["paths"]), dict(base["definitions"])
    for part in parts:
        moved = _moved(part["definitions"], definitions)
        for name, shown in part["definitions"].items():
            definitions.setdefault(moved.get(name, name), _renamed(shown, moved))
        for name, item in part["paths"].items():
            paths.setdefault(name, _renamed(item, moved))
    return {**base, "paths": dict(sorted(paths.items())), "definitions": dict(sorted(definitions.items()))}


def _moved(added: Object, definitions: Object) -> dict[str, str]:
    """New names for those of ``added`` that mean something else in ``definitions``. A new name for one changes those
    that refer to it, which may then be the same as what is there."""
    moved: dict[str, str] = {}
    for _ in range(_ROUNDS):
        names = {name: _free_name(name, _renamed(shown, moved), definitions) for name, shown in added.items()}
        changed = {name: new for name, new in names.items() if name != new}
        if changed == moved:
            return moved
        moved = changed
    taken = definitions.keys() | added.keys()
    return {name: next(n for i in count(2) if (n := f"{name}_v{i}") not in taken) for name in added}


def _free_name(name: str, shown: Object, definitions: Object) -> str:
    """``name``, or it with a number, so that it is free or means the same."""
    candidate, number = name, 1
    while candidate in definitions and not _same(definitions[candidate], shown):
        number += 1
        candidate = f"{name}_v{number}"
    return candidate


def _same(one: Object, other: Object) -> bool:
    """Whether two definitions are the same but for the kinds that use them."""
    return {**one, _KINDS: None} == {**other, _KINDS: None}


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str) and reference.startswith(_REF):
            yield reference.removeprefix(_REF)
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _renamed(node: Any, moved: dict[str, str]) -> Any:
    if not moved:
        return node
    if isinstance(node, list):
        return [_renamed(value, moved) for value in node]
    if not isinstance(node, dict):
        return node
    renamed = {key: _renamed(value, moved) for key, value in node.items()}
    reference = renamed.get("$ref")
    if isinstance(reference, str) and (name := reference.removeprefix(_REF)) in moved:
        renamed["$ref"] = _REF + moved[name]
    return renamed
