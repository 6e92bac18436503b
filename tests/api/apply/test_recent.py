"""Who owns what of new objects that are alike: remembered, and never of an object that differs where owners do."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.apiserver.randomobjects import mutate
from tiphys.api.apply import update_managed_fields
from tiphys.api.codec import complete
from tiphys.api.defaults import apply_defaults
from tiphys.api.meta import copy
from tiphys.api.object import Object
from tiphys.api.schema import schema_for
from tiphys.api.scheme import GroupVersionKind
from tiphys.runtime.remembering import Recent

POD = GroupVersionKind("", "v1", "Pod")
SCHEMA = schema_for(POD)


def pod(name: str, **meta: Any) -> Object:
    ports = [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 443, "protocol": "TCP"}]
    spec = {"containers": [{"name": "c", "image": "i", "ports": ports}], "tolerations": [{"key": "k"}]}
    obj: Object = {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "n", "finalizers": ["a/b", "a/c"], **meta},
        "spec": spec,
    }
    apply_defaults(obj, POD)
    return complete(obj, SCHEMA)


def managed(obj: Object, recent: Recent[bytes] | None, manager: str = "m", second: int = 0) -> Any:
    at = f"2026-01-01T00:00:{second:02d}Z"
    written = update_managed_fields(None, copy(obj), manager, POD, SCHEMA, at, recent=recent)
    return written["metadata"].get("managedFields")


def test_what_is_remembered_is_what_would_be_found() -> None:
    random, recent = Random(7), Recent[bytes](64, 8192)
    for number in range(1500):
        obj = pod(f"p{number}")
        for _ in range(random.choice((0, 0, 1, 1, 2))):
            mutate(random, obj, SCHEMA)
        wanted = managed(obj, None, f"m{number % 3}", number % 60)
        for _ in range(2):
            assert managed(obj, recent, f"m{number % 3}", number % 60) == wanted, number


def test_the_order_of_the_fields_is_the_same() -> None:
    recent = Recent[bytes](64, 8192)
    first, second = managed(pod("a"), recent), managed(pod("b"), recent)
    assert str(first) == str(second) == str(managed(pod("c"), None))


def test_who_changes_the_fields_of_one_object_changes_no_other() -> None:
    recent = Recent[bytes](64, 8192)
    for _ in range(3):
        fields = managed(pod("a"), recent)[0]["fieldsV1"]
        assert "f:spec" in fields
        fields["f:spec"].clear()
        fields.clear()


def test_owners_in_the_request_are_read_each_time() -> None:
    recent = Recent[bytes](64, 8192)
    managed(pod("a"), recent)
    entry = {
        "manager": "other",
        "operation": "Update",
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:hostname": {}}},
    }
    given = pod("b", managedFields=[entry])
    assert managed(given, recent) == managed(given, None)
