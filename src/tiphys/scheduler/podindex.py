"""Counts of pods per node, kept up to date: how many match a selector, and how many have a certain affinity term.

Spreading and inter-pod affinity both ask such questions for every pod that is scheduled. Instead of going over all pods
each time, a count is made once and then follows each change; the most recently used ones are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from tiphys.api.meta.selectors import NOTHING, Selector
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.terms import AffinityTerm
from tiphys.scheduler.table import Column, NodeTable

KEPT = 256

Labels = Mapping[str, str]


class Clause(NamedTuple):
    """Pods in one of the namespaces, named or selected by label, with labels that match."""

    namespaces: frozenset[str]
    namespace_selector: Selector
    selector: Selector


class Question(NamedTuple):
    """Which pods are counted: those that match all clauses."""

    clauses: tuple[Clause, ...]
    terminating: bool
    """Whether pods that are being deleted count."""


class TermKind(Enum):
    REQUIRED = "required affinity"
    FORBIDDEN = "required anti-affinity"
    PREFERRED = "preferred affinity"
    AVOIDED = "preferred anti-affinity"


@dataclass(slots=True)
class TermOwners:
    """The pods that have one term: how many on each row, and in all."""

    term: AffinityTerm
    column: Column
    total: int = 0


class PodIndex:
    def __init__(self, table: NodeTable) -> None:
        self._table = table
        self._counts: OrderedDict[Question, Column] = OrderedDict()
        self._owners: dict[tuple[TermKind, AffinityTerm], TermOwners] = {}
        self._by_namespace: dict[str, dict[str, tuple[PodInfo, NodeInfo]]] = {}
        self.namespace_labels: dict[str, Labels] = {}

    def set_namespace(self, name: str, labels: Labels | None) -> None:
        """Take a namespace's labels; None if it is gone. Counts that select namespaces are rebuilt."""
        if self.namespace_labels.get(name) == labels:
            return
        if labels is None:
            self.namespace_labels.pop(name, None)
        else:
            self.namespace_labels[name] = labels
        for question in [q for q in self._counts if _selects_namespaces(q)]:
            self._table.drop(self._counts.pop(question))

    def add(self, pod: PodInfo, node: NodeInfo) -> None:
        self._by_namespace.setdefault(pod.namespace, {})[pod.uid] = (pod, node)
        self._count(pod, node.row, 1)

    def remove(self, pod: PodInfo, node: NodeInfo) -> None:
        pods = self._by_namespace[pod.namespace]
        del pods[pod.uid]
        if not pods:
            del self._by_namespace[pod.namespace]
        self._count(pod, node.row, -1)

    def exchange(self, pod: PodInfo, node: NodeInfo) -> None:
        """Take a new version of a pod that counts like the old one."""
        self._by_namespace[pod.namespace][pod.uid] = (pod, node)

    def _count(self, pod: PodInfo, row: int, sign: int) -> None:
        for question, column in self._counts.items():
            if self._matches(question, pod):
                column.data[row] += sign
        if pod.has_pod_affinity:
            for kind, term in terms_of(pod):
                self._own(kind, term, row, sign)

    def _own(self, kind: TermKind, term: AffinityTerm, row: int, sign: int) -> None:
        owners = self._owners.get((kind, term))
        if owners is None:
            owners = self._owners[kind, term] = TermOwners(term, self._table.column())
        owners.column.data[row] += sign
        owners.total += sign
        if owners.total == 0:
            self._table.drop(owners.column)
            del self._owners[kind, term]

    def counts(self, question: Question) -> Column:
        """How many pods on each row match."""
        column = self._counts.get(question)
        if column is not None:
            self._counts.move_to_end(question)
            return column
        column = self._table.column()
        for name in self._namespaces(question):
            for pod, node in self._by_namespace.get(name, {}).values():
                if self._matches(question, pod):
                    column.data[node.row] += 1
        self._counts[question] = column
        if len(self._counts) > KEPT:
            self._table.drop(self._counts.popitem(last=False)[1])
        return column

    def owners(self, *kinds: TermKind) -> Iterable[tuple[TermKind, TermOwners]]:
        """The terms that pods on nodes have."""
        return [(kind, owners) for (kind, _), owners in self._owners.items() if kind in kinds]

    @property
    def has_terms(self) -> bool:
        return bool(self._owners)

    def labels_of_namespace(self, name: str) -> Labels:
        return self.namespace_labels.get(name, {})

    def _namespaces(self, question: Question) -> Iterable[str]:
        return list(self._by_namespace) if _selects_namespaces(question) else question.clauses[0].namespaces

    def _matches(self, question: Question, pod: PodInfo) -> bool:
        if pod.deleting and not question.terminating:
            return False
        for namespaces, namespace_selector, selector in question.clauses:
            if pod.namespace not in namespaces and (
                namespace_selector is NOTHING or not namespace_selector.matches(self.labels_of_namespace(pod.namespace))
            ):
                return False
            if not selector.matches(pod.labels):
                return False
        return True


def _selects_namespaces(question: Question) -> bool:
    return any(clause.namespace_selector != NOTHING for clause in question.clauses)


def terms_of(pod: PodInfo) -> list[tuple[TermKind, AffinityTerm]]:
    terms = [(TermKind.REQUIRED, term) for term in pod.required_affinity]
    terms += [(TermKind.FORBIDDEN, term) for term in pod.required_anti_affinity]
    terms += [(TermKind.PREFERRED, term) for term in pod.preferred_affinity]
    terms += [(TermKind.AVOIDED, term) for term in pod.preferred_anti_affinity]
    return terms


def question_of(*terms: AffinityTerm) -> Question:
    return Question(tuple(Clause(t.namespaces, t.namespace_selector, t.selector) for t in terms), terminating=True)
