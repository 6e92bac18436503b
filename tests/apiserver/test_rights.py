"""One verb's right gives that verb's effect, and no other: a walk over every kind, subresource and verb.

For every verb of every resource and subresource there is a user whose only right it is. Each of them sends every
request that there is about the kind, in every form: reads by every path, creations by POST, PUT and apply, changes by
every kind of patch, deletions one by one and as a collection, and every subresource by every method. What has changed
in the store afterwards is compared with what the right is for, which ``effects_of`` says.

``TIPHYS_OTHER_SERVER=URL TIPHYS_OTHER_TOKEN=… pytest tests/apiserver/test_rights.py -k other`` walks another API
server, such as upstream's, and holds it to the same table.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
import pytest

from tests.apiserver.apiworld import World, run
from tests.apiserver.baseobjects import BASES, base, collection
from tests.apiserver.otherserver import URL, OtherWorld, other_server, other_world
from tiphys.api.meta import copy
from tiphys.api.object import Object
from tiphys.api.patch import merge_patch
from tiphys.api.resources import builtin_scheme
from tiphys.api.scheme import Resource
from tiphys.client import resources as R
from tiphys.client.errors import AlreadyExists
from tiphys.store.backend import Range, prefix_end

RBAC, CERTIFICATES = "rbac.authorization.k8s.io", "certificates.k8s.io"
THEN = "2020-01-01T00:00:00Z"
READY = {"conditions": [{"type": "Ready", "status": "True", "reason": "Yes", "lastTransitionTime": THEN}]}
ENTRY = {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}
STATUS: dict[str, Object] = {
    "cronjobs": {"lastScheduleTime": THEN},
    "ingresses": ENTRY,
    "jobs": {"active": 1},
    "persistentvolumeclaims": {"phase": "Lost"},
    "persistentvolumes": {"phase": "Released"},
    "poddisruptionbudgets": {"expectedPods": 3},
    "pods": {"message": "seen"},
    "resourceclaims": {"reservedFor": [{"resource": "pods", "name": "x", "uid": "1"}]},
    "resourcequotas": {"hard": {"pods": "7"}},
    "services": ENTRY,
    "volumeattachments": {"attached": True},
}
"""A status that differs from the one of a new object; a condition where nothing else is said."""
CHANGES: dict[str, Object] = {
    "apiservices": {"groupPriorityMinimum": 200},
    "cronjobs": {"suspend": True},
    "daemonsets": {"minReadySeconds": 3},
    "deployments": {"minReadySeconds": 3},
    "flowschemas": {"matchingPrecedence": 77},
    "horizontalpodautoscalers": {"maxReplicas": 4},
    "ingresses": {"ingressClassName": "other"},
    "jobs": {"activeDeadlineSeconds": 100},
    "nodes": {"unschedulable": True},
    "persistentvolumes": {"persistentVolumeReclaimPolicy": "Delete"},
    "poddisruptionbudgets": {"minAvailable": 2},
    "pods": {"activeDeadlineSeconds": 100},
    "replicasets": {"minReadySeconds": 3},
    "replicationcontrollers": {"minReadySeconds": 3},
    "resourcequotas": {"hard": {"pods": "11"}},
    "services": {"publishNotReadyAddresses": True},
    "statefulsets": {"minReadySeconds": 3},
    "validatingadmissionpolicies": {"failurePolicy": "Ignore"},
}
"""A change of the ``spec`` that an update may make."""
DEBUGGER = {"name": "d", "image": "registry.k8s.io/pause:3.10", "imagePullPolicy": "Always"}
PARTS: dict[str, Object] = {
    "approval": {"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "Yes"}]}},
    "ephemeralcontainers": {"spec": {"ephemeralContainers": [{**DEBUGGER, "terminationMessagePolicy": "File"}]}},
    "finalize": {"spec": {"finalizers": ["example.com/more"]}},
    "scale": {"spec": {"replicas": 3}},
}
"""What subresources are for."""

SPECIAL_VERBS = ("approve", "attest", "bind", "escalate", "impersonate", "sign", "use")
"""They lift a check of another verb; alone they do nothing at all."""
BY_VERB: dict[str, frozenset[str]] = {
    "create": frozenset({"create"}),
    "delete": frozenset({"delete"}),
    "get": frozenset({"get"}),
    "list": frozenset({"list"}),
    "patch": frozenset({"change", "metadata"}),
    "update": frozenset({"change", "metadata"}),
    "watch": frozenset({"watch"}),
    "deletecollection": frozenset({"delete"}),
}
"""The last one is tried last, as of the kinds that are about rights it takes them all away."""
NOTHING: frozenset[str] = frozenset()
BY_SUBRESOURCE: dict[tuple[str, str], frozenset[str]] = {
    ("attach", "create"): frozenset({"connect"}),
    ("binding", "create"): frozenset({"change", "status"}),
    ("ephemeralcontainers", "patch"): frozenset({"ephemeral"}),
    ("ephemeralcontainers", "update"): frozenset({"ephemeral"}),
    ("eviction", "create"): frozenset({"delete"}),
    ("exec", "create"): frozenset({"connect"}),
    ("finalize", "update"): frozenset({"finalizers", "metadata"}),
    ("log", "get"): frozenset({"connect"}),
    ("portforward", "create"): frozenset({"connect"}),
    ("resize", "patch"): frozenset({"change"}),
    ("resize", "update"): frozenset({"change"}),
    ("scale", "patch"): frozenset({"change"}),
    ("scale", "update"): frozenset({"change"}),
    ("status", "patch"): frozenset({"status", "metadata"}),
    ("status", "update"): frozenset({"status", "metadata"}),
    ("token", "create"): frozenset({"token"}),
}
"""A stream to a pod needs ``create``, also where a client GETs it; ``get`` of them alone is good for nothing."""
LEFT_ALONE = frozenset(
    (
        ("networking.k8s.io", "servicecidrs"),
        ("resource.k8s.io", "resourceclaims"),
        ("storage.k8s.io", "volumeattachments"),
        ("flowcontrol.apiserver.k8s.io", "flowschemas"),
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
        ("apiregistration.k8s.io", "apiservices"),
    )
)
"""Kinds whose status is written without touching labels and annotations."""


@dataclass(frozen=True)
class Right:
    """``verb`` on ``resource``, or on one of its subresources."""

    resource: Resource
    subresource: str
    verb: str

    @property
    def user(self) -> str:
        full = f"{self.resource.plural}/{self.subresource}".rstrip("/")
        return f"{self.verb}:{full}.{self.resource.group}".rstrip(".")

    @property
    def rule(self) -> Object:
        full = f"{self.resource.plural}/{self.subresource}".rstrip("/")
        return {"apiGroups": [self.resource.group], "resources": [full], "verbs": [self.verb]}


def rights_of(resource: Resource) -> Iterator[Right]:
    for subresource in resource.subresources_in(resource.storage_version):
        for verb in BY_VERB:
            yield Right(resource, subresource.name, verb)
    for verb in (*SPECIAL_VERBS, *BY_VERB):
        yield Right(resource, "", verb)


def effects_of(right: Right) -> frozenset[str]:
    """What the right is for, as upstream has it."""
    resource, sub, verb = right.resource, right.subresource, right.verb
    key = (resource.group, resource.plural)
    if not sub:
        return _object_effects(resource, verb)
    if verb in ("get",) and sub in ("status", "scale", "approval", "ephemeralcontainers", "resize"):
        return frozenset({"get"})
    if sub == "proxy":
        return frozenset({"connect"}) if verb in ("get", "create", "update", "patch", "delete") else NOTHING
    found = BY_SUBRESOURCE.get((sub, verb), NOTHING)
    if sub == "status" and key in LEFT_ALONE:
        found -= {"metadata"}
    if sub == "status" and resource.plural == "resourceclaims":
        return NOTHING  # it needs resourceclaims/binding, too
    if sub == "status" and resource.plural == "certificatesigningrequests":
        found -= {"status"}  # conditions and certificates need ``sign``, too
    return found


def _object_effects(resource: Resource, verb: str) -> frozenset[str]:
    if verb not in resource.verbs:
        return NOTHING
    found = BY_VERB.get(verb, NOTHING)
    if resource.group == RBAC and verb in ("create", "update", "patch"):
        return NOTHING  # nobody grants what they do not hold
    if resource.plural not in CHANGES:
        found -= {"change"}
    return found


@dataclass
class Walk:
    """The requests about one kind, by its users, and what came of them."""

    world: World
    resource: Resource
    count: int = 0
    name: str = ""
    media: tuple[str, ...] = ()
    """The forms of a change that are tried: PUT, and patches; all of them for those who may patch at all."""
    answers: Counter[int] = field(default_factory=Counter)
    """How many requests had which status."""
    seen: tuple[int, dict[bytes, bytes]] = (0, {})
    """The store's last known revision, and what it held of the kind then."""

    # -- objects

    @property
    def path(self) -> str:
        return collection(self.resource, self.resource.storage_version)

    @property
    def prefix(self) -> bytes:
        return f"/registry/{self.resource.storage_prefix}/".encode()

    def new(self) -> Object:
        """An object with a name of its own."""
        self.count += 1
        obj, n = base(self.resource, self.resource.storage_version), self.count
        name = f"x{n}"
        match self.resource.plural:
            case "apiservices":
                obj["spec"]["group"] = f"g{n}.example.org"
                name = f"v1.g{n}.example.org"
            case "customresourcedefinitions":
                obj["spec"]["names"] = {"kind": f"Thing{n}", "plural": f"things{n}"}
                name = f"things{n}.example.com"
            case "ipaddresses":
                name = f"10.200.{n // 250}.{n % 250 + 1}"
            case "clusterrolebindings" | "rolebindings":
                obj["roleRef"]["name"] = "cluster-admin"
            case "pods":
                obj["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1m"}}
            case "services":
                obj["spec"]["type"] = "LoadBalancer"
            case "servicecidrs":
                obj["spec"]["cidrs"] = [f"10.{100 + n // 250}.{n % 250}.0/24"]
        obj["metadata"]["name"] = name
        return obj

    def changed(self, obj: Object) -> Object:
        """The object with a change of everything that a client may write."""
        found = self.touched(obj)
        change = CHANGES.get(self.resource.plural)
        if change is not None:
            found["spec"] = {**found.get("spec", {}), **change}
        if self.resource.subresource("status", self.resource.storage_version) is not None:
            found["status"] = {**found.get("status", {}), **STATUS.get(self.resource.plural, READY)}
        return found

    async def make(self) -> None:
        """A new object to be the victim."""
        obj = self.new()
        self.name = obj["metadata"]["name"]
        made = await self.world.raw("POST", self.path, obj)
        assert made.status == 201, made.body
        if self.resource.plural == "services":  # what its proxy looks for, and a controller would make
            endpoints = {"metadata": {"name": self.name}}
            assert (await self.world.raw("POST", "/api/v1/namespaces/a/endpoints", endpoints)).status == 201
        if self.resource.plural in FOLLOWED:
            await self.world.settle()

    async def current(self) -> Object:
        return await self.world.json("GET", f"{self.path}/{self.name}")

    def touched(self, obj: Object) -> Object:
        """The object with another annotation."""
        found = copy(obj)
        found["metadata"].setdefault("annotations", {})["touched"] = "yes"
        return found

    def parts_changed(self, obj: Object, sub: str) -> Object:
        """The object with a change of what a subresource is for."""
        if sub != "resize":
            return merge_patch(obj, PARTS.get(sub, {}))
        found = copy(obj)
        found["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "2m"
        return found

    async def stored(self) -> dict[bytes, bytes]:
        found = await self.world.backend.range(Range(self.prefix, prefix_end(self.prefix)))
        return {kv.key: kv.value for kv in found.kvs}

    # -- requests

    async def held(self) -> tuple[int, dict[bytes, bytes]]:
        """The store's revision, and what it holds of the kind."""
        revision = self.world.backend.core.revision
        return self.seen if revision == self.seen[0] else (revision, await self.stored())

    async def try_all(self, right: Right) -> set[str]:
        """The effects that a user with this right alone has; each of them is among those that the right is for."""
        effects: set[str] = set()
        self.media = ("", *PATCHES) if right.verb == "patch" else ("", APPLY)
        await self.make()
        for step in STEPS:
            async for sent in step(self):
                here = await self._try(right, sent)
                assert here <= effects_of(right), (right.user, sent, here - effects_of(right))
                effects |= here
        return effects

    async def _try(self, right: Right, sent: Sent) -> set[str]:
        self.seen = await self.held()
        _, before = self.seen
        user = (right.user, ("system:authenticated",))
        answer = await self.world.raw(sent.method, sent.path, sent.body, user=user, content_type=sent.media or PLAIN)
        self.answers[answer.status] += 1
        _, after = await self.held()
        if after == before:
            return {sent.shows} if sent.shows and _answered(sent, answer.status) else set()
        await self.make()
        return {
            effect for key, _ in before.items() ^ after.items() for effect in changes(before.get(key), after.get(key))
        }


class OtherWalk(Walk):
    """The same requests to another server, whose store is seen by lists."""

    world: OtherWorld  # type: ignore[assignment]

    async def stored(self) -> dict[bytes, bytes]:
        return dict(await self.world.stored(self.path))

    async def held(self) -> tuple[int, dict[bytes, bytes]]:
        return 0, await self.stored()


class Sent(NamedTuple):
    """A request, and what it ``shows`` if it is answered although nothing is written."""

    method: str
    path: str
    body: Any = None
    media: str = ""
    shows: str = ""


Requests = AsyncIterator[Sent]


async def reads(walk: Walk) -> Requests:
    path, name = walk.path, walk.name
    version = walk.resource.storage_version
    watch = path.replace(f"/{version}/", f"/{version}/watch/", 1)
    by_name = f"fieldSelector=metadata.name%3D{name}"
    for url in (path, f"{path}?{by_name}", f"{path}?watch=0"):
        yield Sent("GET", url, shows="list")
    for url in (f"{path}?watch=1&timeoutSeconds=1", f"{path}?watch=1&{by_name}", watch, f"{watch}/{name}"):
        yield Sent("GET", url, shows="watch")
    for url in (f"{path}/{name}", f"{path}/{name}?watch=1"):
        yield Sent("GET", url, shows="get")


async def creations(walk: Walk) -> Requests:
    yield Sent("POST", walk.path, walk.new())
    for media in walk.media:
        obj = walk.new()
        url = f"{walk.path}/{obj['metadata']['name']}"
        yield Sent("PATCH" if media else "PUT", f"{url}?{_query(media)}", _body(obj, {}, media), media)


async def updates(walk: Walk) -> Requests:
    for media in walk.media:
        current = await walk.current()
        yield _write(walk, "", media, current, walk.changed(current))
        yield _write(walk, "", media, current, walk.touched(await walk.current()))


async def subresources(walk: Walk) -> Requests:
    for subresource in walk.resource.subresources_in(walk.resource.storage_version):
        sub = subresource.name
        for media in walk.media:
            current = await walk.current()
            yield _write(walk, sub, media, current, walk.parts_changed(walk.changed(current), sub))
            current = await walk.current()
            yield _write(walk, sub, media, current, walk.parts_changed(current, sub))
            current = await walk.current()
            yield _write(walk, sub, media, current, walk.touched(current))
        path = f"{walk.path}/{walk.name}/{sub}"
        shows = "connect" if sub in CONNECTIONS else "token" if sub == "token" else "get"
        yield Sent("GET", f"{path}?command=ls", shows=shows)
        yield Sent("DELETE", path, shows=shows)
        yield Sent("POST", path, _posted(walk, sub), shows=shows)


async def deletions(walk: Walk) -> Requests:
    yield Sent("DELETE", f"{walk.path}/{walk.name}?dryRun=All")
    yield Sent("DELETE", f"{walk.path}/{walk.name}?gracePeriodSeconds=0")
    yield Sent("DELETE", f"{walk.path}?fieldSelector=metadata.name%3D{walk.name}")
    yield Sent("DELETE", walk.path, {"gracePeriodSeconds": 0})


STEPS = (reads, creations, updates, subresources, deletions)
PLAIN, APPLY = "application/json", "application/apply-patch+yaml"
PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    APPLY,
)


