"""Creates, updates, patches and applies of Deployments, against what a v1.36 server recorded as their owners."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tiphys.api import codec
from tiphys.api.apply import apply, excluding, of_paths, read_applied, update_managed_fields
from tiphys.api.defaults import apply_defaults
from tiphys.api.errors import StatusError
from tiphys.api.meta import copy
from tiphys.api.object import Object
from tiphys.api.patch import MERGE_PATCH, STRATEGIC_MERGE_PATCH, patch_object
from tiphys.api.schema import schema_for
from tiphys.api.scheme import GroupVersionKind

RECORDED = json.loads(gzip.decompress((Path(__file__).parents[1] / "recorded/apply.json.gz").read_bytes()))
DEPLOYMENT = GroupVersionKind("apps", "v1", "Deployment")
SCHEMA = schema_for(DEPLOYMENT)
MAIN = {"apps/v1": excluding(of_paths("status"))}
STATUS = {"apps/v1": excluding(of_paths("spec", "metadata.labels"))}
NOW = "2000-01-01T00:00:00Z"
SERVER_SET = ("uid", "creationTimestamp", "resourceVersion", "generation")


def conversations() -> list[list[Object]]:
    found: dict[int, list[Object]] = {}
    for step in RECORDED:
        found.setdefault(step["conversation"], []).append(step)
    return list(found.values())


def finish(obj: Object) -> Object:
    apply_defaults(obj, DEPLOYMENT)
    return codec.complete(obj, SCHEMA)


def decode(step: Object) -> Object:
    return finish(codec.decode(step["body"].encode(), "", DEPLOYMENT, SCHEMA).object)


def carry_out(step: Object, live: Object | None) -> Object:
    manager, body = step["manager"], step["body"].encode()
    if step["op"] == "apply":
        applied = read_applied(body)[0]
        return finish(
            apply(live, applied, manager, force=step["force"], gvk=DEPLOYMENT, schema=SCHEMA, now=NOW, filters=MAIN)
        )
    if step["op"] == "create":
        return update_managed_fields(None, decode(step), manager, DEPLOYMENT, SCHEMA, NOW, filters=MAIN)
    assert live is not None
    if step["op"] == "put":
        new = decode(step)
        new["metadata"] |= {key: live["metadata"][key] for key in SERVER_SET if key in live["metadata"]}
        return update_managed_fields(live, new, manager, DEPLOYMENT, SCHEMA, NOW, filters=MAIN)
    if step["op"] == "status":
        return update_managed_fields(live, decode(step), manager, DEPLOYMENT, SCHEMA, NOW, "status", filters=STATUS)
    media = MERGE_PATCH if step["op"] == "merge" else STRATEGIC_MERGE_PATCH
    new = finish(patch_object(live, body, media, DEPLOYMENT, SCHEMA).object)
    return update_managed_fields(live, new, manager, DEPLOYMENT, SCHEMA, NOW, filters=MAIN)


def owners(obj: Object) -> list[Object]:
    found = copy(obj["metadata"].get("managedFields", []))
    for entry in found:
        entry.pop("time", None)
    return sorted(found, key=lambda entry: json.dumps(entry, sort_keys=True))


def sorted_causes(status: Object) -> Object:
    found = copy(status)
    found.get("details", {}).get("causes", []).sort(key=lambda cause: json.dumps(cause, sort_keys=True))
    return found


@pytest.mark.parametrize("steps", conversations(), ids=lambda steps: str(steps[0]["conversation"]))
def test_owners_are_those_that_the_original_recorded(steps: list[Object]) -> None:
    live: Object | None = None
    for step in steps:
        answer = step["answer"]
        if step["code"] == 409:
            with pytest.raises(StatusError) as caught:
                carry_out(step, copy(live))
            assert sorted_causes(caught.value.status) == sorted_causes(answer)
            continue
        if answer["kind"] == "Status":
            continue
        before = copy(live)
        found = carry_out(step, live)
        assert live == before, "the live object was changed"
        assert owners(found) == owners(answer)
        if step["op"] != "status":
            assert found["spec"] == answer["spec"]
        live = answer
