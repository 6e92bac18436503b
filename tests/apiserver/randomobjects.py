"""Objects of any kind, changed at random by the field tree of the kind; and bodies that are no objects at all."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import orjson

from tiphys.api.meta import copy
from tiphys.api.object import Object
from tiphys.api.schema import ARRAY, MAP, OBJECT, Schema

SCALARS: dict[str, list[Any]] = {
    "string": ["", "a", "b", "None", "10.0.0.1", "a.example.com", "x" * 64, "\N{LATIN SMALL LETTER E WITH ACUTE}<\n>"],
    "integer": [0, 1, 2, 80, -1, 2**31 - 1],
    "number": [0, 1.5],
    "boolean": [True, False],
    "bytes": ["", "YQ=="],
    "quantity": ["0", "1", "0.5", "1000m", "1Gi", 3],
    "int-or-string": [0, 80, "25%", "http"],
    "time": ["2020-01-01T00:00:00Z"],
    "micro-time": ["2020-01-01T00:00:00.000001Z"],
    "any": [1, "x", {"a": {"b": None}}, [1]],
    "raw": [{"a": 1}, {}],
}


def value(random: Random, schema: Schema, depth: int = 0) -> Any:
    """A value of a type; small, as most of what is large is refused for one of its many parts."""
    if schema.kind in SCALARS:
        return copy(random.choice(SCALARS[schema.kind]))
    items = schema.items
    if schema.kind == OBJECT:
        names = random.sample(list(schema.fields), min(len(schema.fields), random.randint(0, 3))) if depth < 5 else []
        return {name: value(random, schema.fields[name].schema, depth + 1) for name in names}
    assert items is not None
    count = random.randint(0, 2) if depth < 5 else 0
    if schema.kind == ARRAY:
        return [value(random, items, depth + 1) for _ in range(count)]
    if schema.kind == MAP:
        return {name: value(random, items, depth + 1) for name in random.sample("abc", count)}
    return value(random, items, depth + 1)


def mutate(random: Random, obj: Object, schema: Schema) -> None:
    """Set one field, anywhere in the object, to a value of its type; or take it out."""
    places = [place for place in _objects(obj, schema, "") if not place[2].startswith(("kind", "apiVersion"))]
    found, shape, _ = random.choice(places)
    names = [name for name in shape.fields if name not in ("kind", "apiVersion", "metadata", "managedFields", "name")]
    if not names:
        return
    name = random.choice(names)
    if name in found and random.random() < 0.2:
        del found[name]
    else:
        found[name] = value(random, shape.fields[name].schema, 3)


def _objects(found: Any, schema: Schema, path: str) -> Iterator[tuple[Object, Schema, str]]:
    """Every object in a value, with its type and path."""
    if schema.kind == OBJECT and isinstance(found, dict):
        yield found, schema, path
        for name, inner in found.items():
            if name in schema.fields:
                yield from _objects(inner, schema.fields[name].schema, f"{path}.{name}" if path else name)
    elif schema.items is not None:
        inner_values = found if isinstance(found, list) else found.values() if isinstance(found, dict) else ()
        for inner in inner_values:
            yield from _objects(inner, schema.items, path)


MEDIA = (
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/cbor",
    "text/plain",
    "",
    "x/y; z",
)
_BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 9)) for i in range(9)
)
_HOSTILE = (
    b"",
    b"\x00",
    b"\xff\xfe{\x00}\x00",
    b"\xed\xa0\x80",
    b"null",
    b"[]",
    b'""',
    b"1e999999",
    b"-",
    b"9" * 5000,
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"{" * 1000 + b"}" * 1000,
    b"- " * 10_000,
    b"[" * 5000 + b"]" * 5000,
    _BOMB,
    b"a: &a\n  b: *a\n",
    b"<<: [1]\n",
    b"!!python/object/apply:os.system [true]\n",
    b"? [a]\n: b\n",
    b"k8s\x00\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"k8s\x00" + b"\x0a\x02\x0a\x00" * 50,
    b'[{"op":"test","path":"/' + b"a/" * 5000 + b'"}]',
    b'[{"op":"copy","from":"","path":"/metadata/labels"}]' ,
    b'[{"op":"remove","path":""}]',
    b'{"metadata":{"name":"\\ud800"}}',
    b'{"metadata":{"name":"x","labels":{"a":"\\u0000"}}}',
    b'{"metadata":{"name":1}}',
    b'{"metadata":[]}',
    b'{"kind":{},"apiVersion":[]}',
    b'{"spec":{"$patch":"replace"},"metadata":{"$retainKeys":[1]}}',
    b'{"spec":{"containers":[{"$patch":"delete"}],"$setElementOrder/containers":[{}]}}',
    b'{"spec":null,"metadata":null,"status":null}',
    b'{"metadata":{"name":"x","name":"y"}}',
    b'{"metadata":{"managedFields":[{"fieldsV1":{"k:{":{}},"manager":"\\u0000"}]}}',
    b'{"metadata":{"ownerReferences":[{}],"finalizers":["\\n"],"creationTimestamp":"never"}}',
)  # fmt: skip


def hostile(random: Random, good: bytes) -> bytes:
    """A body that no client should send: one of the known bad ones, or a good one with some bytes changed."""
    if random.random() < 0.6:
        return random.choice(_HOSTILE)
    data = bytearray(good)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(data))
        kind = random.randrange(3)
        if kind == 0:
            data[at] = random.randrange(256)
        elif kind == 1:
            del data[at : at + random.randint(1, 20)]
        else:
            data[at:at] = data[at : at + random.randint(1, 20)] * random.randint(1, 3)
        if not data:
            return b"{"
    return bytes(data)


def replaced(random: Random, obj: Object) -> bytes:
    """The object with one value of another type somewhere."""
    found = copy(obj)
    at: Any = found
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return orjson.dumps(found)
        key = random.choice(keys)
        if isinstance(at[key], (dict, list)) and random.random() < 0.8:
            at = at[key]
            continue
        at[key] = random.choice([None, True, 1, 1.5, -(2**63), 2**64 - 1, "x", [], {}, [None], {"": ""}, [[]]])
        return orjson.dumps(found)
