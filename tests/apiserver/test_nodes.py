"""What a node may do: the node authorizer and NodeRestriction, rule by rule, as tables of allowed and denied.

Each row is one rule of v1.36, or one edge of it; ``NO`` holds its words. The authorizer is asked by reviews.
"""

from __future__ import annotations

from typing import Any

from tests.apiserver.apiworld import World, pod, run
from tests.apiserver.test_subjects import CN
from tests.apiserver.test_subjects import request as signing_request
from tiphys.api.object import Object
from tiphys.apiserver.config import Config
from tiphys.client import resources as R

NODE = ("system:node:n1", ("system:nodes", "system:authenticated"))
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
FOREIGN = "no relationship found between node 'n1' and this object"
MIRROR = {"kubernetes.io/config.mirror": "1"}
VOLUMES: list[Object] = [
    {"name": "secret", "secret": {"secretName": "by-volume"}},
    {"name": "map", "configMap": {"name": "by-volume"}},
    {
        "name": "all",
        "projected": {
            "sources": [
                {"secret": {"name": "projected"}},
                {"configMap": {"name": "projected"}},
                {"serviceAccountToken": {"path": "t", "audience": "vault"}},
                {"serviceAccountToken": {"path": "u"}},
            ]
        },
    },
    {"name": "claim", "persistentVolumeClaim": {"claimName": "claim"}},
    {"name": "stolen", "persistentVolumeClaim": {"claimName": "thief"}},
    {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "1"}}}}}},
    {"name": "inline", "csi": {"driver": "d.example.com", "nodePublishSecretRef": {"name": "inline"}}},
]
for volume in VOLUMES:
    if "ephemeral" in volume:
        volume["ephemeral"]["volumeClaimTemplate"]["spec"]["accessModes"] = ["ReadWriteOnce"]
CONTAINER = {
    "name": "c",
    "image": "i",
    "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "by-env", "key": "k"}}}],
    "envFrom": [{"configMapRef": {"name": "by-env"}}],
}
CSI = {
    "driver": "e.example.com",
    "volumeHandle": "1",
    "nodePublishSecretRef": {"namespace": "a", "name": "for-node"},
    "controllerPublishSecretRef": {"namespace": "a", "name": "for-controller"},
}


def volume_of(name: str, claim: str, source: Object) -> Object:
    spec = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, **source}
    return {"metadata": {"name": name}, "spec": {**spec, "claimRef": {"namespace": "a", "name": claim}}}


async def fixtures(world: World) -> None:
    admin = world.admin
    await world.namespace("a")
    for name in ("n1", "n2"):
        await admin.create(R.NODES, {"metadata": {"name": name}})
    await admin.create(R.SERVICE_ACCOUNTS, {"metadata": {"name": "worker"}}, namespace="a")
    once = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    for name, volume in (("claim", "bound"), ("thief", "foreign"), ("other", "foreign")):
        spec = {**once, "volumeName": volume}
        await admin.create(R.PERSISTENT_VOLUME_CLAIMS, {"metadata": {"name": name}, "spec": spec}, namespace="a")
    for name, claim in (("bound", "claim"), ("foreign", "other")):
        await admin.create(
            R.PERSISTENT_VOLUMES,
            volume_of(
                name,
                claim,
                {
                    "csi": CSI
                    if name == "bound"
                    else {**CSI, "nodePublishSecretRef": {"namespace": "a", "name": "for-others"}}
                },
            ),
        )
    claims = [{"name": "d", "resourceClaimName": "devices"}, {"name": "t", "resourceClaimTemplateName": "template"}]
    spec = {
        "containers": [CONTAINER],
        "volumes": VOLUMES,
        "nodeName": "n1",
        "serviceAccountName": "worker",
        "resourceClaims": claims,
        "imagePullSecrets": [{"name": "pull"}],
    }
    await admin.create(R.PODS, {"metadata": {"name": "p"}, "spec": spec}, namespace="a")
    made = [{"name": "t", "resourceClaimName": "made"}]
    await admin.patch(R.PODS, "p", {"status": {"resourceClaimStatuses": made}}, "a", subresource="status")
    await admin.create(R.PODS, pod("elsewhere", nodeName="n2", serviceAccountName="default"), namespace="a")
    mirror = pod("mirror", nodeName="n1", volumes=[{"name": "s", "secret": {"secretName": "by-mirror"}}])
    mirror["metadata"]["annotations"] = MIRROR
    await admin.create(
        R.PODS,
        mirror,
        namespace="a",
    )
    for node in ("n1", "n2"):
        source = {"persistentVolumeName": "bound"}
        spec = {"attacher": "e.example.com", "nodeName": node, "source": source}
        await admin.create(R.VOLUME_ATTACHMENTS, {"metadata": {"name": f"at-{node}"}, "spec": spec})
        pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
        spec = {"driver": "d.example.com", "nodeName": node, "pool": pool}
        path = "/apis/resource.k8s.io/v1/resourceslices"
        assert (await world.raw("POST", path, {"metadata": {"name": f"of-{node}"}, "spec": spec})).status == 201
    await world.settle()


