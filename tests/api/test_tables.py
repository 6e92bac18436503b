"""Tables: a row for each kind, and the ways in which a pod is summed up."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api.resources import builtin_scheme
from tiphys.api.tables import columns_of, table_for
from tiphys.api.tables.columns import _all
from tiphys.api.tables.formats import Moment, cut, duration, grown, lasting
from tiphys.api.tables.tables import PRINTERS, partial_metadata

NOW = 1_767_225_600.0
SCHEME = builtin_scheme()
CREATED = "2025-12-31T23:50:00Z"


def pod(**status: Any) -> dict[str, Any]:
    containers = [{"name": "a", "image": "x"}]
    return {
        "metadata": {"name": "p", "creationTimestamp": CREATED},
        "spec": {"containers": containers},
        "status": status,
    }


def table_of(group: str, kind: str, objects: list[dict[str, Any]], now: float, **options: Any) -> dict[str, Any]:
    resource = SCHEME.for_kind(group, kind)
    assert resource is not None
    return table_for(resource.gvk("v1"), objects, now, **options)


def cells(group: str, kind: str, obj: dict[str, Any]) -> dict[str, Any]:
    table = table_of(group, kind, [obj], NOW)
    return dict(zip([c["name"] for c in table["columnDefinitions"]], table["rows"][0]["cells"], strict=True))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (600, "10m"),
        (10800, "3h"),
        (11100, "3h5m"),
        (8 * 3600, "8h"),
        (48 * 3600, "2d"),
        (50 * 3600, "2d2h"),
        (9 * 86400, "9d"),
        (731 * 86400, "2y1d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_lists_are_cut() -> None:
    assert cut(["a", "b", "c", "d", "e"], 3) == "a,b,c + 2 more..."
    assert cut([], 3) == "<unset>"


def test_every_printer_has_columns_and_every_description_is_found() -> None:
    assert PRINTERS.keys() <= _all().keys()
    for columns in _all().values():
        assert all(isinstance(column.definition()["description"], str) for column in columns)
    assert [c.name for c in columns_of("example.com", "Widget")] == ["Name", "Created At"]


def running(restarts: int = 0, *, ready: bool = True) -> dict[str, Any]:
    return {"name": "a", "ready": ready, "restartCount": restarts, "state": {"running": {}}, "lastState": {}}


@pytest.mark.parametrize(
    ("status", "ready", "text"),
    [
        ({"phase": "Pending"}, "0/1", "Pending"),
        ({"phase": "Running", "containerStatuses": [running()]}, "1/1", "Running"),
        (
            {
                "phase": "Pending",
                "containerStatuses": [{"name": "a", "state": {"waiting": {"reason": "ErrImagePull"}}}],
            },
            "0/1",
            "ErrImagePull",
        ),
        (
            {
                "phase": "Failed",
                "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 3}}}],
            },
            "0/1",
            "ExitCode:3",
        ),
        ({"phase": "Failed", "reason": "Evicted"}, "0/1", "Evicted"),
        (
            {
                "phase": "Pending",
                "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated", "status": "False"}],
            },
            "0/1",
            "SchedulingGated",
        ),
    ],
)
def test_a_pods_status(status: dict[str, Any], ready: str, text: str) -> None:
    found = cells("", "Pod", pod(**status))
    assert (found["Ready"], found["Status"], found["Age"]) == (ready, text, "10m")


def test_a_pod_that_initializes_and_one_that_is_deleted() -> None:
    obj = pod(
        phase="Pending", initContainerStatuses=[{"name": "i", "state": {"waiting": {"reason": "PodInitializing"}}}]
    )
    obj["spec"]["initContainers"] = [{"name": "i"}, {"name": "j"}]
    assert cells("", "Pod", obj)["Status"] == "Init:0/2"
    obj["metadata"]["deletionTimestamp"] = CREATED
    assert cells("", "Pod", obj)["Status"] == "Terminating"


def test_restarts_say_how_long_ago() -> None:
    status = running(restarts=2) | {"lastState": {"terminated": {"finishedAt": "2025-12-31T23:59:00Z"}}}
    assert cells("", "Pod", pod(phase="Running", containerStatuses=[status]))["Restarts"] == "2 (60s ago)"


def test_a_completed_pod_is_marked() -> None:
    row = table_of("", "Pod", [pod(phase="Succeeded")], NOW)["rows"][0]
    assert row["conditions"][0]["reason"] == "Succeeded"
    assert row["object"]["kind"] == "PartialObjectMetadata"


def test_a_deployment_and_a_service() -> None:
    template = {"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}}
    deployment = {
        "metadata": {"name": "web", "creationTimestamp": CREATED},
        "spec": {"replicas": 3, "template": template, "selector": {"matchLabels": {"b": "2", "a": "1"}}},
        "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1},
    }
    found = table_of("apps", "Deployment", [deployment], NOW)["rows"][0]["cells"]
    assert found == ["web", "2/3", 3, 1, "10m", "a,b", "x,y", "a=1,b=2"]
    service = {
        "metadata": {"name": "web", "creationTimestamp": CREATED},
        "spec": {
            "type": "LoadBalancer",
            "clusterIPs": ["10.96.0.7"],
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
        },
    }
    found = table_of("", "Service", [service], NOW)["rows"][0]["cells"]
    assert found == ["web", "LoadBalancer", "10.96.0.7", "<pending>", "80:30080/TCP,53/UDP", "10m", "<none>"]


def test_metadata_alone_is_that_of_the_internal_form() -> None:
    annotations = {"deprecated.daemonset.template.generation": "1", "a": "b"}
    obj = {"kind": "DaemonSet", "metadata": {"name": "d", "annotations": annotations}}
    assert partial_metadata(obj)["metadata"] == {"name": "d", "annotations": {"a": "b"}}
    del annotations["a"]
    assert partial_metadata(obj)["metadata"] == {"name": "d"}
    assert partial_metadata({**obj, "kind": "Deployment"})["metadata"] == obj["metadata"]


def test_only_the_first_event_of_a_watch_has_headers() -> None:
    assert table_of("", "Pod", [pod()], NOW, headers=False)["columnDefinitions"] is None


def test_both_forms_of_an_event_give_the_same_row() -> None:
    meta = {"name": "e", "creationTimestamp": CREATED}
    facts = {"type": "Normal", "reason": "Scheduled", "eventTime": "2025-12-31T23:59:00.000000Z"}
    target = {"kind": "Pod", "name": "p"}
    old = {"metadata": meta, "involvedObject": target, "message": "ok", "reportingComponent": "s", **facts}
    new = {"metadata": meta, "regarding": target, "note": "ok", "reportingController": "s", **facts}
    rows = [table_of(group, "Event", [e], NOW)["rows"][0]["cells"] for group, e in (("", old), ("events.k8s.io", new))]
    assert rows[0] == rows[1] == ["60s", "Normal", "Scheduled", "pod/p", "", "s", "ok", "60s", 1, "e"]


def test_a_span_is_written_the_same_for_as_long_as_is_said_and_no_longer() -> None:
    for whole in (0, 1, 119, 120, 599, 600, 10_799, 10_800, 28_799, 28_800, 172_799, 691_199, 691_200, 5 * 31_536_000):
        for seconds in (whole, whole + 0.25):
            until = seconds + lasting(seconds)
            assert duration(seconds) == duration(until - 0.001), seconds
    assert duration(59.5) != duration(59.5 + lasting(59.5))


def test_a_moment_learns_from_the_span_that_changes_first() -> None:
    moment = Moment(NOW)
    assert (grown(NOW - 7200, moment), grown(NOW - 660.5, moment)) == ("120m", "11m")
    assert moment.right_until == NOW + 59.5