def _query(media: str) -> str:
    return "fieldManager=walker&force=true" if media == APPLY else "fieldManager=walker"


def _write(walk: Walk, sub: str, media: str, current: Object, changed: Object) -> Sent:
    path = f"{walk.path}/{walk.name}/{sub}".rstrip("/")
    if sub == "scale":
        current, changed = ({**_scale(walk), "spec": obj["spec"]} for obj in (current, changed))
        changed["spec"] = {"replicas": 3}
    shows = "connect" if sub in CONNECTIONS else ""
    return Sent("PATCH" if media else "PUT", f"{path}?{_query(media)}", _body(changed, current, media), media, shows)


def _scale(walk: Walk) -> Object:
    meta = {"name": walk.name, "namespace": "a"}
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta}


def _body(new: Object, old: Object, media: str) -> Any:
    """``new`` in the form of a media type; for patches, what differs from ``old``."""
    if media == APPLY:
        meta = {key: value for key, value in new["metadata"].items() if key in ("name", "annotations")}
        return {**new, "metadata": meta}
    if not media:
        return new
    differences = {key: value for key, value in new.items() if value != old.get(key)}
    if "metadata" in differences:
        differences["metadata"] = {"annotations": new["metadata"].get("annotations", {})}
    if media != PATCHES[0]:
        return differences
    return [
        {"op": "add", "path": "/metadata/annotations" if key == "metadata" else f"/{key}", "value": value}
        if key != "metadata"
        else {"op": "add", "path": "/metadata/annotations", "value": value["annotations"]}
        for key, value in differences.items()
    ]