Row = tuple[str, str, str | None]
"""``verb group/resource[/subresource] [namespace/]name``, a field selector, and why not; None for allowed."""
AUTHORIZER: list[Row] = [
    # secrets and configmaps: get, list and watch of those that its pods refer to, one by one
    ("get /secrets a/by-volume", "", None),
    ("list /secrets a/by-volume", "", None),
    ("watch /secrets a/by-volume", "", None),
    ("get /secrets a/by-env", "", None),
    ("get /secrets a/projected", "", None),
    ("get /secrets a/inline", "", None),
    ("get /secrets a/pull", "", None),
    ("get /secrets a/for-node", "", None),
    ("get /secrets a/for-controller", "", FOREIGN),
    ("get /secrets a/for-others", "", FOREIGN),
    ("get /secrets a/by-mirror", "", FOREIGN),
    ("get /secrets b/by-volume", "", FOREIGN),
    ("get /secrets a/none", "", FOREIGN),
    ("list /secrets a/", "", "No Object name found"),
    ("list /secrets", "", "can only read namespaced object of this type"),
    ("update /secrets a/by-volume", "", "can only read resources of this type"),
    ("delete /secrets a/by-volume", "", "can only read resources of this type"),
    ("get /secrets/status a/by-volume", "", "cannot read subresource"),
    ("get /configmaps a/by-volume", "", None),
    ("watch /configmaps a/by-env", "", None),
    ("get /configmaps a/projected", "", None),
    ("get /configmaps a/none", "", FOREIGN),
    ("create /configmaps a/by-volume", "", "can only read resources of this type"),
    # claims and volumes: a volume by its claimRef, never because a claim names it
    ("get /persistentvolumeclaims a/claim", "", None),
    ("get /persistentvolumeclaims a/p-scratch", "", None),
    ("get /persistentvolumeclaims a/other", "", FOREIGN),
    ("list /persistentvolumeclaims a/claim", "", "can only get individual resources of this type"),
    ("update /persistentvolumeclaims/status a/claim", "", None),
    ("patch /persistentvolumeclaims/status a/claim", "", None),
    ("patch /persistentvolumeclaims/status a/other", "", FOREIGN),
    ("get /persistentvolumeclaims/status a/claim", "", "can only get/update/patch this type"),
    ("get /persistentvolumes bound", "", None),
    ("get /persistentvolumes foreign", "", FOREIGN),
    ("watch /persistentvolumes bound", "", "can only get individual resources of this type"),
    ("get storage.k8s.io/volumeattachments at-n1", "", None),
    ("get storage.k8s.io/volumeattachments at-n2", "", FOREIGN),
    ("get storage.k8s.io/volumeattachments/status at-n1", "", "cannot get subresource"),
    # claims for devices: named by the pod, or made for it
    ("get resource.k8s.io/resourceclaims a/devices", "", None),
    ("get resource.k8s.io/resourceclaims a/made", "", None),
    ("get resource.k8s.io/resourceclaims a/p-scratch", "", FOREIGN),
    ("update resource.k8s.io/resourceclaims/status a/devices", "", "can only get individual resources of this type"),
    # slices
    ("create resource.k8s.io/resourceslices", "", None),
    ("get resource.k8s.io/resourceslices of-n1", "", None),
    ("delete resource.k8s.io/resourceslices of-n1", "", None),
    ("patch resource.k8s.io/resourceslices of-n2", "", FOREIGN),
    ("list resource.k8s.io/resourceslices", "spec.nodeName=n1", None),
    ("watch resource.k8s.io/resourceslices", "spec.nodeName=n1", None),
    ("deletecollection resource.k8s.io/resourceslices", "spec.nodeName=n1", None),
    (
        "list resource.k8s.io/resourceslices",
        "spec.nodeName=n2",
        "can only list/watch/deletecollection resourceslices with nodeName field selector",
    ),
    (
        "proxy resource.k8s.io/resourceslices of-n1",
        "",
        "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete,"
        " deletecollection",
    ),
    ("get resource.k8s.io/resourceslices/status of-n1", "", "cannot authorize ResourceSlice subresources"),
    # service accounts
    ("get /serviceaccounts a/worker", "", None),
    ("get /serviceaccounts a/default", "", FOREIGN),
    ("create /serviceaccounts/token a/worker", "", None),
    ("create /serviceaccounts/token a/default", "", FOREIGN),
    ("create /serviceaccounts a/worker", "", "can only create token subresource of serviceaccount"),
    ("create /serviceaccounts/token a/", "", "can only create tokens for individual service accounts"),
    ("update /serviceaccounts a/worker", "", "can only create tokens for individual service accounts"),
    # leases and CSINodes
    ("create coordination.k8s.io/leases kube-node-lease/", "", None),
    ("update coordination.k8s.io/leases kube-node-lease/n1", "", None),
    ("delete coordination.k8s.io/leases kube-node-lease/n1", "", None),
    (
        "update coordination.k8s.io/leases kube-node-lease/n2",
        "",
        "can only access node lease with the same name as the requesting node",
    ),
    (
        "get coordination.k8s.io/leases a/n1",
        "",
        'can only access leases in the "kube-node-lease" system namespace',
    ),
    (
        "list coordination.k8s.io/leases kube-node-lease/",
        "",
        "can only get, create, update, patch, or delete a node lease",
    ),
    ("create storage.k8s.io/csinodes", "", None),
    ("patch storage.k8s.io/csinodes n1", "", None),
    (
        "get storage.k8s.io/csinodes n2",
        "",
        "can only access CSINode with the same name as the requesting node",
    ),
    ("watch storage.k8s.io/csinodes n1", "", "can only get, create, update, patch, or delete a CSINode"),
    ("get storage.k8s.io/csinodes/status n1", "", "cannot authorize CSINode subresources"),
    # nodes
    ("create /nodes", "", None),
    ("update /nodes n2", "", None),  # NodeRestriction says no
    ("patch /nodes/status n1", "", None),
    ("get /nodes n1", "", None),
    ("list /nodes n1", "", None),
    ("get /nodes n2", "", "node 'n1' cannot read 'n2', only its own Node object"),
    ("watch /nodes", "", "node 'n1' cannot read all nodes, only its own Node object"),
    ("delete /nodes n1", "", ""),
    ("get /nodes/proxy n1", "", ""),
    ("get /nodes/status n1", "", ""),
    # pods
    ("get /pods a/p", "", None),
    ("get /pods a/mirror", "", None),
    ("get /pods a/elsewhere", "", FOREIGN),
    ("list /pods", "spec.nodeName=n1", None),
    ("watch /pods", "spec.nodeName==n1,status.phase!=Failed", None),
    ("list /pods", "spec.nodeName=n2", "can only list/watch pods with spec.nodeName field selector"),
    ("list /pods", "spec.nodeName!=n1", "can only list/watch pods with spec.nodeName field selector"),
    (
        "list /pods",
        "metadata.namespace=x\\,spec.nodeName\\=n1",
        "can only list/watch pods with spec.nodeName field selector",
    ),
    ("list /pods", "", "can only list/watch pods with spec.nodeName field selector"),
    ("watch /pods a/p", "metadata.name=p", None),
    ("watch /pods a/elsewhere", "metadata.name=elsewhere", FOREIGN),
    ("create /pods a/", "", None),
    ("delete /pods a/p", "", None),
    ("update /pods a/p", "", ""),
    ("deletecollection /pods a/", "", ""),
    ("patch /pods/status a/p", "", None),
    ("create /pods/eviction a/p", "", None),
    ("create /pods/binding a/p", "", ""),
    ("create /pods/exec a/p", "", ""),
    ("patch /pods/ephemeralcontainers a/p", "", ""),
    ("patch /pods/resize a/p", "", ""),
    # what all nodes may do
    ("create /events a/", "", None),
    ("list /services", "", None),
    ("create authentication.k8s.io/tokenreviews", "", None),
    ("create authorization.k8s.io/subjectaccessreviews", "", None),
    ("create certificates.k8s.io/certificatesigningrequests", "", None),
    ("watch storage.k8s.io/csidrivers", "", None),
    ("watch node.k8s.io/runtimeclasses", "", None),
    ("list /secrets", "metadata.name=x", "can only read namespaced object of this type"),
    ("create apps/deployments a/", "", ""),
    ("impersonate /users system:admin", "", ""),
    ("escalate rbac.authorization.k8s.io/clusterroles", "", ""),
    ("approve certificates.k8s.io/signers kubernetes.io/kubelet-serving", "", ""),
]


