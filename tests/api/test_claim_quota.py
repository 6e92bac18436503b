"""What a claim for devices uses of quotas: upstream's table (pkg/quota/v1/evaluator/core), and which names count."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api.object import Object
from tiphys.api.pods.claimquota import NO_CLASSES, SPECIAL_CLAIM, DeviceNames, names_of_classes
from tiphys.api.pods.quotausage import matching, usage_of

GPU = "gpu.deviceclass.resource.k8s.io/devices"
TPU = "tpu.deviceclass.resource.k8s.io/devices"
IMPLICIT, EXPLICIT = "requests.deviceclass.resource.kubernetes.io/gpu", "requests.example.com/gpu"
COUNT = "count/resourceclaims.resource.k8s.io"
CLASS = {"metadata": {"name": "gpu"}, "spec": {"extendedResourceName": "example.com/gpu"}}


def exactly(**more: Any) -> Object:
    return {
        "name": "r",
        "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1, **more},
    }


def one_of(*alternatives: Object) -> Object:
    default = {"name": "s", "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1}
    return {"name": "r", "firstAvailable": [{**default, **one} for one in alternatives]}


ALL: Object = {"allocationMode": "All", "count": 0}


def claim(*requests: Object, pod: str = "", name: str = "foo") -> Object:
    meta: Object = {"name": name, "namespace": "ns"}
    if pod:
        meta["annotations"] = {SPECIAL_CLAIM: "true"}
        meta["ownerReferences"] = [{"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": "uid", "controller": True}]
    return {"metadata": meta, "spec": {"devices": {"requests": list(requests)}}}


def usage(described: Object, devices: DeviceNames = NO_CLASSES) -> dict[str, int]:
    return {
        name: amount.value()
        for name, amount in usage_of("resource.k8s.io", "resourceclaims", described, 0, devices).items()
    }


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ([exactly()], {GPU: 1, IMPLICIT: 1}),
        ([exactly()] * 5, {GPU: 5, IMPLICIT: 5}),
        ([exactly(count=5)], {GPU: 5, IMPLICIT: 5}),
        ([exactly(**ALL)], {GPU: 32, IMPLICIT: 32}),
        ([exactly(allocationMode="future-mode")], {GPU: 0}),
        ([exactly(adminAccess=True)], {GPU: 1, IMPLICIT: 1}),
        ([one_of({})], {GPU: 1, IMPLICIT: 1}),
        ([one_of({"count": 2}, {})], {GPU: 2, IMPLICIT: 2}),
        ([one_of({}, ALL)], {GPU: 32, IMPLICIT: 32}),
        (
            [one_of({}, {"deviceClassName": "tpu", **ALL})],
            {GPU: 1, IMPLICIT: 1, TPU: 32, "requests.deviceclass.resource.kubernetes.io/tpu": 32},
        ),
        ([{"name": "of a later version"}], {}),
        ([], {}),
    ],
)
def test_a_claim_counts_the_most_that_it_could_be_given(requests: list[Object], expected: dict[str, int]) -> None:
    assert usage(claim(*requests)) == {COUNT: 1, **expected}


BOTH = {"example.com/gpu": "1", "deviceclass.resource.kubernetes.io/gpu": "1"}


def pod(containers: list[Object], inits: list[Object], known: str = "foo") -> Object:
    described = [[{"name": "c", "resources": {"requests": requests}} for requests in of] for of in (containers, inits)]
    status = {"extendedResourceClaimStatus": {"resourceClaimName": known}} if known else {}
    spec = {"containers": described[0] or [{"name": "c"}], "initContainers": described[1]}
    return {"metadata": {"name": "p", "namespace": "ns", "uid": "uid"}, "spec": spec, "status": status}


@pytest.mark.parametrize(
    ("asked", "requests", "others", "expected"),
    [
        (pod([{"deviceclass.resource.kubernetes.io/gpu": "1"}], []), 1, [], {GPU: 1, EXPLICIT: 1}),
        (pod([], [{"example.com/gpu": "1"}]), 1, [], {GPU: 1, IMPLICIT: 1}),
        (pod([BOTH], [BOTH]), 2, [], {GPU: 2, IMPLICIT: 1, EXPLICIT: 1}),
        (pod([BOTH], [BOTH, BOTH]), 2, [], {GPU: 2, IMPLICIT: 1, EXPLICIT: 1}),
        # The pod does not say yet which claim is its own: the first is.
        (pod([BOTH], [], ""), 2, [], {GPU: 2, IMPLICIT: 1, EXPLICIT: 1}),
        (pod([BOTH], [], ""), 2, ["bar"], {GPU: 2, IMPLICIT: 2, EXPLICIT: 2}),
        (pod([BOTH], [], ""), 2, ["zoo"], {GPU: 2, IMPLICIT: 1, EXPLICIT: 1}),
        # Another claim is the pod's, another pod has its name, or it is gone.
        (pod([BOTH], [], "bar"), 2, [], {GPU: 2, IMPLICIT: 2, EXPLICIT: 2}),
        ({**pod([BOTH], []), "metadata": {"name": "p", "uid": "other"}}, 2, [], {GPU: 2, IMPLICIT: 2, EXPLICIT: 2}),
        (None, 2, [], {GPU: 2, IMPLICIT: 2, EXPLICIT: 2}),
    ],
)
def test_what_a_pod_was_counted_for_is_not_counted_again_of_its_special_claim(
    asked: Object | None, requests: int, others: list[str], expected: dict[str, int]
) -> None:
    claims = [claim(exactly(), pod="p", name=name) for name in others]
    devices = DeviceNames(names_of_classes([CLASS]), lambda *_: asked, lambda *_: claims)
    assert usage(claim(*[exactly()] * requests, pod="p"), devices) == {COUNT: 1, **expected}


def test_the_names_that_claims_are_counted_under() -> None:
    devices = DeviceNames(names_of_classes([CLASS]))
    counted = {COUNT, GPU, EXPLICIT, IMPLICIT}
    others = {"resourceclaims", "storage", "bronze.deviceclass.resource.k8s.io/storage", "requests.other.com/x"}
    others |= {"gpu.storage.k8s.io/requests.storage", "requests.deviceclass.resource.kubernetes.io/tpu"}
    assert matching("resource.k8s.io", "resourceclaims", counted | others, {}, devices) == counted
    assert matching("resource.k8s.io", "resourceclaims", counted | others, {}) == {COUNT, GPU}
    assert matching("", "pods", counted, {}) == {EXPLICIT, IMPLICIT}
