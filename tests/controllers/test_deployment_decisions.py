"""The deployment controller's decisions: scaling, revisions, status, progress."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tiphys.api.object import Object
from tiphys.controlkit.objects import timestamp
from tiphys.controllers.deployment import revisions, rollout, status
from tiphys.controllers.deployment.controller import replica_set_name
from tiphys.controllers.templates import compute_hash, equal_ignoring_hash, with_label

NOW = 1_767_225_600.0


def deployment(replicas: int, surge: int | str = 0, unavailable: int | str = 0, **spec: Any) -> Object:
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    return {
        "metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 1},
        "spec": {
            "replicas": replicas,
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            **spec,
        },
        "status": {},
    }


def rs(name: str, replicas: int, available: int | None = None, age: int = 0, **annotations: str) -> Object:
    available = replicas if available is None else available
    return {
        "metadata": {
            "name": name,
            "uid": name,
            "creationTimestamp": timestamp(NOW - age),
            "annotations": {f"deployment.kubernetes.io/{key.replace('_', '-')}": v for key, v in annotations.items()},
        },
        "spec": {"replicas": replicas, "template": {"metadata": {"labels": {"app": "web"}}, "spec": {}}},
        "status": {"replicas": replicas, "availableReplicas": available, "readyReplicas": available},
    }


@pytest.mark.parametrize(
    ("surge", "unavailable", "desired", "expected"),
    [
        ("0%", "0%", 0, (0, 1)),
        ("39%", "39%", 10, (4, 3)),
        ("oops", "39%", 10, None),
        ("55%", "urg", 10, None),
        (None, "39%", 10, (0, 3)),
        ("39%", None, 10, (4, 0)),
        (1, 0, 5, (1, 0)),
        (0, 0, 5, (0, 1)),
    ],
)
def test_fence_posts(surge: Any, unavailable: Any, desired: int, expected: tuple[int, int] | None) -> None:
    wanted = deployment(desired, surge, unavailable)
    if expected is None:
        with pytest.raises(ValueError, match="IntOrString"):
            rollout.fenceposts(wanted)
    else:
        assert rollout.fenceposts(wanted) == expected


@pytest.mark.parametrize(
    ("desired", "surge", "new", "old", "expected"),
    [
        (1, 5, 0, 0, 1),  # cannot scale up past the Deployment's replicas
        (2, 5, 0, 10, 0),  # no room
        (6, 2, 1, 4, 4),
        (20, 10, 6, 10, 20),
    ],
)
def test_new_replicas(desired: int, surge: int, new: int, old: int, expected: int) -> None:
    sets = [rs("new", new), rs("old", old)]
    assert rollout.new_replicas(deployment(desired, surge, 1), sets, new) == expected


@pytest.mark.parametrize(
    ("desired", "surge", "old", "new", "expected"),
    [(10, 0, 0, 0, 10), (10, 2, 0, 10, 10), (10, 2, 5, 0, 7), (10, 2, 10, 2, 2), (10, 2, 2, 11, 10)],
)
def test_grow_new(desired: int, surge: int, old: int, new: int, expected: int) -> None:
    fresh = rs("new", new)
    assert rollout.grow_new(deployment(desired, surge, 1), [rs("old", old), fresh], fresh) == expected


@pytest.mark.parametrize(
    ("desired", "unavailable", "old", "new", "ready_old", "ready_new", "expected"),
    [
        (10, 0, 10, 0, 10, 0, None),
        (10, 2, 10, 0, 10, 0, 8),
        (10, 2, 10, 0, 8, 0, 8),  # what is not ready goes first
        (10, 2, 8, 4, 6, 2, 6),  # new replicas that are not ready leave less room
        (10, 2, 0, 10, 0, 10, None),
        (10, 2, 4, 8, 4, 8, 0),
    ],
)
def test_shrink_old(
    desired: int, unavailable: int, old: int, new: int, ready_old: int, ready_new: int, expected: int | None
) -> None:
    scales = rollout.shrink_old(
        deployment(desired, 2, unavailable), rs("new", new, ready_new), [rs("old", old, ready_old)]
    )
    assert [scale.replicas for scale in scales] == ([] if expected is None else [expected])


def test_unhealthy_replicas_go_from_the_oldest_set_first() -> None:
    old = [rs("b", 3, 1, age=10), rs("a", 3, 1, age=100)]
    scales = rollout.shrink_old(deployment(6, 2, 3), rs("new", 2, 2), old)
    assert {scale.replica_set["metadata"]["name"]: scale.replicas for scale in scales} == {"a": 0, "b": 1}


@given(
    st.integers(1, 20),
    st.integers(0, 10),
    st.integers(0, 10),
    st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), min_size=1, max_size=4),
    st.tuples(st.integers(0, 10), st.integers(0, 10)),
)
def test_scaling_down_never_makes_more_unavailable_than_allowed(
    desired: int, surge: int, unavailable: int, olds: list[tuple[int, int]], new: tuple[int, int]
) -> None:
    wanted = deployment(desired, surge, unavailable)
    old = [rs(f"old{n}", size, min(ready, size), age=n) for n, (size, ready) in enumerate(olds)]
    fresh = rs("new", new[0], min(new))
    sizes = {scale.replica_set["metadata"]["name"]: scale.replicas for scale in rollout.shrink_old(wanted, fresh, old)}
    before = sum(rollout.available_of(found) for found in [*old, fresh])
    after = rollout.available_of(fresh)
    for found in old:
        size = sizes.get(found["metadata"]["name"], rollout.replicas_of(found))
        assert 0 <= size <= rollout.replicas_of(found)
        after += min(size, rollout.available_of(found))
    minimum = desired - rollout.max_unavailable(wanted)
    assert after >= min(before, minimum)


@pytest.mark.parametrize(
    ("before", "desired", "surge", "new", "old", "expected_new", "expected_old"),
    [
        (10, 12, 0, 10, [], 12, []),
        (10, 5, 0, 10, [], 5, []),
        (10, 15, 0, 5, [5], 8, [7]),  # in the middle of a rollout: in proportion, the newer gets what is left over
        (10, 15, 0, 2, [8], 3, [12]),
        (10, 5, 0, 7, [3], 3, [2]),
        (10, 20, 0, 5, [3, 2], 10, [6, 4]),
        (10, 0, 0, 5, [3, 2], 0, [0, 0]),
        (10, 20, 2, 6, [6], 11, [11]),
        (10, 1, 0, 5, [3, 2], 1, [0, 0]),
    ],
)
def test_scaling_in_proportion(
    before: int, desired: int, surge: int, new: int, old: list[int], expected_new: int, expected_old: list[int]
) -> None:
    noted = {"desired_replicas": str(before), "max_replicas": str(before + surge)}
    fresh = rs("new", new, age=0, **noted)
    olds = [rs(f"old{n}", size, age=10 + n, **noted) for n, size in enumerate(old)]
    sizes = {
        scale.replica_set["metadata"]["name"]: scale.replicas
        for scale in rollout.scale(deployment(desired, surge, 1), fresh, olds)
    }
    assert sizes.get("new", new) == expected_new
    assert [sizes.get(f"old{n}", size) for n, size in enumerate(old)] == expected_old


@given(st.integers(0, 50), st.integers(0, 5), st.lists(st.integers(1, 20), max_size=4))
@example(1, 1, [1, 1, 1, 1])
def test_scaling_in_proportion_reaches_exactly_what_is_allowed(desired: int, surge: int, sizes: list[int]) -> None:
    """Unless the largest set would have to give more than it has: as upstream's, it then gives all."""
    noted = {"desired_replicas": "1", "max_replicas": str(sum(sizes))}
    sets = [rs(f"rs{n}", size, age=n, **noted) for n, size in enumerate(sizes)]
    scales = rollout.scale(deployment(desired, surge, 1), None, sets)
    assert all(scale.replicas >= 0 for scale in scales)
    if len(sets) > 1:
        reached, allowed = sum(scale.replicas for scale in scales), desired + surge if desired else 0
        assert reached == allowed or (reached > allowed and scales[0].replicas == 0)