def attributes(row: str, selector: str) -> Object:
    verb, resource, *place = row.split(" ")
    group, plural, *sub = resource.split("/")
    where, _, name = place[0].rpartition("/") if place else ("", "", "")
    if plural == "signers":
        where, name = "", place[0]
    made: Object = {"verb": verb, "group": group, "resource": plural, "subresource": "".join(sub), "version": "v1"}
    made |= {"namespace": where, "name": name}
    if selector:
        made["fieldSelector"] = {"rawSelector": selector}
    return made


def test_what_the_node_authorizer_allows() -> None:
    async def work(world: World) -> None:
        await fixtures(world)
        wrong = []
        for row, selector, why in AUTHORIZER:
            spec = {"user": NODE[0], "groups": list(NODE[1]), "resourceAttributes": attributes(row, selector)}
            status = (await world.json("POST", REVIEWS, {"spec": spec}))["status"]
            expected = {"allowed": True} if why is None else {"allowed": False, **({"reason": why} if why else {})}
            if status != expected:
                wrong.append((row, selector, status))
        assert wrong == []

    run(work)


def test_nodes_that_cannot_be_told_are_refused() -> None:
    async def work(world: World) -> None:
        await fixtures(world)
        for user, groups in (("system:node:", ["system:nodes"]), ("system:node:n1", []), ("n1", ["system:nodes"])):
            spec = {"user": user, "groups": groups, "resourceAttributes": attributes("get /secrets a/by-volume", "")}
            status = (await world.json("POST", REVIEWS, {"spec": spec}))["status"]
            assert not status["allowed"], user

    run(work)


