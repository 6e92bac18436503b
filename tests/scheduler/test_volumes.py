"""Pods with claims: the words in which they wait, and where they go. The words are kube-scheduler v1.36's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scheduler.world import Object, World, node, pod
from tiphys.scheduler import table
from tiphys.scheduler.cycle import Placement
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.plugins.volumes.volume_binding import VolumeBinding
from tiphys.scheduler.plugins.volumes.volume_restrictions import IN_USE

FAR = "0/1 nodes are available:"
UNHELPFUL = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
DELAYED = "WaitForFirstConsumer"


def claim(
    name: str, volume: str = "", *, size: str = "1Gi", cls: str | None = "", modes: Any = (), **meta: Any
) -> Object:
    annotations = {"pv.kubernetes.io/bind-completed": "yes"} if volume else {}
    spec: Object = {"accessModes": list(modes) or ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    spec |= {"volumeName": volume} if volume else {}
    spec |= {"storageClassName": cls} if cls is not None else {}
    described = {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": "5", **meta}
    described["annotations"] = annotations | meta.get("annotations", {})
    return {"metadata": described, "spec": spec, "status": {"phase": "Bound" if volume else "Pending"}}


def volume(
    name: str, *, size: str = "1Gi", cls: str = "", host: str = "", labels: Object | None = None, **more: Any
) -> Object:
    spec: Object = {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": cls, **more}
    if host:
        expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    meta = {"name": name, "uid": f"uid-{name}", "resourceVersion": "5", "labels": labels or {}}
    return {"metadata": meta, "spec": spec, "status": {"phase": "Available"}}


def storage_class(
    name: str, provisioner: str = "kubernetes.io/no-provisioner", mode: str = DELAYED, **more: Any
) -> Object:
    return {"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode, **more}


def mounting(name: str, *claims: str, **more: Any) -> Object:
    volumes = [{"name": f"v{i}", "persistentVolumeClaim": {"claimName": each}} for i, each in enumerate(claims)]
    return pod(name, volumes=volumes, **more)


def world(*nodes: Object, claims: Any = (), volumes: Any = (), classes: Any = (), **more: Any) -> World:
    made = World(nodes or [node("a")], **more)
    made.store("persistentvolumeclaims", *claims)
    made.store("persistentvolumes", *volumes)
    made.store("storageclasses", *classes)
    return made


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (mounting("p", "nope"), f'{FAR} persistentvolumeclaim "nope" not found. not found'),
        (mounting("p", "pend"), f"{FAR} pod has unbound immediate PersistentVolumeClaims. not found"),
        (
            pod("p", volumes=[{"name": "v", "ephemeral": {"volumeClaimTemplate": {}}}]),
            f'{FAR} waiting for ephemeral volume controller to create the persistentvolumeclaim "p-v". not found',
        ),
        (
            pod("q", volumes=[{"name": "v", "ephemeral": {"volumeClaimTemplate": {}}}]),
            f"{FAR} PVC default/q-v was not created for pod default/q (pod is not owner). not found",
        ),
        (
            mounting("p", "delayed"),
            f"{FAR} 1 node(s) didn't find available persistent volumes to bind. "
            f"no new claims to deallocate, {UNHELPFUL}",
        ),
        (
            mounting("p", "lost"),
            f'{FAR} persistentvolumeclaim "lost" bound to non-existent persistentvolume "x". not found',
        ),
        (mounting("p", "going"), f'{FAR} persistentvolumeclaim "going" is being deleted. not found'),
        (mounting("p", "gone"), f'{FAR} persistentvolume "x" not found. not found'),
        (
            mounting("p", "elsewhere"),
            f"{FAR} 1 node(s) didn't match PersistentVolume's node affinity. no new claims to deallocate, {UNHELPFUL}",
        ),
    ],
)
def test_why_a_pod_with_claims_waits(described: Object, message: str) -> None:
    claims = [
        claim("pend"),
        claim("delayed", cls="wait"),
        claim("q-v", "v"),
        claim("lost", "x") | {"status": {"phase": "Lost"}},
        claim("going", "v", deletionTimestamp="2026-01-01T00:00:00Z"),
        claim("gone", "x"),
        claim("elsewhere", "v"),
    ]
    made = world(claims=claims, volumes=[volume("v", host="b")], classes=[storage_class("wait")])
    assert made.refusal(described) == message


def test_a_pod_goes_where_its_volume_is() -> None:
    made = world(node("a"), node("b"), claims=[claim("c", "v")], volumes=[volume("v", host="b")])
    assert made.place(mounting("p", "c")) == "b"


def choose(made: World, described: Object) -> tuple[str, Any]:
    """The node, and what is to be written for the pod's claims there."""
    outcome = made.schedule(described)
    assert isinstance(outcome, Placement), outcome
    assert made.framework.reserve(outcome.state, PodInfo(described), outcome.node) is None
    return outcome.node, outcome