def test_a_saturated_new_set_takes_the_old_ones_down() -> None:
    fresh = rs("new", 5, desired_replicas="5")
    scales = rollout.scale(deployment(5, 1, 1), fresh, [rs("old", 2), rs("older", 0)])
    assert [(scale.replica_set["metadata"]["name"], scale.replicas) for scale in scales] == [("old", 0)]


def test_scaling_is_noticed_by_the_annotation() -> None:
    assert not rollout.is_scaling(deployment(3), [rs("a", 3, desired_replicas="3")])
    assert rollout.is_scaling(deployment(5), [rs("a", 3, desired_replicas="3")])
    assert not rollout.is_scaling(deployment(5), [rs("a", 0, desired_replicas="3"), rs("b", 1)])


# Revisions


def test_a_new_revision_is_remembered_with_the_former_ones() -> None:
    found = rs("a", 1, revision="2", revision_history="1")
    assert revisions.annotate_new(deployment(1), found, 5, exists=True)
    annotations = found["metadata"]["annotations"]
    assert annotations[revisions.REVISION] == "5"
    assert annotations[revisions.HISTORY] == "1,2"
    assert not revisions.annotate_new(deployment(1), found, 5, exists=True)


def test_history_is_cut_to_its_length() -> None:
    found = rs("a", 1, revision="1000", revision_history=",".join(["999"] * 500))
    revisions.annotate_new(deployment(1), found, 1001, exists=True)
    history = found["metadata"]["annotations"][revisions.HISTORY]
    assert len(history) <= revisions.HISTORY_LENGTH
    assert history.endswith(",1000")


