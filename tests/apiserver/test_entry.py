import random

import orjson
import pytest

from tiphys.api.resources import builtin_scheme
from tiphys.api.scheme import GroupKind
from tiphys.apiserver.storage.changes import at_revision
from tiphys.apiserver.storage.entry import Codec, Entry
from tiphys.apiserver.storage.fields import SELECTABLE, fields_of, selector_of
from tiphys.apiserver.storage.glance import Glance
from tiphys.store.backend import KeyValue

UID = "11111111-2222-4333-8444-555555555555"


def codec(group: str = "", plural: str = "pods") -> Codec:
    resource = builtin_scheme().resource(group, plural)
    assert resource is not None
    return Codec(resource, selector_of(group, resource.kind))


def a_pod() -> dict:
    meta = {"name": "p", "namespace": "a", "uid": UID, "labels": {"x": "y"}}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": {"nodeName": "n1"}}


def test_a_stored_value_has_no_resource_version() -> None:
    obj = a_pod()
    obj["metadata"]["resourceVersion"] = "7"
    draft = codec().draft(obj)
    assert b"resourceVersion" not in draft.value
    assert obj["metadata"]["resourceVersion"] == "7"


def test_the_revision_is_spliced_in_behind_the_uid() -> None:
    c = codec()
    draft = c.draft(a_pod())
    entry = c.entry("/registry/pods/a/p", draft.value, 42, draft)
    assert c.encoded(entry).startswith(b'{"kind":"Pod","apiVersion":"v1","metadata":{')
    assert f'"uid":"{UID}","resourceVersion":"42"'.encode() in entry.body
    assert c.object(entry)["metadata"]["resourceVersion"] == "42"
    assert (entry.namespace, entry.name, entry.labels) == ("a", "p", {"x": "y"})
    assert entry.fields[0] == "n1"


def test_a_value_of_another_writer_is_read_whatever_its_order() -> None:
    c = codec()
    value = orjson.dumps({"spec": {"nodeName": "n1"}, "metadata": {"name": "p"}, "apiVersion": "v1", "kind": "Pod"})
    obj = c.object(c.entry("/registry/pods/a/p", value, 3))
    assert obj["metadata"] == {"resourceVersion": "3", "name": "p"}
    assert (obj["spec"]["nodeName"], obj["spec"]["restartPolicy"]) == (
        "n1",
        "Always",
    )  # defaults are added, as upstream


def test_a_field_named_uid_further_down_is_not_taken_for_the_objects_own() -> None:
    c = codec("", "configmaps")
    value = b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},"data":{"uid":"short"}}'
    assert c.object(c.entry("/registry/configmaps/a/x", value, 5))["metadata"]["resourceVersion"] == "5"


def test_the_same_object_under_another_revision() -> None:
    c = codec()
    draft = c.draft(a_pod())
    entry = c.entry("/registry/pods/a/p", draft.value, 42, draft)
    later = c.object(at_revision(entry, 50))
    assert later.pop("metadata") == {**c.object(entry)["metadata"], "resourceVersion": "50"}


def test_revisions_are_kept_as_go_writes_them() -> None:
    data = {"spec": {"template": {"$patch": "replace", "command": "a && b <c>"}}}
    made = codec("apps", "controllerrevisions").draft({"kind": "ControllerRevision", "metadata": {}, "data": data})
    assert rb'{"$patch":"replace","command":"a \u0026\u0026 b \u003cc\u003e"}' in made.value


def glance(plural: str = "pods") -> Glance:
    c = codec("", plural)
    return Glance(c.head + b'"metadata":{', fields_of("", c.resource.kind))


def a_whole_pod() -> dict:
    obj = a_pod()
    obj["metadata"] |= {"annotations": {"a": "b, c"}, "ownerReferences": [{"uid": UID[::-1], "name": "o"}]}
    obj["spec"] |= {"hostNetwork": True, "nodeSelector": {"nodeName": "not this"}, "containers": [{"name": "c"}]}
    obj["status"] = {"phase": "Running", "podIP": "10.0.0.1"}
    return obj


