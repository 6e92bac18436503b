"""One name, one thing: what the source calls by one name is defined in one place."""

from __future__ import annotations

import ast

from tests.source.imports import trees


def test_an_api_object_has_one_name() -> None:
    """``from tiphys.api.object import Object``, with no alias of a module's own."""
    aliases = [
        module
        for module, tree in trees().items()
        for node in tree.body
        if isinstance(node, ast.Assign)
        and any(isinstance(name, ast.Name) and name.id == "Object" for name in node.targets)
    ]
    assert aliases == ["tiphys.api.object"]


ALLOWED_IN_THREE = frozenset[str]()
"""Names of public classes that more than two packages may have, each because a specification names it so everywhere."""


def packages_by_class(modules: dict[str, ast.Module]) -> dict[str, set[str]]:
    """By name of a public class, the packages (folders) that define one."""
    packages: dict[str, set[str]] = {}
    folders = {module.rpartition(".")[0] for module in modules}
    for module, tree in modules.items():
        package = module if module in folders else module.rpartition(".")[0]
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                packages.setdefault(node.name, set()).add(package)
    return packages


def test_no_class_name_is_used_in_more_than_two_packages() -> None:
    crowded = {name: sorted(places) for name, places in packages_by_class(trees()).items() if len(places) > 2}
    assert {name: places for name, places in crowded.items() if name not in ALLOWED_IN_THREE} == {}
    assert ALLOWED_IN_THREE - crowded.keys() == set(), "these need no exception"


def test_how_packages_are_counted() -> None:
    texts = {"p": "", "p.a": "class A: ...", "p.b": "class A: ...\nclass _B: ...", "q.a": "class A: ...", "q": ""}
    assert packages_by_class({name: ast.parse(text) for name, text in texts.items()}) == {"A": {"p", "q"}}


ONCE = {
    "tolerates": "tiphys.api.scheduling.taints",
    "takes_node": "tiphys.api.scheduling.nodeselector",
    "pod_requests": "tiphys.api.pods.resources",
    "qos_class": "tiphys.api.pods.qos",
    "key_of": "tiphys.api.meta.objects",
    "uid_of": "tiphys.api.meta.objects",
    "is_deleting": "tiphys.api.meta.objects",
    "fnv32a": "tiphys.runtime.binary.fnv",
    "transition_time": "tiphys.api.meta.conditions",
}
"""What pods, nodes and conditions mean to every component, and the one module that says so."""


def test_what_pods_and_nodes_mean_is_defined_once() -> None:
    places: dict[str, list[str]] = {name: [] for name in ONCE}
    for module, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in places:
                places[node.name].append(module)
    assert places == {name: [module] for name, module in ONCE.items()}