def test_annotations_are_copied_but_for_the_controllers_own() -> None:
    wanted = deployment(1)
    wanted["metadata"]["annotations"] = {"mine": "1", revisions.LAST_APPLIED: "{}", revisions.REVISION: "9"}
    found = rs("a", 1)
    revisions.annotate_new(wanted, found, 1, exists=False)
    assert found["metadata"]["annotations"] == {
        "mine": "1",
        revisions.REVISION: "1",
        rollout.DESIRED: "1",
        rollout.MAXIMUM: "1",
    }


@pytest.mark.parametrize(
    ("numbers", "last"), [(["1", "2", "3"], 2), (["1"], 0), ([], 0), (["3", "x", "1"], 1), (["2", "2"], 2)]
)
def test_last_revision(numbers: list[str], last: int) -> None:
    assert revisions.last_revision([rs(str(n), 1, revision=text) for n, text in enumerate(numbers)]) == last


def test_old_sets_beyond_the_limit_go_lowest_revision_first() -> None:
    old = [rs(f"r{n}", 0, revision=str(n)) for n in (12, 3, 1, 2)]
    old.append(rs("busy", 2, revision="0"))
    names = [found["metadata"]["name"] for found in revisions.to_clean_up(deployment(1, revisionHistoryLimit=2), old)]
    assert names == ["r1", "r2"]
    assert revisions.to_clean_up(deployment(1), old) == []


# Status


def test_counts_leave_out_zeros_but_keep_terminating() -> None:
    fresh = rs("new", 3, 2)
    fresh["status"]["terminatingReplicas"] = 0
    found = status.counts(deployment(3, 1, 1), fresh, [], NOW)
    assert {name: value for name, value in found.items() if name != "conditions"} == {
        "observedGeneration": 1,
        "replicas": 3,
        "updatedReplicas": 3,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "unavailableReplicas": 1,
        "terminatingReplicas": 0,
    }
    assert [(c["type"], c["status"]) for c in found["conditions"]] == [("Available", "True")]


@pytest.mark.parametrize(
    ("known", "terminating"),
    [([{"terminatingReplicas": 2}, {"terminatingReplicas": 3}], 5), ([{"observedGeneration": 1}], None), ([{}], 0)],
)
def test_terminating_is_unknown_where_a_set_does_not_tell(known: list[Object], terminating: int | None) -> None:
    sets = [{**rs(str(n), 1), "status": found} for n, found in enumerate(known)]
    assert status.counts(deployment(1), None, sets, NOW).get("terminatingReplicas") == terminating


def progressing(reason: str, ago: float, value: str = "True") -> Object:
    time = timestamp(NOW - ago)
    return {
        "type": "Progressing",
        "status": value,
        "reason": reason,
        "message": "",
        "lastUpdateTime": time,
        "lastTransitionTime": time,
    }


@pytest.mark.parametrize(
    ("conditions", "timed_out"),
    [
        ([], False),
        ([progressing("NewReplicaSetAvailable", 9999)], False),
        ([progressing("ReplicaSetUpdated", 9)], False),
        ([progressing("ReplicaSetUpdated", 11)], True),
        ([progressing("ProgressDeadlineExceeded", 1)], True),
    ],
)
def test_timing_out(conditions: list[Object], timed_out: bool) -> None:
    wanted = deployment(3, progressDeadlineSeconds=10)
    assert status.has_timed_out(wanted, {"conditions": conditions}, NOW) is timed_out
    assert not status.has_timed_out(deployment(3), {"conditions": conditions}, NOW)


def reasons(found: Object) -> dict[str, str]:
    return {c["type"]: c["reason"] for c in found.get("conditions", [])}


