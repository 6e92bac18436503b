"""The three patches, against what a v1.36 server made of the same patches of the same objects."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tiphys.api import codec
from tiphys.api.defaults import apply_defaults
from tiphys.api.errors import StatusError
from tiphys.api.meta import copy
from tiphys.api.patch import MERGE_PATCH, STRATEGIC_MERGE_PATCH, patch_object
from tiphys.api.schema import schema_for
from tiphys.api.scheme import GroupVersionKind
from tiphys.api.structural import schema_from_structural

RECORDED = json.loads(gzip.decompress((Path(__file__).parents[1] / "recorded/patch.json.gz").read_bytes()))
MASKED = ("managedFields", "uid", "resourceVersion", "creationTimestamp", "generation")


def gvk_of(path: str) -> GroupVersionKind:
    return (
        GroupVersionKind("", "v1", "ConfigMap")
        if "configmaps" in path
        else GroupVersionKind("apps", "v1", "Deployment")
    )


@pytest.mark.parametrize("case", RECORDED["cases"], ids=lambda case: case["body"][:70])
def test_answers_like_the_original(case: dict[str, Any]) -> None:
    gvk = gvk_of(case["path"])
    live = copy(RECORDED["live"][case["path"]])
    request = (live, case["body"].encode(), case["type"], gvk, schema_for(gvk), case.get("validation", "Warn"))
    if "status" in case:
        with pytest.raises(StatusError) as caught:
            patch_object(*request)
        assert caught.value.status == case["status"]
    else:
        found = patch_object(*request)
        apply_defaults(found.object, gvk)
        obj = codec.complete(found.object, schema_for(gvk))
        for key in MASKED:
            obj["metadata"].pop(key, None)
        assert obj == case["object"]
        shown = ", ".join('299 - "{}"'.format(w.replace("\\", "\\\\").replace('"', '\\"')) for w in found.warnings)
        assert shown == case.get("warning", "")
    assert live == RECORDED["live"][case["path"]], "the current object was changed"


def test_ignored_warnings_are_silent() -> None:
    gvk = GroupVersionKind("", "v1", "ConfigMap")
    live = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "x"}}
    found = patch_object(live, b'{"bogus":1}', MERGE_PATCH, gvk, schema_for(gvk), "Ignore")
    assert found.warnings == []
    assert "bogus" not in found.object


def test_custom_resources_have_no_strategic_merge() -> None:
    schema = schema_from_structural(None)
    gvk = GroupVersionKind("x.io", "v1", "Foo")
    live = {"kind": "Foo", "apiVersion": "x.io/v1", "metadata": {"name": "x"}, "spec": {"a": None}}
    with pytest.raises(StatusError, match="strategic merge patch format is not supported"):
        patch_object(live, b"{}", STRATEGIC_MERGE_PATCH, gvk, schema)
    assert patch_object(live, b'{"spec":{"b":1}}', MERGE_PATCH, gvk, schema).object["spec"] == {"a": None, "b": 1}