def test_relations_follow_what_changes() -> None:
    """A pod that is bound, moved out of reach or deleted changes at once what its node may read."""

    async def work(world: World) -> None:
        await fixtures(world)
        node = world.client_of(*NODE)

        async def may(secret: str) -> bool:
            await world.settle()
            spec = {
                "user": NODE[0],
                "groups": list(NODE[1]),
                "resourceAttributes": attributes(f"get /secrets a/{secret}", ""),
            }
            return bool((await world.json("POST", REVIEWS, {"spec": spec}))["status"]["allowed"])

        volumes = [{"name": "s", "secret": {"secretName": "late"}}]
        assert not await may("late")
        await world.admin.create(R.PODS, pod("late", volumes=volumes), namespace="a")
        assert not await may("late")
        target = {"metadata": {"name": "late"}, "target": {"kind": "Node", "name": "n1"}}
        await world.admin.create(R.PODS, target, namespace="a", name="late", subresource="binding")
        assert await may("late")
        await world.admin.delete(R.PODS, "late", "a", grace=0)
        assert not await may("late")
        assert await may("for-node")
        claim = {"spec": {"claimRef": None}}
        await world.admin.patch(R.PERSISTENT_VOLUMES, "bound", claim)
        assert not await may("for-node")
        assert await node.get(R.PODS, "p", "a")

    run(work)


