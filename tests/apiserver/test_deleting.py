import copy

import pytest

from tiphys.api.scheme import GroupVersionKind
from tiphys.apiserver.registry.deleting import DeleteOptions, Step, plan, wanted_finalizers
from tiphys.apiserver.registry.strategies.namespaces import NamespaceStrategy
from tiphys.apiserver.registry.strategies.pods import PodStrategy
from tiphys.apiserver.registry.strategy import Strategy

NOW = 1_000_000_000.0
PLAIN = Strategy(GroupVersionKind("", "v1", "ConfigMap"))
PODS = PodStrategy(GroupVersionKind("", "v1", "Pod"))


def obj(**meta) -> dict:
    return {"metadata": {"name": "x", **meta}, "spec": {}}


def test_without_finalizers_an_object_is_removed_at_once() -> None:
    assert plan(PLAIN, obj(), DeleteOptions(), NOW) is Step.REMOVE


def test_with_a_finalizer_it_is_marked() -> None:
    marked = obj(finalizers=["a/b"], generation=3)
    assert plan(PLAIN, marked, DeleteOptions(), NOW) is Step.MARK
    assert marked["metadata"]["deletionTimestamp"] == "2001-09-09T01:46:40Z"
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 0
    assert marked["metadata"]["generation"] == 4


def test_a_second_deletion_does_not_count() -> None:
    marked = obj(finalizers=["a/b"], generation=3)
    plan(PLAIN, marked, DeleteOptions(), NOW)
    again = copy.deepcopy(marked)
    plan(PLAIN, again, DeleteOptions(), NOW + 10)
    assert again == marked


@pytest.mark.parametrize(
    ("options", "before", "after"),
    [
        (DeleteOptions(), [], []),
        (DeleteOptions(propagation="Orphan"), ["a"], ["a", "orphan"]),
        (DeleteOptions(propagation="Foreground"), ["orphan"], ["foregroundDeletion"]),
        (DeleteOptions(propagation="Background"), ["foregroundDeletion", "a"], ["a"]),
        (DeleteOptions(orphan=True), [], ["orphan"]),
        (DeleteOptions(orphan=False), ["orphan"], []),
        (DeleteOptions(), ["foregroundDeletion"], ["foregroundDeletion"]),
    ],
)
def test_finalizers_of_the_garbage_collector(options, before, after) -> None:
    assert wanted_finalizers(PLAIN, before, options) == after


def running() -> dict:
    spec = {"nodeName": "n", "terminationGracePeriodSeconds": 30}
    return {"metadata": {"name": "p"}, "spec": spec, "status": {"phase": "Running"}}


def test_a_running_pod_gets_its_grace() -> None:
    pod = running()
    assert plan(PODS, pod, DeleteOptions(), NOW) is Step.MARK
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 30
    assert pod["metadata"]["deletionTimestamp"] == "2001-09-09T01:47:10Z"


def test_grace_is_shortened_and_never_lengthened() -> None:
    pod = running()
    plan(PODS, pod, DeleteOptions(), NOW)
    assert plan(PODS, pod, DeleteOptions(grace=60), NOW) is Step.NOTHING
    assert plan(PODS, pod, DeleteOptions(), NOW) is Step.NOTHING
    assert plan(PODS, pod, DeleteOptions(grace=5), NOW) is Step.MARK
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 5
    assert plan(PODS, pod, DeleteOptions(grace=0), NOW) is Step.REMOVE


@pytest.mark.parametrize("change", [{"spec": {}}, {"status": {"phase": "Succeeded"}}, {"status": {"phase": "Failed"}}])
def test_a_pod_that_does_not_run_goes_at_once(change) -> None:
    assert plan(PODS, running() | change, DeleteOptions(), NOW) is Step.REMOVE


def test_a_namespace_waits_for_its_content() -> None:
    strategy = NamespaceStrategy(GroupVersionKind("", "v1", "Namespace"))
    namespace = {"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
    assert plan(strategy, namespace, DeleteOptions(), NOW) is Step.MARK
    assert namespace["status"]["phase"] == "Terminating"
    assert plan(strategy, namespace, DeleteOptions(), NOW) is Step.NOTHING
    namespace["spec"] = {}
    assert plan(strategy, namespace, DeleteOptions(), NOW) is Step.REMOVE
