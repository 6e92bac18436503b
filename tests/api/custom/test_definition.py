"""From a definition to what is served."""

from __future__ import annotations

from typing import Any

from tiphys.api.custom.definition import definition_name, resource_of
from tiphys.api.scheme import GroupVersionKind, version_priority
from tiphys.validation.custom.formats import FORMATS, effective_format


def definition(**status: Any) -> dict[str, Any]:
    names = {"plural": "toys", "singular": "toy", "kind": "Toy", "listKind": "ToyList", "shortNames": ["ty"]}
    scale = {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}
    versions = [
        {"name": "v1alpha1", "served": False, "storage": False},
        {"name": "v1beta1", "served": True, "storage": False, "deprecated": True},
        {"name": "v1", "served": True, "storage": True, "subresources": {"scale": scale, "status": {}}},
    ]
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": versions}
    return {"spec": spec, "status": {"acceptedNames": names, **status}}


def test_nothing_is_served_before_the_names_are_accepted() -> None:
    assert resource_of(definition()) is None
    assert resource_of(definition(conditions=[{"type": "NamesAccepted", "status": "False"}])) is None


def test_the_row_has_the_served_versions_in_order_of_priority() -> None:
    resource = resource_of(definition(conditions=[{"type": "Established", "status": "True"}]))
    assert resource is not None
    assert resource.versions == ("v1", "v1beta1")
    assert (resource.storage_version, resource.list_kind, resource.short_names) == ("v1", "ToyList", ("ty",))
    assert [part.name for part in resource.subresources_in("v1")] == ["status", "scale"]
    assert resource.subresources_in("v1beta1") == ()
    assert resource.custom["v1beta1"].warning == "example.com/v1beta1 Toy is deprecated; use example.com/v1 Toy"


def test_versions_by_priority() -> None:
    names = ["foo1", "v1alpha2", "v2", "v1beta1", "v10", "v1beta2", "bar"]
    assert sorted(names, key=version_priority) == ["v10", "v2", "v1beta2", "v1beta1", "v1alpha2", "bar", "foo1"]


def test_names_of_definitions() -> None:
    assert definition_name(GroupVersionKind("stable.example.com", "v1", "CronTab")) == "com.example.stable.v1.CronTab"


def test_formats() -> None:
    good = {
        "date": "2024-02-29", "datetime": "2024-01-01T00:00:00Z", "duration": "22 seconds", "uuid": "A" * 32,
        "ipv4": "10.0.0.1", "ipv6": "::1", "cidr": "10.0.0.0/8", "mac": "01:23:45:67:89:ab", "email": "a@b.c",
        "uri": "/a", "hostname": "a.example.com", "byte": "YWJj", "isbn": "978-0321751041", "k8sshortname": "a-b",
    }  # fmt: skip
    assert all(FORMATS[name](text) for name, text in good.items())
    assert not any(FORMATS[name]("?!") for name in good)
    assert effective_format({"type": "string", "format": "date-time"}) == "date-time"
    assert effective_format({"type": "string", "format": "int32"}) == ""
