"""What whole pods request and are limited to."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.api.pods.qos import qos_of
from tiphys.api.pods.quotausage import missing_resources, usage_of
from tiphys.api.pods.resources import (
    container_sum,
    has_pod_level,
    pod_limits,
    pod_requests,
    request_for,
    whole,
)

Amounts = dict[str, str]


def texts(total: Amounts) -> dict[str, str]:
    return {name: str(quantity) for name, quantity in total.items()}


def asking(requests: Amounts | None = None, limits: Amounts | None = None, **more: Any) -> Object:
    sides = {"requests": requests, "limits": limits}
    return {"name": "c", "resources": {side: value for side, value in sides.items() if value is not None}, **more}


def sidecar(requests: Amounts | None = None, limits: Amounts | None = None, **more: Any) -> Object:
    return asking(requests, limits, restartPolicy="Always", **more)


def pod(*containers: Object, init: tuple[Object, ...] = (), status: Object | None = None, **spec: Any) -> Object:
    return {"spec": {"containers": list(containers), "initContainers": list(init), **spec}, "status": status or {}}


CPU = "cpu"


def cpu(amount: str) -> Amounts:
    return {"cpu": amount}


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        (pod(asking()), {}),
        ({"spec": {}}, {}),
        (pod(asking(cpu("1")), init=(asking(cpu("4")),)), cpu("4")),
        (pod(asking(cpu("2")), asking(cpu("3")), init=(asking(cpu("2")),)), cpu("5")),
        (
            pod(asking(cpu("2")), asking(cpu("3")), overhead={"cpu": "1", "memory": "1Gi"}),
            {"cpu": "6", "memory": "1Gi"},
        ),
        # Sidecars run on beside the containers, and beside the init containers that start after them.
        (pod(asking(cpu("1")), init=(sidecar(cpu("1")),)), cpu("2")),
        (pod(asking(cpu("1")), init=(sidecar(cpu("5")), asking(cpu("1")))), cpu("6")),
        (pod(asking(cpu("1")), init=(asking(cpu("5")), sidecar(cpu("1")))), cpu("5")),
        (pod(asking(cpu("1")), init=(sidecar(cpu("1")), asking(cpu("5")))), cpu("6")),
        (
            pod(asking(cpu("1")), init=(sidecar(cpu("1")), asking(cpu("5")), sidecar(cpu("3")), asking(cpu("5")))),
            cpu("9"),
        ),
        # The pod's own requests replace the sum, resource by resource, for those that it can have.
        (pod(asking(cpu("2m")), resources={"requests": {"memory": "2Mi"}}), {"cpu": "2m", "memory": "2Mi"}),
        (pod(asking({"storage": "3Mi"}), resources={"requests": {"storage": "2Mi"}}), {"storage": "3Mi"}),
        (pod(asking({"memory": "3Mi"}), resources={"requests": {"storage": "2Mi"}}), {"memory": "3Mi"}),
        (pod(asking(cpu("1")), resources={"requests": {"example.com/x": "4"}}), cpu("1")),
        (
            pod(
                asking({"cpu": "2m", "hugepages-2Mi": "2Mi"}),
                resources={"requests": {"cpu": "8m", "hugepages-1Gi": "1Gi"}},
            ),
            {"cpu": "8m", "hugepages-2Mi": "2Mi", "hugepages-1Gi": "1Gi"},
        ),
        (pod(asking(cpu("1")), resources={"requests": cpu("3")}, overhead=cpu("1")), cpu("4")),
        # Sums are exact; only who needs whole numbers rounds, once.
        (pod(asking({"memory": "100m"}), asking({"memory": "900m"})), {"memory": "1"}),
    ],
)
def test_requests(described: Object, expected: Amounts) -> None:
    assert texts(pod_requests(described)) == expected


def test_overhead_can_be_left_out() -> None:
    described = pod(asking(cpu("2"), cpu("3")), overhead={"cpu": "1", "memory": "1Gi"})
    assert texts(pod_requests(described, overhead=False)) == cpu("2")
    assert texts(pod_limits(described, overhead=False)) == cpu("3")
    # Overhead counts on top of limits only, while it is a request of its own.
    assert texts(pod_limits(described)) == cpu("4")
    assert texts(pod_limits(pod(asking(limits=cpu("0")), overhead=cpu("1")))) == cpu("0")


def test_what_counts_for_containers_that_request_nothing() -> None:
    missing = {"cpu": Quantity("100m"), "memory": Quantity("200M")}
    described = pod(asking(cpu("0")), asking(), init=(sidecar({"memory": "1M"}),))
    assert texts(pod_requests(described, missing=missing)) == {"cpu": "200m", "memory": "401M"}


def resized(wanted: str, granted: str, allocated: str, condition: Object | None = None) -> Object:
    entry = {"name": "c", "resources": {"requests": cpu(granted), "limits": cpu(granted)}}
    entry["allocatedResources"] = cpu(allocated)
    status = {"containerStatuses": [entry], "conditions": [condition] if condition else []}
    return pod(asking(cpu(wanted), cpu(wanted)), status=status)


INFEASIBLE = {"type": "PodResizePending", "status": "True", "reason": "Infeasible"}
DEFERRED = {"type": "PodResizePending", "status": "True", "reason": "Deferred"}


@pytest.mark.parametrize(
    ("described", "requests", "limits"),
    [
        (resized("4", "2", "1"), "4", "4"),
        (resized("1", "4", "2"), "4", "4"),
        (resized("1", "2", "4"), "4", "2"),
        (resized("4", "2", "1", INFEASIBLE), "2", "2"),
        (resized("4", "1", "2", INFEASIBLE), "2", "1"),
        (resized("4", "2", "1", DEFERRED), "4", "4"),
    ],
)
def test_a_resize_under_way(described: Object, requests: str, limits: str) -> None:
    assert texts(pod_requests(described, resizing=True)) == cpu(requests)
    assert texts(pod_limits(described, resizing=True)) == cpu(limits)
    wanted = described["spec"]["containers"][0]["resources"]["requests"]
    assert texts(pod_requests(described)) == wanted  # the status is not looked at unless asked for


def test_of_the_init_containers_only_sidecars_are_resized() -> None:
    entry = {"name": "c", "resources": {"requests": cpu("5")}}
    status = {"initContainerStatuses": [entry]}
    assert texts(pod_requests(pod(init=(sidecar(cpu("1")),), status=status), resizing=True)) == cpu("5")
    assert texts(pod_requests(pod(init=(asking(cpu("1")),), status=status), resizing=True)) == cpu("1")
    # A status that says that the container has nothing is a status all the same.
    empty = {"containerStatuses": [{"name": "c", "resources": {}, "allocatedResources": cpu("3")}]}
    assert texts(pod_requests(pod(asking(cpu("1")), status=empty), resizing=True)) == cpu("3")


def test_a_resize_of_the_pod_as_a_whole() -> None:
    status = {"resources": {"requests": cpu("3")}, "allocatedResources": cpu("2")}
    described = pod(asking(cpu("1")), resources={"requests": cpu("1")}, status=status)
    assert texts(pod_requests(described, resizing=True)) == cpu("1")
    assert texts(pod_requests(described, resizing=True, pod_level_resizing=True)) == cpu("3")
    described["status"]["conditions"] = [INFEASIBLE]
    described["status"]["resources"] = {}
    described["status"]["allocatedResources"] = {}
    assert texts(pod_requests(described, resizing=True, pod_level_resizing=True)) == cpu("0")


def test_limits_of_each_container_as_it_runs() -> None:
    each: list[Amounts] = []
    described = pod(asking(limits=cpu("1")), init=(sidecar(limits=cpu("2")), asking(limits=cpu("4")), asking()))
    assert texts(pod_limits(described, each=lambda limits: each.append(texts(limits)))) == cpu("6")
    assert each == [cpu("1"), cpu("2"), cpu("6"), cpu("2")]


def test_sums_of_containers_alone() -> None:
    described = pod(asking(cpu("1"), cpu("2")), resources={"requests": cpu("9")}, overhead=cpu("1"))
    assert texts(container_sum(described["spec"], "requests")) == cpu("1")
    assert texts(container_sum(described["spec"], "limits")) == cpu("2")


def test_whole_numbers_are_rounded_up_after_the_sum() -> None:
    described = pod(asking({"cpu": "100u", "memory": "100m"}), asking({"cpu": "100u", "memory": "100m"}))
    assert whole(pod_requests(described)) == {"cpu": 1, "memory": 1}


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        (pod(asking({"memory": "1Ki"})), 1024),
        (pod(asking({"memory": "1Ki"}), overhead={"memory": "1"}), 1025),
        (pod(asking(), overhead={"memory": "1"}), 0),
        (pod(asking({"memory": "1Ki"}), resources={"requests": {"memory": "4Ki"}}), 4096),
        (pod(asking({"memory": "1Ki"}), resources={"limits": cpu("1")}), 0),
    ],
)
def test_one_resource_as_eviction_ranks_by_it(described: Object, expected: int) -> None:
    assert request_for(described, "memory") == expected


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (None, False),
        ({}, False),
        ({"requests": {"storage": "1"}}, False),
        ({"limits": {"storage": "1"}}, False),
        ({"requests": {"storage": "1", "memory": "1"}}, True),
        ({"limits": {"hugepages-2Mi": "2Mi"}}, True),
    ],
)
def test_pod_level_resources_are_those_that_a_pod_can_have(resources: Object | None, expected: bool) -> None:
    assert has_pod_level({"resources": resources}) is expected


def test_quota_counts_overhead_and_what_a_resized_container_still_has() -> None:
    described = resized("1", "4", "2") | {"metadata": {"name": "p"}}
    described["spec"]["overhead"] = {"cpu": "500m", "memory": "1Mi"}
    usage = usage_of("", "pods", described, 0)
    assert texts(usage) == {
        "count/pods": "1",
        "pods": "1",
        "cpu": "4500m",
        "requests.cpu": "4500m",
        "limits.cpu": "4500m",
        "memory": "1Mi",
        "requests.memory": "1Mi",
    }


def test_quota_demands_nothing_of_containers_if_the_pod_itself_has_resources() -> None:
    def missing(resources: Object | None) -> str:
        return missing_resources({"spec": {"containers": [{"name": "c"}], "resources": resources}}, {"cpu"})

    assert missing(None) == missing({}) == missing({"requests": {"storage": "1"}}) == "must specify cpu for: c"
    assert missing({"requests": {"memory": "1"}}) == ""


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        (pod(asking(cpu("1"))), "Burstable"),
        (pod(asking(cpu("1")), status={"qosClass": "Guaranteed"}), "Guaranteed"),
        (pod(asking(cpu("1")), status={"qosClass": ""}), "Burstable"),
        ({}, "BestEffort"),
    ],
)
def test_the_class_in_the_status_stays(described: Object, expected: str) -> None:
    assert qos_of(described) == expected
