"""The resource claim controller against the API server: upstream's unit-test table (controller_test.go), played out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tiphys.api.object import Object
from tiphys.client.resources import PODS, RESOURCE_CLAIMS
from tiphys.controllers.resourceclaim import plan
from tiphys.testing import Cluster, LateNews

TEMPLATE = "my-template"
DEVICES = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=1) as cluster:
        yield cluster


def template(cluster: Cluster, name: str = TEMPLATE) -> Object:
    meta = {"labels": {"l": "1"}, "annotations": {"a": "2"}}
    spec = {"metadata": meta, "spec": DEVICES}
    kind = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate"}
    return cluster.create({**kind, "metadata": {"name": name}, "spec": spec})


def pod(cluster: Cluster, name: str = "p", *claims: Object, **spec: Any) -> Object:
    wanted = claims or ({"name": "acme", "resourceClaimTemplateName": TEMPLATE},)
    body = {
        "containers": [{"name": "c", "image": "i"}],
        "resourceClaims": list(wanted),
        "schedulerName": "nobody",
        **spec,
    }
    return cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body})


def claims(cluster: Cluster) -> list[Object]:
    return cluster.list("resource.k8s.io/v1", "ResourceClaim", "default")


def statuses(cluster: Cluster, name: str = "p") -> dict[str, str | None]:
    found = cluster.get("v1", "Pod", name)
    return plan.statuses_of(found) if found is not None else {}


def made(cluster: Cluster, name: str = "p") -> Object:
    """The one claim of a pod, known to its status."""
    cluster.wait_until(lambda: statuses(cluster, name))
    (wanted,) = statuses(cluster, name).values()
    return next(claim for claim in claims(cluster) if claim["metadata"]["name"] == wanted)


def allocate(cluster: Cluster, claim: Object, *pods: Object, finalizer: bool = True) -> Object:
    """What the scheduler writes."""
    if finalizer:
        claim["metadata"]["finalizers"] = [plan.FINALIZER]
        claim = cluster.run(cluster.client.update(RESOURCE_CLAIMS, claim))
    consumers = [{"resource": "pods", "name": p["metadata"]["name"], "uid": p["metadata"]["uid"]} for p in pods]
    result = {"request": "r", "driver": "d.example", "pool": "p", "device": "x"}
    claim["status"] = {"allocation": {"devices": {"results": [result]}}} | ({"reservedFor": consumers} if pods else {})
    return cluster.run(cluster.client.update_status(RESOURCE_CLAIMS, claim))


def end(cluster: Cluster, name: str, phase: str = "Succeeded") -> None:
    found = cluster.get("v1", "Pod", name)
    assert found is not None
    found["status"]["phase"] = phase
    cluster.run(cluster.client.update_status(PODS, found))


def get(cluster: Cluster, claim: Object) -> Object | None:
    return cluster.get("resource.k8s.io/v1", "ResourceClaim", claim["metadata"]["name"])


def test_a_claim_is_made_from_the_template(cluster: Cluster) -> None:
    template(cluster)
    owner = pod(cluster)
    claim = made(cluster)
    meta = claim["metadata"]
    assert meta["name"].startswith("p-acme-")
    assert meta["labels"] == {"l": "1"}
    assert meta["annotations"] == {"a": "2", plan.CLAIM_NAME: "acme"}
    uid = owner["metadata"]["uid"]
    assert meta["ownerReferences"] == [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": True}]
    assert claim["spec"]["devices"]["requests"][0]["exactly"]["deviceClassName"] == "c"
    cluster.run_for(5)
    assert len(claims(cluster)) == 1


def test_a_missing_template_is_told_of_and_waited_for(cluster: Cluster) -> None:
    pod(cluster)

    def told() -> list[str]:
        return [e["message"] for e in cluster.list("v1", "Event") if e["reason"] == "FailedResourceClaimCreation"]

    cluster.wait_until(told)
    missing = f'resourceclaimtemplate.resource.k8s.io "{TEMPLATE}" not found'
    assert told() == [f'PodResourceClaim acme: resource claim template "{TEMPLATE}": {missing}']
    template(cluster)
    made(cluster)


def test_a_deleted_claim_is_made_again_and_the_others_stay(cluster: Cluster) -> None:
    template(cluster)
    both = [{"name": name, "resourceClaimTemplateName": TEMPLATE} for name in ("one", "two")]
    pod(cluster, "p", *both)
    before = cluster.wait_until(lambda: statuses(cluster))
    cluster.delete("resource.k8s.io/v1", "ResourceClaim", before["one"])
    after = cluster.wait_until(lambda: (now := statuses(cluster))["one"] != before["one"] and now)
    assert after["two"] == before["two"]
    assert {claim["metadata"]["name"] for claim in claims(cluster)} == set(after.values())


def test_a_claim_of_another_with_the_recorded_name_is_not_taken(cluster: Cluster) -> None:
    template(cluster)
    stranger = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "p-acme"}}
    cluster.create({**stranger, "spec": DEVICES})
    pod(cluster)
    assert made(cluster)["metadata"]["name"] != "p-acme"


def test_a_pod_that_is_bound_by_hand_gets_its_reservation(cluster: Cluster) -> None:
    template(cluster)
    owner = pod(cluster)
    claim = allocate(cluster, made(cluster))
    target = {"apiVersion": "v1", "kind": "Node", "name": "node-0"}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": target}
    cluster.run(cluster.client.create(PODS, binding, namespace="default", name="p", subresource="binding"))

    def reserved() -> list[Object]:
        found = get(cluster, claim)
        return plan.consumers(found) if found is not None else []

    wanted = [{"resource": "pods", "name": "p", "uid": owner["metadata"]["uid"]}]
    assert cluster.wait_until(reserved) == wanted


@pytest.mark.parametrize("how", ["ended", "deleted"])
def test_the_last_consumer_gives_the_devices_back(cluster: Cluster, how: str) -> None:
    shared = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "shared"},
        "spec": DEVICES,
    }
    claim = cluster.create(shared)
    users = [pod(cluster, name, {"name": "acme", "resourceClaimName": "shared"}) for name in ("p", "q")]
    allocate(cluster, claim, *users)
    cluster.run_for(5)
    assert len(plan.consumers(get(cluster, claim) or {})) == 2
    for left, name in ((1, "p"), (0, "q")):
        if how == "ended":
            end(cluster, name)
        else:
            cluster.delete("v1", "Pod", name)
        cluster.wait_until(lambda left=left: len(plan.consumers(get(cluster, claim) or {})) == left)
        found = get(cluster, claim)
        assert found is not None
        assert ("allocation" in found.get("status", {})) == bool(left)
    cluster.wait_until(lambda: not plan.finalizers_of(get(cluster, claim) or {"metadata": {"finalizers": [1]}}))


def test_consumers_that_are_no_pods_or_were_replaced(cluster: Cluster) -> None:
    shared = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "shared"},
        "spec": DEVICES,
    }
    claim = allocate(cluster, cluster.create(shared))
    other = {"apiGroup": "example.com", "resource": "things", "name": "t", "uid": "1"}
    claim["status"]["reservedFor"] = [other, {"resource": "pods", "name": "gone", "uid": "2"}]
    cluster.run(cluster.client.update_status(RESOURCE_CLAIMS, claim))
    cluster.wait_until(lambda: plan.consumers(get(cluster, claim) or {}) == [other])
    found = get(cluster, claim)
    assert found is not None
    assert "allocation" in found["status"]


def test_a_generated_claim_of_a_pod_that_ended_is_deleted(cluster: Cluster) -> None:
    template(cluster)
    owner = pod(cluster)
    claim = allocate(cluster, made(cluster), owner)
    end(cluster, "p", "Failed")
    cluster.wait_until(lambda: get(cluster, claim) is None)
    assert cluster.get("v1", "Pod", "p") is not None
    cluster.run_for(5)
    assert claims(cluster) == []


def test_a_deleted_claim_without_consumers_loses_its_allocation_and_finalizer(cluster: Cluster) -> None:
    shared = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "shared"},
        "spec": DEVICES,
    }
    claim = allocate(cluster, cluster.create(shared))
    cluster.delete("resource.k8s.io/v1", "ResourceClaim", "shared")
    cluster.wait_until(lambda: get(cluster, claim) is None)


@pytest.mark.parametrize("seed", range(1, 4))
def test_with_late_news_there_is_one_claim_for_each(seed: int) -> None:
    print("seed", seed)
    with Cluster(nodes=1, seed=seed, late_news=LateNews(seconds=3.0)) as cluster:
        template(cluster)
        both = [{"name": name, "resourceClaimTemplateName": TEMPLATE} for name in ("one", "two")]
        for number in range(4):
            pod(cluster, f"p{number}", *both)
            cluster.run_for(cluster.rng.uniform(0, 2))
        cluster.wait_until(lambda: all(len(statuses(cluster, f"p{number}")) == 2 for number in range(4)), timeout=300)
        cluster.run_for(60)
        names = {name for number in range(4) for name in statuses(cluster, f"p{number}").values()}
        assert {claim["metadata"]["name"] for claim in claims(cluster)} == names
        assert len(names) == 8


def test_long_names_are_cut_in_proportion() -> None:
    assert plan.base_name("p", "acme") == "p-acme-"
    assert plan.base_name("p" * 60, "a" * 40) == "p" * 33 + "-" + "a" * 22