def mirror(**change: Any) -> Object:
    """A pod that a node may make, but for ``change`` of its spec or, by ``metadata``, of its metadata."""
    meta = {
        "name": "m",
        "annotations": MIRROR,
        "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "UID", "controller": True}],
        **change.pop("metadata", {}),
    }
    made = pod("m", nodeName="n1", **change)
    return {**made, "metadata": meta}


def owner(**change: Any) -> Object:
    reference = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "UID", "controller": True, **change}
    return {"metadata": {"ownerReferences": [reference]}}


def with_volume(**source: Any) -> Object:
    return {"volumes": [{"name": "v", **source}]}


def projected(**source: Any) -> Object:
    return with_volume(projected={"sources": [source]})


MIRRORS: list[tuple[Object, str]] = [
    ({}, ""),
    (with_volume(hostPath={"path": "/x"}), ""),
    (with_volume(emptyDir={}), ""),
    (projected(downwardAPI={"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}), ""),
    (
        {"metadata": {"annotations": {}}},
        'pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only create mirror pods',
    ),
    ({"metadata": {"ownerReferences": []}}, 'node "n1" can only create pods with an owner reference set to itself'),
    (owner(kind="Pod"), 'node "n1" can only create pods with an owner reference set to itself'),
    (owner(name="n2"), 'node "n1" can only create pods with an owner reference set to itself'),
    (owner(controller=False), 'node "n1" can only create pods with a controller owner reference set to itself'),
    (owner(blockOwnerDeletion=True), 'node "n1" must not set blockOwnerDeletion on an owner reference'),
    (owner(uid="other"), "node n1 UID mismatch: expected other got UID"),
    ({"serviceAccountName": "worker"}, 'node "n1" can not create pods that reference serviceaccounts'),
    ({"imagePullSecrets": [{"name": "s"}]}, 'node "n1" can not create pods that reference secrets'),
    (with_volume(secret={"secretName": "s"}), 'node "n1" can not create pods that reference secrets'),
    (with_volume(configMap={"name": "s"}), 'node "n1" can not create pods that reference configmaps'),
    (
        with_volume(persistentVolumeClaim={"claimName": "c"}),
        'node "n1" can not create pods that reference persistentvolumeclaims',
    ),
    (
        with_volume(ephemeral=VOLUMES[5]["ephemeral"]),
        'node "n1" can not create pods that reference persistentvolumeclaims (via ephemeral volumes)',
    ),
    (with_volume(csi={"driver": "d"}), 'node "n1" can not create pods that reference csidrivers (via CSI volumes)'),
    (
        with_volume(glusterfs={"endpoints": "e", "path": "p"}),
        'node "n1" can not create pods that reference endpoints (via glusterFS volumes)',
    ),
    (
        projected(serviceAccountToken={"path": "t"}),
        'node "n1" can not create pods that reference serviceaccounts (via projected volumes)',
    ),
    (
        projected(clusterTrustBundle={"name": "b", "path": "t"}),
        'node "n1" can not create pods that reference clustertrustbundles',
    ),
    (
        projected(podCertificate={"signerName": "e.com/s", "keyType": "ED25519", "credentialBundlePath": "p"}),
        'node "n1" can not create pods that reference podcertificates',
    ),
    (
        {"resourceClaims": [{"name": "d", "resourceClaimName": "devices"}]},
        'node "n1" can not create pods that reference resourceclaims',
    ),
    (
        {"containers": [CONTAINER]},
        'node "n1" can not create pods that reference secrets',
    ),
    ({"nodeName": "n2"}, 'node "n1" can only create pods with spec.nodeName set to itself'),
]


def test_mirror_pods_refer_to_nothing() -> None:
    """Without the plugin ServiceAccount, which says no to some of them before."""

    async def work(world: World) -> None:
        await fixtures(world)
        uid = (await world.admin.get(R.NODES, "n1"))["metadata"]["uid"]
        for change, why in MIRRORS:
            node = change.get("nodeName", "n1")
            made = mirror(**{key: value for key, value in change.items() if key != "nodeName"})
            made["spec"]["nodeName"] = node
            for reference in made["metadata"]["ownerReferences"]:
                reference["uid"] = uid if reference["uid"] == "UID" else reference["uid"]
            answer = await world.json("POST", "/api/v1/namespaces/a/pods?dryRun=All", made, user=NODE)
            if why:
                words = f'pods "m" is forbidden: {why.replace("got UID", f"got {uid}")}'
                assert (answer.get("code"), answer.get("message")) == (403, words), change
            else:
                assert answer["metadata"]["name"] == "m", answer

    run(work, Config(seed=1, disable_admission_plugins=("ServiceAccount",)))


MERGE = "application/merge-patch+json"
PODS, NODES = "/api/v1/namespaces/a/pods", "/api/v1/nodes"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
ACCOUNTS = "/api/v1/namespaces/a/serviceaccounts"
CLAIMS = "/api/v1/namespaces/a/persistentvolumeclaims"
WRITES: list[tuple[str, str, Object | None, str]] = [
    # the node itself
    ("PATCH", f"{NODES}/n1/status", {"status": {"phase": "Running"}}, ""),
    ("PATCH", f"{NODES}/n2/status", {"status": {}}, 'node "n1" is not allowed to modify node "n2"'),
    ("PATCH", f"{NODES}/n1", {"metadata": {"labels": {"kubernetes.io/hostname": "h"}}}, ""),
    ("PATCH", f"{NODES}/n1", {"metadata": {"labels": {"node.kubernetes.io/x": "h"}}}, ""),
    ("PATCH", f"{NODES}/n1", {"metadata": {"labels": {"a.kubelet.kubernetes.io/x": "h"}}}, ""),
    ("PATCH", f"{NODES}/n1", {"metadata": {"labels": {"example.com/x": "h"}}}, ""),
    (
        "PATCH",
        f"{NODES}/n1",
        {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}},
        "is not allowed to modify labels: node-role.kubernetes.io/control-plane",
    ),
    (
        "PATCH",
        f"{NODES}/n1",
        {"metadata": {"labels": {"x.node-restriction.kubernetes.io/a": "", "k8s.io/b": ""}}},
        "is not allowed to modify labels: k8s.io/b, x.node-restriction.kubernetes.io/a",
    ),
    ("PATCH", f"{NODES}/n1", {"spec": {"unschedulable": True}}, ""),
    (
        "PATCH",
        f"{NODES}/n1",
        {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}},
        'node "n1" is not allowed to modify taints',
    ),
    (
        "PATCH",
        f"{NODES}/n1",
        {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1"}]}},
        'node "n1" is not allowed to modify ownerReferences',
    ),
    (
        "PATCH",
        f"{NODES}/n1",
        {"spec": {"configSource": {"configMap": {"name": "a", "namespace": "a", "kubeletConfigKey": "k"}}}},
        'node "n1" is not allowed to update configSource to a new non-nil configSource',
    ),
    ("DELETE", f"{NODES}/n1", None, "CANNOT"),
    # pods
    ("PATCH", f"{PODS}/p/status", {"status": {"message": "m"}}, ""),
    (
        "PATCH",
        f"{PODS}/elsewhere/status",
        {"status": {"message": "m"}},
        'node "n1" can only update pod status for pods with spec.nodeName set to itself',
    ),
    (
        "PATCH",
        f"{PODS}/p/status",
        {"metadata": {"labels": {"a": "b"}}},
        'node "n1" cannot update labels through pod status',
    ),
    (
        "PATCH",
        f"{PODS}/p/status",
        {"status": {"resourceClaimStatuses": [{"name": "t", "resourceClaimName": "other"}]}},
        'node "n1" cannot update resource claim statues',
    ),
    (
        "PATCH",
        f"{PODS}/p/status",
        {"status": {"extendedResourceClaimStatus": {"resourceClaimName": "x", "requestMappings": []}}},
        'node "n1" cannot update extended resource claim status',
    ),
    ("DELETE", f"{PODS}/elsewhere", None, 'node "n1" can only delete pods with spec.nodeName set to itself'),
    (
        "POST",
        f"{PODS}/elsewhere/eviction",
        {"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": "elsewhere", "namespace": "a"}},
        "node n1 can only evict pods with spec.nodeName set to itself",
    ),
    (
        "POST",
        f"{PODS}/none/eviction",
        {"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": "none", "namespace": "a"}},
        'pod "none" not found',
    ),
    ("DELETE", f"{PODS}/mirror", None, ""),
    # leases
    ("POST", LEASES, {"metadata": {"name": "n1"}}, ""),
    (
        "POST",
        LEASES,
        {"metadata": {"name": "n2"}},
        "can only access node lease with the same name as the requesting node",
    ),
    (
        "POST",
        "/apis/storage.k8s.io/v1/csinodes",
        {"metadata": {"name": "n2"}, "spec": {"drivers": []}},
        "can only access CSINode with the same name as the requesting node",
    ),
    ("POST", "/apis/storage.k8s.io/v1/csinodes", {"metadata": {"name": "n1"}, "spec": {"drivers": []}}, ""),
    (
        "POST",
        "/apis/resource.k8s.io/v1/resourceslices",
        {
            "metadata": {"name": "s"},
            "spec": {"driver": "d", "nodeName": "n2", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}},
        },
        "can only create ResourceSlice with the same NodeName as the requesting node",
    ),
    # claims
    ("PATCH", f"{CLAIMS}/claim/status", {"status": {"capacity": {"storage": "2Gi"}}}, ""),
    (
        "PATCH",
        f"{CLAIMS}/claim/status",
        {"status": {"phase": "Lost"}},
        'node "n1" is not allowed to update fields other than status.quantity and status.conditions',
    ),
    (
        "PATCH",
        f"{CLAIMS}/claim/status",
        {"metadata": {"annotations": {"a": "b"}}},
        'node "n1" is not allowed to update fields other than status.quantity and status.conditions',
    ),
    # requests for certificates
    (
        "POST",
        "/apis/certificates.k8s.io/v1/certificatesigningrequests",
        {
            "metadata": {"name": "c"},
            "spec": {
                "request": signing_request((CN, "system:node:n2")),
                "signerName": "kubernetes.io/kubelet-serving",
                "usages": ["server auth"],
            },
        },
        "can only create a node CSR with CN=system:node:n1",
    ),
]


