"""Objects of every kind, at random, through all verbs; and bodies that nobody should send.

No answer is ever a 500 that the original does not give, what is written is what is read, and whatever is refused is
refused with a Status. A few objects of each kind are tried in the suite; ``TIPHYS_EXAMPLES=500 pytest
tests/apiserver/test_any_object.py`` tries more, and ``TIPHYS_SEED`` others. A failure names the seed and the request.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson
import pytest

from tests.apiserver.apiworld import World, run
from tests.apiserver.baseobjects import BASES, base, collection
from tests.apiserver.randomobjects import MEDIA, hostile, mutate, replaced
from tiphys.api.meta import copy
from tiphys.api.object import Object
from tiphys.api.resources import builtin_scheme
from tiphys.api.schema import schema_for
from tiphys.api.scheme import Resource

EXAMPLES = int(os.environ.get("TIPHYS_EXAMPLES", "3"))
SEED = int(os.environ.get("TIPHYS_SEED", "1"))
KINDS = [
    (resource, version)
    for resource in builtin_scheme().resources()
    if (resource.group, resource.plural) in BASES
    for version in resource.versions
]
UPSTREAMS = (
    "failed to create manager for existing fields: ",
    "resourceVersion should not be set on objects to be created",
    "unable to find api field in struct ",
)
"""What the original itself answers with 500."""
SERVER_OWNED = frozenset(("namespaces", "customresourcedefinitions", "apiservices", "servicecidrs", "ipaddresses"))
"""Kinds of which only the unchanged object is tried: what they stand for outlives the test of them, or is not free."""


@dataclass
class Trial:
    """One kind under test: sends requests, and checks every answer."""

    world: World
    resource: Resource
    version: str
    seed: str
    accepted: int = 0
    refused: list[str] = field(default_factory=list)

    @property
    def path(self) -> str:
        return collection(self.resource, self.version)

    async def send(
        self, method: str, path: str, body: Any = None, media: str = "application/json"
    ) -> tuple[int, Object]:
        response = await self.world.raw(method, path, body, content_type=media)
        where = f"seed {self.seed}: {method} {path} {media} {body if isinstance(body, bytes) else orjson.dumps(body)!r}"
        assert isinstance(response.body, bytes), where
        found = orjson.loads(response.body)
        if response.status >= 500:
            assert found["message"].startswith(UPSTREAMS), f"{where[:3000]}\n{found}"
        if response.status >= 400:
            assert (found["kind"], found["status"], found["code"]) == ("Status", "Failure", response.status), where
        return response.status, found

    async def live(self, obj: Object) -> None:
        """Create the object; where that is accepted, read, update, patch, apply and delete it."""
        status, created = await self.send("POST", self.path, obj)
        if status >= 300:
            self.refused.append(created["message"])
            return
        self.accepted += 1
        await self.world.settle()
        at = f"{self.path}/{created['metadata']['name']}"
        if "get" in self.resource.verbs:
            await self._change(at, created)
        status, _ = await self.send("DELETE", f"{at}?gracePeriodSeconds=0")
        assert status in (200, 202)
        await self._release(at)

    async def _change(self, at: str, created: Object) -> None:
        status, read = await self.send("GET", at)
        assert status == 200
        assert _steady(read) == _steady(created), f"seed {self.seed}: reading {at} gives what creating it gave"
        status, same = await self.send("PUT", at, read)
        assert status == 200, same
        labels = {"metadata": {"labels": {"touched": "yes"}}}
        for media in ("merge-patch+json", "strategic-merge-patch+json"):
            status, patched = await self.send("PATCH", at, labels, f"application/{media}")
            assert status == 200, patched
            assert patched["metadata"]["labels"]["touched"] == "yes"
        test = [{"op": "test", "path": "/metadata/labels/touched", "value": "yes"}]
        assert (await self.send("PATCH", at, test, "application/json-patch+json"))[0] == 200
        head = {"apiVersion": read["apiVersion"], "kind": read["kind"], "metadata": {"name": read["metadata"]["name"]}}
        applied = copy(head) | {"metadata": head["metadata"] | {"annotations": {"example.com/applied": "b"}}}
        status, found = await self.send("PATCH", f"{at}?fieldManager=m", applied, "application/apply-patch+yaml")
        if status != 500:  # an item of a list has no key, so that nobody can own it
            assert status == 200, found
            assert found["metadata"]["annotations"]["example.com/applied"] == "b"

    async def _release(self, at: str) -> None:
        """Take the finalizers off what waits for a controller, so that its name is free again."""
        status, _ = await self.send("PATCH", at, {"metadata": {"finalizers": None}}, "application/merge-patch+json")
        if status == 200 and self.resource.plural == "namespaces":
            await self.send("PUT", f"{at}/finalize", {"metadata": {"name": at.rpartition("/")[2]}, "spec": {}})


def _steady(obj: Object) -> Object:
    """An object without what a controller of the server may have changed by now."""
    meta = {name: value for name, value in obj["metadata"].items() if name not in ("resourceVersion", "managedFields")}
    return {name: value for name, value in obj.items() if name not in ("metadata", "status")} | {"metadata": meta}


def contains(written: Any, shown: Any, path: str = "") -> str:
    """Where what is shown lacks something of what was written; empty where it holds all of it."""
    if isinstance(written, dict) and isinstance(shown, dict):
        return next((why for k, v in written.items() if (why := contains(v, shown.get(k), f"{path}.{k}"))), "")
    if isinstance(written, list) and isinstance(shown, list) and len(written) == len(shown):
        pairs = enumerate(zip(written, shown, strict=True))
        return next((why for i, (v, s) in pairs if (why := contains(v, s, f"{path}[{i}]"))), "")
    return "" if written == shown else f"{path}: {written!r} is shown as {shown!r}"


async def furnish(world: World) -> None:
    """A namespace with limits and a quota, so that what they look at is looked at in every object."""
    await world.namespace("a")
    limits = [{"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}}, {"type": "Pod", "max": {"cpu": "9"}}]
    hard = {"requests.cpu": "900", "limits.memory": "900Gi", "count/configmaps": "900", "services": "900"}
    for plural, spec in (("limitranges", {"limits": limits}), ("resourcequotas", {"hard": hard})):
        body = {"metadata": {"name": "standing"}, "spec": spec}
        found = await world.json("POST", f"/api/v1/namespaces/a/{plural}", body)
        assert found["metadata"]["uid"]


def test_every_kind_is_created_as_written_and_lives_through_all_verbs() -> None:
    async def work(world: World) -> None:
        await furnish(world)
        for resource, version in KINDS:
            trial = Trial(world, resource, version, "none")
            obj = base(resource, version)
            status, created = await trial.send("POST", f"{trial.path}?dryRun=All", obj)
            assert status == 201, (resource.name, created)
            assert contains(obj, created) == "", resource.name
            await trial.live(obj)
            assert trial.accepted == 1, (resource.name, trial.refused)

    run(work)


def test_random_objects_of_every_kind() -> None:
    shares: dict[str, tuple[int, int]] = {}

    async def work(world: World) -> None:
        await furnish(world)
        for resource, version in KINDS:
            if resource.plural in SERVER_OWNED:
                continue
            trial = Trial(world, resource, version, "")
            for i in range(EXAMPLES):
                trial.seed = f"{SEED}/{resource.plural}/{version}/{i}"
                random = Random(trial.seed)
                obj = base(resource, version)
                for _ in range(random.randint(1, 2)):
                    mutate(random, obj, schema_for(resource.gvk(version)))
                await trial.live(obj)
            shares[f"{resource.name}/{version}"] = (trial.accepted, EXAMPLES)

    run(work)
    none = [name for name, (accepted, _) in shares.items() if not accepted]
    accepted = sum(a for a, _ in shares.values())
    print(f"seed {SEED}: {accepted} of {len(shares) * EXAMPLES} random objects accepted, none of {none}")
    assert len(none) <= len(shares) * 0.15, none


@pytest.mark.parametrize("verb", ["POST", "PUT", "PATCH", "DELETE"])
def test_hostile_bodies(verb: str) -> None:
    async def work(world: World) -> None:
        await furnish(world)
        for resource, version in KINDS:
            trial = Trial(world, resource, version, "")
            obj = base(resource, version)
            at = trial.path if verb == "POST" else f"{trial.path}/{obj['metadata']['name']}"
            if resource.plural not in SERVER_OWNED:
                await trial.send("POST", trial.path, obj)
            for i in range(EXAMPLES):
                trial.seed = f"{SEED}/{verb}/{resource.plural}/{version}/{i}"
                random = Random(trial.seed)
                body = replaced(random, obj) if random.random() < 0.4 else hostile(random, orjson.dumps(obj))
                await trial.send(verb, f"{at}?dryRun=All", body, random.choice(MEDIA))
        assert (await world.json("GET", "/api/v1/namespaces/a"))["status"]["phase"] == "Active"

    run(work)
