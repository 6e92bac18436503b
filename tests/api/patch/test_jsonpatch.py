"""What is told of a JSON patch that cannot be applied."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tiphys.api.codec.jsontext import Number
from tiphys.api.errors import StatusError
from tiphys.api.patch import JSON_PATCH, patch_object
from tiphys.api.patch.failures import PatchError
from tiphys.api.patch.jsonpatch import MAX_COPIED, JSONPatch, json_patch
from tiphys.api.schema import schema_for
from tiphys.api.scheme import GroupVersionKind

MISSING = "missing value"
UNABLE = f"Unable to remove nonexistent key: z: {MISSING}"


@pytest.mark.parametrize(
    ("operation", "told"),
    [
        ("add /a/b", f'add operation does not apply: doc is missing path: "/a/b": {MISSING}'),
        ("add /l/9", "error in add for path: '/l/9': Unable to access invalid index: 9: invalid index referenced"),
        ("remove /z", f"error in remove for path: '/z': {UNABLE}"),
        ("replace /l/9", f"replace operation does not apply: doc is missing key: /l/9: {MISSING}"),
        ("move /y /z", f"error in move for path: 'z': {UNABLE}"),
        ("copy /y /z/y", f"copy operation does not apply: doc is missing from path: /z/y: {MISSING}"),
        ("test /l/0", "testing value /l/0 failed: test failed"),
        ("nope /l", "Unexpected kind: nope"),
    ],
)
def test_what_is_told(operation: str, told: str) -> None:
    kind, path, *source = operation.split()
    patch: dict[str, Any] = {"op": kind, "path": path, "value": 2}
    if source:
        patch["from"] = source[0]
    with pytest.raises(PatchError) as caught:
        json_patch({"l": [1]}, [patch])
    assert str(caught.value) == told


def test_copies_add_up_to_no_more_than_upstream_allows() -> None:
    """Sixty doublings of a kilobyte would be more than there is memory."""
    doubling = [{"op": "copy", "from": "/a", "path": f"/a/{number}"} for number in range(60)]
    patch = JSONPatch({"a": {"text": "x" * 1000}})
    with pytest.raises(PatchError, match=r"accumulated size increase of copy is \d+, exceeding the limit 3145728"):
        patch.run(doubling)
    size = len(json.dumps(patch.document))
    assert size < 2 * MAX_COPIED


def test_copies_below_the_limit_are_made() -> None:
    many = [{"op": "copy", "from": "/a", "path": f"/copies/{number}"} for number in range(1000)]
    patched = json_patch({"a": {"k": "v" * 1000}, "copies": {}}, many)
    assert len(patched["copies"]) == 1000


def test_numbers_count_as_they_are_written() -> None:
    operations = [{"op": "copy", "from": "/a", "path": "/b"}]
    assert json_patch({"a": {"n": Number("1" * 1000)}}, operations)["b"]["n"].text == "1" * 1000
    with pytest.raises(PatchError, match="exceeding the limit"):
        json_patch({"a": {"n": Number("1" * MAX_COPIED)}}, operations)


def test_what_operations_nest_too_deep_is_refused() -> None:
    gvk = GroupVersionKind("", "v1", "ConfigMap")
    current = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "c"}, "data": {}}
    operations = [{"op": "add", "path": "/data" + "/a" * depth, "value": {}} for depth in range(1, 1200)]
    with pytest.raises(StatusError) as refused:
        patch_object(current, json.dumps(operations).encode(), JSON_PATCH, gvk, schema_for(gvk))
    assert refused.value.status["code"] == 422