def test_a_waiting_claim_gets_the_smallest_volume_that_the_node_reaches() -> None:
    volumes = [volume("large", size="9Gi", cls="wait", host="a"), volume("small", size="2Gi", cls="wait", host="a")]
    volumes += [volume("other", size="1Gi", cls="other", host="a"), volume("tiny", size="1Mi", cls="wait", host="b")]
    made = world(
        node("a"), node("b"), claims=[claim("c", cls="wait")], volumes=volumes, classes=[storage_class("wait")]
    )
    where, placement = choose(made, mounting("p", "c"))
    ((bound, _),) = placement.state.data["VolumeBinding"].chosen.bindings
    assert (where, bound["metadata"]["name"], bound["spec"]["claimRef"]["name"]) == ("a", "small", "c")
    assert bound["metadata"]["annotations"] == {"pv.kubernetes.io/bound-by-controller": "yes"}


def test_a_volume_is_promised_to_one_pod_until_that_is_taken_back() -> None:
    made = world(
        claims=[claim("c", cls="wait"), claim("d", cls="wait")],
        volumes=[volume("v", cls="wait")],
        classes=[storage_class("wait")],
    )
    _, placement = choose(made, mounting("p", "c"))
    assert "persistent volumes to bind" in made.refusal(mounting("q", "d"))
    made.framework.unreserve(placement.state, PodInfo(mounting("p", "c")), "a")
    assert made.place(mounting("q", "d")) == "a"