def _posted(walk: Walk, sub: str) -> Any:
    meta = {"name": walk.name, "namespace": "a"}
    match sub:
        case "binding":
            return {"kind": "Binding", "apiVersion": "v1", "metadata": meta, "target": {"kind": "Node", "name": "n"}}
        case "eviction":
            return {"kind": "Eviction", "apiVersion": "policy/v1", "metadata": meta}
        case "token":
            return {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {"audiences": ["a"]}}
    return None


def _answered(sent: Sent, status: int) -> bool:
    """A connection is allowed if it is tried: the walk's pods have no node, so that none is made."""
    return status not in (403, 404, 405) if sent.shows == "connect" else status in (200, 201)


def changes(before: bytes | None, after: bytes | None) -> Iterator[str]:
    if before is None or after is None:
        yield "create" if before is None else "delete"
    else:
        yield from differences(orjson.loads(before), orjson.loads(after))


def differences(before: Object, after: Object) -> Iterator[str]:
    meta, kept = after["metadata"], before["metadata"]
    if "deletionTimestamp" in meta and "deletionTimestamp" not in kept:
        yield "delete"
        return
    if any(meta.get(name) != kept.get(name) for name in ("labels", "annotations", "finalizers", "ownerReferences")):
        yield "metadata"
    spec, old = dict(after.get("spec") or {}), dict(before.get("spec") or {})
    for name, effect in (("ephemeralContainers", "ephemeral"), ("finalizers", "finalizers")):
        if spec.pop(name, None) != old.pop(name, None):
            yield effect
    if spec != old:
        yield "change"
    if after.get("status") != before.get("status"):
        yield "status"


