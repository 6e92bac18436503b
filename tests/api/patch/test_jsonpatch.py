"""What is told of a JSON patch that cannot be applied."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api.patch.failures import PatchError
from tiphys.api.patch.jsonpatch import json_patch

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
