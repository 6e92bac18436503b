"""The owner graph: what is worth a look after each event."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiphys.api.object import Object
from tiphys.controllers.garbagecollector.graph import FOREGROUND, ORPHAN, Absent, Graph, Identity


def obj(
    name: str, *owners: str, namespace: str = "ns", deleting: bool = False, finalizers: Any = (), **over: Any
) -> Object:
    references = [
        {"apiVersion": "v1", "kind": "K", "name": owner, "uid": owner, "blockOwnerDeletion": True, **over}
        for owner in owners
    ]
    meta: Object = {"name": name, "uid": name, "namespace": namespace, "ownerReferences": references}
    if deleting:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    if finalizers:
        meta["finalizers"] = list(finalizers)
    return {"metadata": meta}


def observe(graph: Graph, found: Object, old: Object | None = None) -> Any:
    return graph.observe(found, "v1", "K", old)


def test_an_owner_that_is_not_seen_yet_is_virtual_and_looked_at() -> None:
    graph = Graph()
    assert observe(graph, obj("pod", "rs")).delete == ["rs"]
    assert graph.nodes["rs"].virtual
    assert observe(graph, obj("rs")).delete == []
    assert not graph.nodes["rs"].virtual
    assert [found.identity.name for found in graph.dependents(graph.nodes["rs"])] == ["pod"]


def test_dependents_are_looked_at_when_their_owner_goes() -> None:
    graph = Graph()
    observe(graph, obj("rs"))
    observe(graph, obj("a", "rs"))
    observe(graph, obj("b", "rs"))
    assert sorted(graph.delete("rs").delete) == ["a", "b"]
    assert Identity("K", "v1", "ns", "rs", "rs") in graph.absent


def test_foreground_deletion_looks_at_the_dependents_and_then_at_the_owner_again() -> None:
    graph = Graph()
    observe(graph, obj("rs"))
    observe(graph, obj("a", "rs"))
    work = observe(graph, obj("rs", deleting=True, finalizers=[FOREGROUND]), obj("rs"))
    assert work.delete == ["a", "rs"]
    owner = graph.nodes["rs"]
    assert owner.deleting_dependents
    assert [found.identity.name for found in graph.blocking_dependents(owner)] == ["a"]
    assert graph.delete("a").delete == ["rs"]
    assert graph.blocking_dependents(owner) == []


def test_a_dependent_that_no_longer_blocks_frees_its_owner() -> None:
    graph = Graph()
    observe(graph, obj("rs"))
    observe(graph, obj("a", "rs"))
    assert observe(graph, obj("a", "rs", blockOwnerDeletion=False)).delete == ["rs"]
    assert observe(graph, obj("a")).delete == []
    assert graph.nodes["rs"].dependents == {}


def test_the_orphan_finalizer_asks_for_orphaning_once() -> None:
    graph = Graph()
    observe(graph, obj("rs"))
    going = obj("rs", deleting=True, finalizers=[ORPHAN])
    assert observe(graph, going, obj("rs")).orphan == ["rs"]
    assert observe(graph, going, going).orphan == []


def test_a_denied_virtual_owner_releases_those_who_named_it() -> None:
    graph = Graph()
    observe(graph, obj("a", "gone"))
    work = graph.deny(graph.nodes["gone"].identity)
    assert work.delete == ["a"]
    assert "gone" not in graph.nodes


def test_of_two_names_for_one_uid_both_are_tried() -> None:
    graph = Graph()
    observe(graph, obj("a", "owner"))
    observe(graph, obj("b", "owner", kind="Other"))
    first = graph.nodes["owner"].identity
    work = graph.deny(first)
    assert work.delete == ["a"]
    assert work.delete_later == ["owner"]
    assert graph.nodes["owner"].identity.kind == "Other"


def test_a_reference_into_another_namespace_is_complained_about() -> None:
    graph = Graph()
    observe(graph, obj("owner", namespace="here"))
    work = observe(graph, obj("a", "owner", namespace="there"))
    assert work.delete == ["a"]
    assert [(node.identity.name, reference.name) for node, reference in work.wrong_namespace] == [("a", "owner")]


def test_absences_are_remembered_in_a_bounded_number() -> None:
    absent = Absent(2)
    identities = [Identity("K", "v1", "", str(n), str(n)) for n in range(3)]
    for identity in identities:
        absent.add(identity)
    assert [identity in absent for identity in identities] == [False, True, True]


@pytest.mark.parametrize("seed", range(20))
def test_every_order_of_the_same_events_gives_the_same_graph(seed: int) -> None:
    objects = [obj("d"), obj("rs", "d"), obj("a", "rs"), obj("b", "rs", "d"), obj("c", "none")]
    random.Random(seed).shuffle(objects)
    graph = Graph()
    for found in objects:
        observe(graph, found)
    edges = {name: sorted(node.dependents) for name, node in graph.nodes.items()}
    assert edges == {"d": ["b", "rs"], "rs": ["a", "b"], "a": [], "b": [], "c": [], "none": ["c"]}
    assert {name for name, node in graph.nodes.items() if node.virtual} == {"none"}


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.lists(st.sampled_from("abcde"), max_size=3), st.booleans())))
def test_edges_always_agree_with_the_owners(changes: list[tuple[str, list[str], bool]]) -> None:
    graph = Graph()
    known: dict[str, Object] = {}
    dead: set[str] = set()  # a uid never comes back
    for name, owners, gone in changes:
        if name in dead:
            continue
        if not gone:
            found = obj(name, *sorted(set(owners)))
            observe(graph, found, known.get(name))
            known[name] = found
        elif name in known:
            graph.delete(name)
            del known[name]
            dead.add(name)
    for name, found in known.items():
        for reference in found["metadata"]["ownerReferences"]:
            owner = graph.nodes.get(reference["uid"])
            # Those of an owner that is gone were queued when it went; a later reference to it starts anew.
            assert owner is None or name in owner.dependents or reference["uid"] in dead
    for node in graph.nodes.values():
        for dependent in node.dependents:
            references = known[dependent]["metadata"]["ownerReferences"]
            assert any(reference["uid"] == node.identity.uid for reference in references)