FOLLOWED = frozenset(("apiservices", "customresourcedefinitions", "flowschemas"))
"""Kinds whose status the server itself writes, a moment later."""
CONNECTIONS = frozenset(("attach", "exec", "log", "portforward", "proxy"))
KINDS = [resource for resource in builtin_scheme().resources() if (resource.group, resource.plural) in BASES]


async def grant(world: World | OtherWorld, rights: Iterable[Right]) -> None:
    """Give every right to its own user."""
    for right in rights:
        name = right.user.replace("/", "-")
        role = {"metadata": {"name": name}, "rules": [right.rule]}
        with suppress(AlreadyExists):  # of an earlier walk over another server
            await world.admin.create(R.CLUSTER_ROLES, role)
        reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}
        subjects = [{"kind": "User", "apiGroup": RBAC, "name": right.user}]
        binding = {"metadata": {"name": name}, "roleRef": reference, "subjects": subjects}
        with suppress(AlreadyExists):
            await world.admin.create(R.CLUSTER_ROLE_BINDINGS, binding)
    await world.settle()


@pytest.mark.parametrize("resource", KINDS, ids=lambda resource: f"{resource.group}.{resource.plural}".lstrip("."))
def test_one_right_has_one_effect(resource: Resource) -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        await grant(world, rights_of(resource))
        walk = Walk(world, resource)
        for right in rights_of(resource):
            effects = await walk.try_all(right)
            assert effects == effects_of(right), (right.user, effects_of(right) - effects)

    run(work)