def test_what_noderestriction_lets_a_node_write() -> None:
    async def work(world: World) -> None:
        await fixtures(world)
        for method, path, body, why in WRITES:
            media = MERGE if method == "PATCH" else "application/json"
            answer = await world.json(method, path, body, user=NODE, content_type=media)
            where = (method, path, body, answer)
            if why == "CANNOT":
                assert "cannot delete resource" in answer["message"], where
            elif why:
                assert answer.get("message", "").endswith(why), where
            else:
                assert answer.get("status") != "Failure", where

    run(work)


TOKENS: list[tuple[list[str], str]] = [
    ([], ""),
    (["vault"], ""),
    (["from-driver"], ""),
    (["from-claim"], ""),
    (["granted"], ""),
    (["vault", "granted"], "node may only request 0 or 1 audiences"),
]


def test_a_node_has_tokens_for_what_the_volumes_of_its_pods_ask_for() -> None:
    async def work(world: World) -> None:
        await fixtures(world)
        uid = (await world.admin.get(R.PODS, "p", "a"))["metadata"]["uid"]

        async def ask(audiences: list[str], **change: Any) -> Object:
            reference = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid, **change}
            body = {"spec": {"audiences": audiences, "boundObjectRef": reference}}
            return await world.json("POST", f"{ACCOUNTS}/worker/token", body, user=NODE)

        assert "error validating audience" in (await ask(["granted"]))["message"]  # as a claim is not there yet
        once = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        scratch = {"metadata": {"name": "p-scratch"}, "spec": {**once, "volumeName": "bound"}}
        await world.admin.create(R.PERSISTENT_VOLUME_CLAIMS, scratch, namespace="a")
        for driver, audience in (("d.example.com", "from-driver"), ("e.example.com", "from-claim")):
            spec = {"tokenRequests": [{"audience": audience}]}
            await world.admin.create(R.CSI_DRIVERS, {"metadata": {"name": driver}, "spec": spec})
        rule = {"apiGroups": [""], "resources": ["granted"], "verbs": ["request-serviceaccounts-token-audience"]}
        await world.admin.create(R.CLUSTER_ROLES, {"metadata": {"name": "audience"}, "rules": [rule]})
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "audience"}
        group = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}
        binding = {"metadata": {"name": "audience"}, "roleRef": role, "subjects": [group]}
        await world.admin.create(R.CLUSTER_ROLE_BINDINGS, binding)
        await world.settle()
        for audiences, why in TOKENS:
            answer = await ask(audiences)
            if why:
                assert answer["message"].endswith(why), (audiences, answer)
            else:
                assert answer["kind"] == "TokenRequest", (audiences, answer)
        assert "is not authorized to request tokens for this audience" in (await ask(["unknown"]))["message"]
        for change, why in (
            ({"uid": ""}, "node requested token with a pod binding without a uid"),
            ({"kind": "Secret"}, "node requested token not bound to a pod"),
            ({"uid": "x"}, "The object might have been deleted and then recreated"),
            ({"name": "none"}, 'pod "none" not found'),
        ):
            assert (await ask([], **change))["message"].endswith(why)

    run(work)


def test_an_audience_that_no_volume_asks_for_needs_a_right() -> None:
    async def work(world: World) -> None:
        await fixtures(world)
        made = await world.admin.create(R.PODS, pod("plain", nodeName="n1", serviceAccountName="worker"), namespace="a")
        reference = {"kind": "Pod", "apiVersion": "v1", "name": "plain", "uid": made["metadata"]["uid"]}
        body = {"spec": {"audiences": ["vault"], "boundObjectRef": reference}}
        await world.settle()
        answer = await world.json("POST", f"{ACCOUNTS}/worker/token", body, user=NODE)
        assert answer["message"].endswith(
            'audience "vault" not found in pod spec volume,'
            " system:node:n1 is not authorized to request tokens for this audience"
        ), answer

    run(work)