def test_a_rollout_progresses_completes_and_times_out() -> None:
    wanted = deployment(2, 1, 1, progressDeadlineSeconds=600)
    fresh = rs("web-abc", 2, 0)
    wanted["status"] = {"conditions": [progressing("NewReplicaSetCreated", 100)]}
    found = status.rollout_status(wanted, fresh, [], NOW)
    assert reasons(found)["Progressing"] == "ReplicaSetUpdated"
    wanted["status"] = found
    fresh["status"]["availableReplicas"] = 2
    found = status.rollout_status(wanted, fresh, [], NOW)
    message = next(c["message"] for c in found["conditions"] if c["type"] == "Progressing")
    assert message == 'ReplicaSet "web-abc" has successfully progressed.'
    stuck = {**found, "conditions": [progressing("ReplicaSetUpdated", 601)]}
    wanted["status"] = stuck
    fresh["status"]["availableReplicas"] = 1
    assert reasons(status.rollout_status(wanted, fresh, [], NOW))["Progressing"] == "ProgressDeadlineExceeded"


def test_without_deadline_progress_is_not_told() -> None:
    wanted = deployment(1)
    wanted["status"] = {"conditions": [progressing("ReplicaSetUpdated", 5)]}
    assert "Progressing" not in reasons(status.rollout_status(wanted, rs("a", 1), [], NOW))


def test_a_replica_failure_is_passed_on_and_taken_back() -> None:
    wanted, fresh = deployment(1), rs("a", 1)
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}
    fresh["status"]["conditions"] = [{**failure, "lastTransitionTime": timestamp(NOW)}]
    found = status.rollout_status(wanted, fresh, [], NOW)
    assert reasons(found)["ReplicaFailure"] == "FailedCreate"
    wanted["status"] = found
    del fresh["status"]["conditions"]
    assert "ReplicaFailure" not in reasons(status.rollout_status(wanted, fresh, [], NOW))


@pytest.mark.parametrize(
    ("paused", "reason", "expected"),
    [
        (True, "NewReplicaSetAvailable", "DeploymentPaused"),
        (True, "DeploymentPaused", None),
        (False, "DeploymentPaused", "DeploymentResumed"),
        (False, "NewReplicaSetAvailable", None),
        (True, "ProgressDeadlineExceeded", None),
    ],
)
def test_pausing(paused: bool, reason: str, expected: str | None) -> None:
    wanted = deployment(1, paused=paused, progressDeadlineSeconds=60)
    wanted["status"] = {"conditions": [progressing(reason, 1)]}
    found = status.pause_condition(wanted, NOW)
    assert (found["reason"] if found else None) == expected


@pytest.mark.parametrize(
    ("reason", "ago", "after"),
    [("ReplicaSetUpdated", 10, 51), ("ReplicaSetUpdated", 60, 0), ("ProgressDeadlineExceeded", 5, None)],
)
def test_when_to_look_again_whether_it_is_stuck(reason: str, ago: float, after: float | None) -> None:
    wanted = deployment(1, progressDeadlineSeconds=60)
    wanted["status"] = {"conditions": [progressing(reason, ago)]}
    assert status.stuck_check_after(wanted, {}, NOW) == after


# Templates


def test_the_hash_is_stable_and_depends_on_what_matters() -> None:
    template = {"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    same = {"spec": {"containers": [{"image": "x", "name": "c", "env": []}]}, "metadata": {"labels": {"a": "1"}}}
    assert compute_hash(template, None) == compute_hash(same, None)
    assert set(compute_hash(template, None)) <= set("bcdfghjklmnpqrstvwxz2456789")
    assert compute_hash(template, None) != compute_hash(template, 1) != compute_hash(template, 2)
    other = {**template, "spec": {"containers": [{"name": "c", "image": "y"}]}}
    assert compute_hash(template, None) != compute_hash(other, None)


def test_templates_are_compared_without_the_hash_label() -> None:
    template = {"metadata": {"labels": {"a": "1"}}, "spec": {}}
    assert equal_ignoring_hash(template, with_label(template, "pod-template-hash", "x"))
    assert not equal_ignoring_hash(template, with_label(template, "b", "x"))
    assert equal_ignoring_hash({"metadata": {"creationTimestamp": None}, "spec": {}}, {"metadata": {}, "spec": {}})


def test_long_names_are_cut() -> None:
    assert replica_set_name("web", "abc") == "web-abc"
    assert len(replica_set_name("w" * 253, "abcdefghij")) == 253