def test_a_glance_sees_what_reading_the_whole_value_gives() -> None:
    c, obj = codec(), a_whole_pod()
    value = c.draft(obj).value
    end = value.index(UID.encode()) + len(UID) + 1
    assert glance()(value) == ({"x": "y"}, selector_of("", "Pod")(obj), end)


@pytest.mark.parametrize("kind", SELECTABLE)
def test_a_glance_reads_the_fields_of_every_kind_as_selectors_do(kind: GroupKind) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    fields = fields_of(*kind)
    select, seen = selector_of(*kind), Glance(b"{", fields)
    for _ in range(200):
        obj: dict = {"metadata": {"name": "n", "uid": UID}}
        for field in (*fields, *(field.other for field in fields if field.other is not None)):
            holder = obj
            for parent in field.parents:
                holder = holder.setdefault(parent, {})
            if field.name and chance.random() < 0.6:
                holder[field.name] = chance.choice(("text", "", True, False, 0, 7, None))
        looked = seen(orjson.dumps(obj))
        assert looked is not None
        assert looked[:2] == (None, select(obj)), f"seed {seed}"


def test_many_values_are_kept_as_one_is() -> None:
    resource = builtin_scheme().resource("", "pods")
    assert resource is not None
    many = Codec(resource, selector_of("", "Pod"), fields=fields_of("", "Pod"))
    value = many.draft(a_whole_pod()).value
    entries = [many.entry("/registry/pods/a/p", value, 3) for _ in range(400)]
    first, last = entries[0], entries[-1]
    assert (first.body, first.labels, first.fields) == (last.body, last.labels, last.fields)


def test_a_page_of_values_is_kept_as_each_of_them_is() -> None:
    resource = builtin_scheme().resource("", "pods")
    assert resource is not None
    written = codec().draft(a_whole_pod()).value
    values = {
        "a/p": written,
        "a/with-blank": written.replace(b'"10.0.0.1"', b'"10.0.0.1 and more"'),
        "a/of-another-writer": written.replace(b'"spec":{', b'"spec": {'),
        "b/not-ascii": written.replace(b'"10.0.0.1"', '"é"'.encode()),
        "b/without-labels": written.replace(b'"labels":{"x":"y"},', b""),
        "c/broken": written[:-1],
    }
    kvs = [KeyValue(f"/registry/pods/{key}".encode(), value, 3, 4, 2, 5) for key, value in values.items()]
    page = Codec(resource, selector_of("", "Pod"), fields=fields_of("", "Pod")).entries(kvs * 100)
    assert len(page) == 100 * len(kvs)
    one = codec()
    for kv, entry in zip(kvs[:5], page, strict=False):
        alone = one.entry(kv.key.decode(), kv.value, 4, None, 3, 5)
        assert (entry is None) == kv.key.endswith(b"/of-another-writer")
        if entry is not None:
            assert all(getattr(entry, name) == getattr(alone, name) for name in Entry.__slots__)
    assert page[5] is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"spec":{', b'"spec": {'),  # blanks, and more so lines: an event of a watch is one line
        (b'"spec":{', b'"spec":{\n'),
        (b'"spec":{', b'"spec":['),
        (b'"name":"p"', b'"name":null'),
        (b'"labels":{"x":"y"}', b'"labels":{"x":1}'),
        (b'"labels":{"x":"y"}', b'"labels":"x"'),
        (b'"name":"p"', b'"name":"p","resourceVersion":"4"'),
        (b'"name":"p"', b'"ownerReferences":[{"uid":"' + UID[::-1].encode() + b'"}],"name":"p"'),
        (b'"10.0.0.1"', b'"\xff"'),
        (b'"kind":"Pod"', b'"Kind":"Pod"'),
    ],
)
def test_what_this_server_would_not_write_is_not_for_a_glance(old: bytes, new: bytes) -> None:
    value = codec().draft(a_whole_pod()).value
    assert value.count(old)
    assert glance()(value.replace(old, new, 1)) is None
    assert glance()(value[:-1]) is None