def test_an_assumption_ends_with_a_newer_version() -> None:
    made = world(claims=[claim("c", cls="wait")], classes=[storage_class("wait", "csi.example.com")])
    _, placement = choose(made, mounting("p", "c"))
    (written,) = placement.state.data["VolumeBinding"].chosen.provisions
    assert written["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] == "a"
    plugin = next(p for p in made.framework.profile.pre_bind if isinstance(p, VolumeBinding))
    assert plugin._claims.get("default", "c") is written
    newer = claim("c", cls="wait", resourceVersion="6")
    made.store("persistentvolumeclaims", newer)
    assert plugin._claims.get("default", "c") is newer
    # One that is made anew under the same name is another claim, whatever its version.
    plugin._claims.assume(written)
    made.store("persistentvolumeclaims", claim("c", cls="wait", uid="another", resourceVersion="1"))
    assert plugin._claims.get("default", "c")["metadata"]["uid"] == "another"  # type: ignore[index]


@pytest.mark.parametrize(
    ("terms", "fits"),
    [([], True), ([{"matchLabelExpressions": [{"key": "zone", "values": ["z1"]}]}], True),
     ([{"matchLabelExpressions": [{"key": "zone", "values": ["z2"]}]}], False), ([{}], False)],
)  # fmt: skip
def test_provisioning_keeps_to_the_topologies_of_the_class(terms: Any, fits: bool) -> None:
    cls = storage_class("wait", "csi.example.com", allowedTopologies=terms)
    made = world(node("a", labels={"zone": "z1"}), claims=[claim("c", cls="wait")], classes=[cls])
    (status,) = made.objections(mounting("p", "c")).values()
    assert (status is None) is fits


@pytest.mark.parametrize(
    ("capacity", "fits"),
    [({"capacity": "2Gi"}, True), ({"capacity": "1Mi"}, False), ({}, False),
     ({"capacity": "2Gi", "maximumVolumeSize": "1Mi"}, False), ({"capacity": "2Gi", "nodeTopology": None}, False),
     ({"capacity": "2Gi", "nodeTopology": {"matchLabels": {"zone": "other"}}}, False)],
)  # fmt: skip
def test_provisioning_needs_room_where_the_driver_counts_it(capacity: Object, fits: bool) -> None:
    made = world(claims=[claim("c", cls="wait")], classes=[storage_class("wait", "csi.example.com")])
    made.store("csidrivers", {"metadata": {"name": "csi.example.com"}, "spec": {"storageCapacity": True}})
    described = {"metadata": {"name": "x", "namespace": "kube-system"}, "storageClassName": "wait", "nodeTopology": {}}
    made.store("csistoragecapacities", {k: v for k, v in (described | capacity).items() if v is not None})
    (status,) = made.objections(mounting("p", "c")).values()
    assert (status.reasons if status else ()) == (() if fits else ("node(s) did not have enough free storage",))


def test_a_claim_for_one_pod_is_used_by_one_and_preempted_for_a_better() -> None:
    there = mounting("there", "c", on="a", priority=1)
    made = world(
        node("a"), node("b"), claims=[claim("c", "v", modes=["ReadWriteOncePod"])], volumes=[volume("v")], pods=[there]
    )
    assert made.refusal(mounting("p", "c")).startswith(f"0/2 nodes are available: 2 {IN_USE}.")
    outcome = made.schedule(mounting("p", "c", priority=5))
    assert outcome.nominate == "a"  # type: ignore[union-attr]
    made.cache.remove_pod("uid-there")
    assert made.place(mounting("p", "c")) in ("a", "b")


@pytest.mark.parametrize(
    ("one", "two", "conflict"),
    [
        ({"awsElasticBlockStore": {"volumeID": "1"}}, {"awsElasticBlockStore": {"volumeID": "1"}}, True),
        ({"awsElasticBlockStore": {"volumeID": "1"}}, {"awsElasticBlockStore": {"volumeID": "2"}}, False),
        ({"gcePersistentDisk": {"pdName": "1"}}, {"gcePersistentDisk": {"pdName": "1", "readOnly": True}}, True),
        ({"iscsi": {"iqn": "1", "readOnly": True}}, {"iscsi": {"iqn": "1", "readOnly": True}}, False),
        ({"rbd": {"monitors": ["a", "b"], "image": "i"}}, {"rbd": {"monitors": ["b"], "image": "i"}}, True),
        ({"rbd": {"monitors": ["a"], "image": "i"}}, {"rbd": {"monitors": ["b"], "image": "i"}}, False),
        ({"rbd": {"monitors": ["a"], "image": "i", "pool": "x"}}, {"rbd": {"monitors": ["a"], "image": "i"}}, False),
    ],
)
def test_disks_that_two_pods_of_a_node_cannot_share(one: Object, two: Object, conflict: bool) -> None:
    made = world(node("a"), pods=[pod("there", on="a", volumes=[{"name": "v", **one}])])
    (status,) = made.objections(pod("p", volumes=[{"name": "v", **two}])).values()
    assert (status is not None) is conflict


@pytest.mark.parametrize(
    ("labels", "zone", "fits"),
    [({"topology.kubernetes.io/zone": "z1"}, "z1", True), ({"topology.kubernetes.io/zone": "z1"}, "z2", False),
     ({"topology.kubernetes.io/zone": "z2__z1"}, "z1", True), ({"topology.kubernetes.io/zone": "z2"}, "", True),
     ({"failure-domain.beta.kubernetes.io/zone": "z1"}, "z1", True),
     ({"topology.kubernetes.io/region": "r"}, "z1", False)],
)  # fmt: skip
def test_zones_of_volumes(labels: Object, zone: str, fits: bool) -> None:
    made = world(node("a", zone=zone), claims=[claim("c", "v")], volumes=[volume("v", labels=labels)])
    (status,) = made.objections(mounting("p", "c")).values()
    assert (status.reasons if status else ()) == (() if fits else ("node(s) had no available volume zone",))


def limited(count: int | None) -> World:
    csi = [{"driver": "csi.example.com", "volumeHandle": f"h{i}"} for i in range(4)]
    made = world(
        claims=[claim(f"c{i}", f"v{i}") for i in range(4)],
        volumes=[volume(f"v{i}", csi=csi[i]) for i in range(4)],
        pods=[mounting("there", "c0", on="a"), mounting("too", "c0", on="a")],
    )
    driver: Object = {"name": "csi.example.com"} | ({"allocatable": {"count": count}} if count is not None else {})
    made.store("csinodes", {"metadata": {"name": "a"}, "spec": {"drivers": [driver]}})
    return made


@pytest.mark.parametrize(
    ("count", "claims", "fits"),
    [(2, ["c1"], True), (2, ["c1", "c2"], False), (1, ["c0"], True), (1, ["c1"], False), (0, ["c1"], False),
     (None, ["c1", "c2", "c3"], True)],
)  # fmt: skip
def test_a_node_takes_as_many_volumes_as_its_drivers_say(count: int | None, claims: list[str], fits: bool) -> None:
    (status,) = limited(count).objections(mounting("p", *claims)).values()
    assert (status.reasons if status else ()) == (() if fits else ("node(s) exceed max volume count",))


def test_volumes_attached_without_a_pod_count_as_well() -> None:
    made = limited(2)
    source = {"persistentVolumeName": "v3"}
    spec = {"attacher": "csi.example.com", "nodeName": "a", "source": source}
    made.store("volumeattachments", {"metadata": {"name": "x"}, "spec": spec})
    (status,) = made.objections(mounting("p", "c1")).values()
    assert status is not None


def resource_claim(name: str, cls: str = "gpu", **status: Any) -> Object:
    requests = [{"name": "r", "exactly": {"deviceClassName": cls}}]
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    return {"metadata": meta, "spec": {"devices": {"requests": requests}}, "status": status}


def allocated(host: str = "") -> Object:
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [host]}]}]
    return {"allocation": {"nodeSelector": {"nodeSelectorTerms": terms}} if host else {}}