@pytest.mark.skipif(not other_server(), reason=f"no other server is named ({URL})")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("resource", KINDS, ids=lambda resource: f"{resource.group}.{resource.plural}".lstrip("."))
def test_the_other_server_has_the_same_table(resource: Resource) -> None:
    async def work() -> None:
        async with other_world() as world:
            for path, name in (("/api/v1/namespaces", "a"), ("/api/v1/namespaces/a/serviceaccounts", "default")):
                assert (await world.raw("POST", path, {"metadata": {"name": name}})).status in (201, 409)
            rights = list(rights_of(resource))
            await grant(world, rights)
            walk, wrong = OtherWalk(world, resource), []  # type: ignore[arg-type]
            for right in rights:
                effects = await walk.try_all(right)
                if effects != effects_of(right):
                    wrong.append((right.user, sorted(effects), sorted(effects_of(right))))
            print(f"{resource.plural}: {sum(walk.answers.values())} requests, {len(rights)} users")
            assert not wrong

    asyncio.run(work())


ROLE = {"metadata": {"name": "new"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}
ADMIN = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"}
BINDING = {
    "metadata": {"name": "new"},
    "roleRef": ADMIN,
    "subjects": [{"kind": "User", "apiGroup": RBAC, "name": "eve"}],
}
LEASE = {"metadata": {"name": "new", "namespace": "a"}, "spec": {}}
MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new"}}
CSR = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
FAILED = {"status": {"conditions": [{"type": "Failed", "status": "True", "reason": "No"}]}}
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
PARAMETRIC = merge_patch(
    {"metadata": {"name": "new"}, **copy(BASES["admissionregistration.k8s.io", "validatingadmissionpolicies"])},
    {"spec": {"paramKind": {"apiVersion": "v1", "kind": "Secret"}}},
)
BOUND = {
    "metadata": {"name": "new"},
    "spec": {
        "policyName": "with-secrets",
        "validationActions": ["Deny"],
        "paramRef": {"name": "s", "namespace": "a", "parameterNotFoundAction": "Deny"},
    },
}
ALLOCATION = {"devices": {"results": [{"request": "r", "driver": "d.example.com", "pool": "p", "device": "d"}]}}
ALLOCATED = {"status": {"allocation": ALLOCATION}}
MERGE = "application/merge-patch+json"
Pair = tuple[tuple[str, str, str], tuple[str, str, str], Sent]
PAIRS: dict[str, Pair] = {
    "apply that creates": (
        ("patch", "", "configmaps"),
        ("create", "", "configmaps"),
        Sent("PATCH", "/api/v1/namespaces/a/configmaps/new?fieldManager=m", MAP, APPLY),
    ),
    "PUT that creates": (
        ("update", "coordination.k8s.io", "leases"),
        ("create", "coordination.k8s.io", "leases"),
        Sent("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/new", LEASE),
    ),
    "exec by GET": (
        ("get", "", "pods/exec"),
        ("create", "", "pods/exec"),
        Sent("GET", "/api/v1/namespaces/a/pods/x/exec?command=ls", shows="connect"),
    ),
    "attach by GET": (
        ("get", "", "pods/attach"),
        ("create", "", "pods/attach"),
        Sent("GET", "/api/v1/namespaces/a/pods/x/attach?stdout=1", shows="connect"),
    ),
    "port-forward by GET": (
        ("get", "", "pods/portforward"),
        ("create", "", "pods/portforward"),
        Sent("GET", "/api/v1/namespaces/a/pods/x/portforward?ports=80", shows="connect"),
    ),
    "a role with more rights": (
        ("create", RBAC, "clusterroles"),
        ("escalate", RBAC, "clusterroles"),
        Sent("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", ROLE),
    ),
    "a binding to a role with more rights": (
        ("create", RBAC, "clusterrolebindings"),
        ("bind", RBAC, "clusterroles"),
        Sent("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", BINDING),
    ),
    "an approval": (
        ("update", CERTIFICATES, "certificatesigningrequests/approval"),
        ("approve", CERTIFICATES, "signers"),
        Sent("PUT", f"{CSR}/x/approval", PARTS["approval"]),
    ),
    "a signature": (
        ("patch", CERTIFICATES, "certificatesigningrequests/status"),
        ("sign", CERTIFICATES, "signers"),
        Sent("PATCH", f"{CSR}/x/status", FAILED, MERGE),
    ),
    "a policy that reads secrets": (
        ("create", "admissionregistration.k8s.io", "validatingadmissionpolicies"),
        ("get", "", "secrets"),
        Sent("POST", POLICIES, PARAMETRIC),
    ),
    "a policy binding that reads a secret": (
        ("create", "admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
        ("get", "", "secrets"),
        Sent("POST", POLICIES.replace("policies", "policybindings"), BOUND),
    ),
    "an allocation": (
        ("patch", "resource.k8s.io", "resourceclaims/status"),
        ("patch", "resource.k8s.io", "resourceclaims/binding"),
        Sent("PATCH", "/apis/resource.k8s.io/v1/namespaces/a/resourceclaims/x/status", ALLOCATED, MERGE),
    ),
}
"""What takes two rights: by the first alone it is refused, by the second alone too."""


async def fixtures(world: World) -> None:
    await world.namespace("a")
    for resource in KINDS:
        if resource.plural in ("pods", "certificatesigningrequests", "resourceclaims"):
            path = collection(resource, resource.storage_version)
            assert (await world.raw("POST", path, base(resource, resource.storage_version))).status == 201
    named = {**copy(PARAMETRIC), "metadata": {"name": "with-secrets"}}
    assert (await world.raw("POST", POLICIES, named)).status == 201


async def allow(world: World, user: str, rights: Iterable[tuple[str, str, str]]) -> None:
    rules = [{"verbs": [verb], "apiGroups": [group], "resources": [resource]} for verb, group, resource in rights]
    await world.admin.create(R.CLUSTER_ROLES, {"metadata": {"name": user}, "rules": rules})
    subjects = [{"kind": "User", "apiGroup": RBAC, "name": user}]
    reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": user}
    await world.admin.create(
        R.CLUSTER_ROLE_BINDINGS, {"metadata": {"name": user}, "roleRef": reference, "subjects": subjects}
    )


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_what_takes_two_rights(pair: Pair) -> None:
    first, second, sent = pair

    async def work(world: World) -> None:
        await fixtures(world)
        await allow(world, "first", [first])
        await allow(world, "second", [second])
        await allow(world, "both", [first, second])
        await world.settle()
        body = sent.body
        if sent.path.endswith("/approval"):
            body = merge_patch(await world.json("GET", f"{CSR}/x"), body)
        for user, allowed in (("first", False), ("second", False), ("both", True)):
            answer = await world.raw(sent.method, sent.path, body, user=(user, ()), content_type=sent.media or PLAIN)
            if sent.shows:
                assert (answer.status not in (403, 404)) is allowed, (user, answer.body)
            else:
                assert answer.status in ((200, 201) if allowed else (403, 422)), (user, answer.body)
                assert allowed or b"orbidden" in bytes(answer.body), answer.body

    run(work)


def test_drivers_report_their_own_devices_only() -> None:
    """Status of devices takes a right on ``resourceclaims/driver``, by the name of the driver."""
    path = "/apis/resource.k8s.io/v1/namespaces/a/resourceclaims/x/status"
    own = [{"driver": "d.example.com", "pool": "p", "device": "d", "data": {"a": 1}}]

    async def work(world: World) -> None:
        await fixtures(world)
        await world.json("PATCH", path, ALLOCATED, content_type=MERGE)
        status = ("patch", "resource.k8s.io", "resourceclaims/status")
        await allow(world, "no-driver", [status])
        await allow(world, "driver", [status, ("arbitrary-node:patch", "resource.k8s.io", "resourceclaims/driver")])
        await world.settle()
        refused = await world.json(
            "PATCH", path, {"status": {"devices": own}}, user=("no-driver", ()), content_type=MERGE
        )
        assert refused["details"]["causes"][0]["field"] == "status.devices"
        assert (
            'status.devices requires resource="resourceclaims/driver", verb="[arbitrary-node:patch]" permission: '
            'resourceclaims.resource.k8s.io "d.example.com" is forbidden: User "no-driver" cannot arbitrary-node:patch '
            'resource "resourceclaims/driver" in API group "resource.k8s.io" in the namespace "a"'
        ) in refused["message"]
        made = await world.json("PATCH", path, {"status": {"devices": own}}, user=("driver", ()), content_type=MERGE)
        assert made["status"]["devices"][0]["driver"] == "d.example.com"

    run(work)
