"""What was sent empty, put back for error messages."""

from __future__ import annotations

from tiphys.api.codec import decode, with_empties
from tiphys.api.schema import schema_for
from tiphys.api.scheme import GroupVersionKind


def test_empty_lists_and_maps_are_left_out_and_remembered() -> None:
    gvk = GroupVersionKind("", "v1", "ReplicationController")
    body = b'{"spec":{"selector":{},"template":{"metadata":{"labels":{}},"spec":{"volumes":[]}}}}'
    decoded = decode(body, "application/json", gvk, schema_for(gvk))
    template = {"metadata": {}, "spec": {}}
    assert decoded.object["spec"] == {"template": template}
    assert sorted(decoded.empties) == [
        ("spec.selector", {}),
        ("spec.template.metadata.labels", {}),
        ("spec.template.spec.volumes", []),
    ]
    told = with_empties(decoded.object, decoded.empties)
    assert told["spec"]["selector"] == {}
    assert told["spec"]["template"] == {"metadata": {"labels": {}}, "spec": {"volumes": []}}
    assert decoded.object["spec"] == {"template": template}


def test_what_has_changed_since_is_left_alone() -> None:
    obj = {"a": [{"b": None}], "c": {"d": [1]}, "e": "text"}
    empties: list[tuple[str, object]] = [("a[0].b", []), ("a[1].b", []), ("c.d", []), ("e.f", {}), ("g.h", {})]
    assert with_empties(obj, empties) == {"a": [{"b": []}], "c": {"d": [1]}, "e": "text"}