def with_resources() -> World:
    made = World([node("a"), node("b")])
    made.store("deviceclasses", {"metadata": {"name": "gpu"}})
    claims = [resource_claim("open"), resource_claim("unclear", "nope"), resource_claim("on-b", **allocated("b"))]
    made.store("resourceclaims", *claims)
    return made


def needing(*claims: str) -> Object:
    return pod("p", resourceClaims=[{"name": each, "resourceClaimName": each} for each in claims])


def test_pods_with_resource_claims_wait_or_go_where_they_are_allocated() -> None:
    made, suffix = with_resources(), "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    assert made.refusal(needing("open")) == (
        f"0/2 nodes are available: 2 cannot allocate all claims. still not schedulable, {suffix}"
    )
    assert made.refusal(needing("unclear")) == (
        f"0/2 nodes are available: request r: device class nope does not exist. no new claims to deallocate, {suffix}"
    )
    assert made.place(needing("on-b")) == "b"


def test_a_pod_is_not_queued_before_its_resource_claims_are_there() -> None:
    made = with_resources()
    assert made.framework.pre_enqueue(PodInfo(needing("missing"))) is not None
    assert made.framework.pre_enqueue(PodInfo(needing("open"))) is None
    generated = pod("p", resourceClaims=[{"name": "x", "resourceClaimTemplateName": "t"}])
    status = made.framework.pre_enqueue(PodInfo(generated))
    assert status is not None
    assert status.reasons == ('pod "default/p": ResourceClaim not created yet',)
    generated["status"] = {"resourceClaimStatuses": [{"name": "x"}]}
    assert made.framework.pre_enqueue(PodInfo(generated)) is None  # none was needed


PLUGINS = ("VolumeBinding", "VolumeRestrictions", "VolumeZone", "NodeVolumeLimits")


def csi_node(name: str, count: int) -> Object:
    drivers = [{"name": "d", "allocatable": {"count": count}}]
    return {"metadata": {"name": name}, "spec": {"drivers": drivers}}


@pytest.mark.parametrize("name", PLUGINS)
def test_both_forms_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all nodes at once each plugin says what it says of each node."""
    nodes = [node(f"n{i}", zone=f"z{i % 3}") for i in range(9)]
    volumes = [volume("v0", host="n4"), volume("v1", labels={"topology.kubernetes.io/zone": "z1"})]
    volumes += [volume("v2", csi={"driver": "d", "volumeHandle": "h"}), volume("free", cls="wait", host="n7")]
    claims = [claim("c0", "v0"), claim("c1", "v1"), claim("c2", "v2"), claim("c3", cls="wait")]
    claims += [claim("alone", "v1", modes=["ReadWriteOncePod"])]
    disk = {"name": "d", "awsElasticBlockStore": {"volumeID": "1"}}
    pods = [mounting("x", "alone", on="n1"), pod("y", on="n2", volumes=[disk])]
    made = world(*nodes, claims=claims, volumes=volumes, classes=[storage_class("wait")], pods=pods)
    made.store("csinodes", *(csi_node(f"n{i}", i % 2) for i in range(5)))
    made.store("resourceclaims", resource_claim("on-b", **allocated("n3")))
    monkeypatch.setattr(table, "VECTOR_THRESHOLD", 1)
    plugin = next(p for p in made.framework.profile.filter if p.name == name)
    answers = set()
    tried = [mounting("p", each) for each in ("c0", "c1", "c2", "c3", "alone")]
    for described in (*tried, pod("p", volumes=[disk]), needing("on-b")):
        state, info = CycleState(), PodInfo(described)
        _, _, status = made.framework.pre_filter(state, info)
        assert status is None
        if name in state.skip_filter:
            continue
        mask = plugin.filter_all(state, info)
        for each in made.cache.table:
            fits = plugin.filter(state, info, each) is None
            answers.add(fits)
            assert (mask is None or bool(mask[each.row])) is fits, each.name
    assert answers == {True, False}
