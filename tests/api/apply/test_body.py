"""The body of an apply: JSON is read as such if YAML would read the same, and by YAML if not."""

from __future__ import annotations

import tracemalloc
from random import Random
from typing import Any

import orjson
import pytest

from tiphys.api.apply import body as bodies
from tiphys.api.apply.body import read_applied, read_plain

PADDING = "x" * 20_000


def by_yaml(body: bytes, monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(bodies, "read_plain", lambda _: None)
        return read_applied(body)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ('{"b":1,"a":{"d":null,"c":[true,"x"]}}', True),
        ('{"a":"é 日本 \\\\ \\" \\n \\t yes 1.0 0x1f ~ <<"}', True),
        ('{"<<":{"a":1},"yes":"no","1":"2"}', True),
        ('{"a":18446744073709551615,"b":-9223372036854775808,"c":0}', True),
        ('{"a":1,"a":2}', False),
        ('{"a": 1}', False),
        ('{"a":1.0,"b":1e3}', False),
        ('{"a":"\\u003cb\\u003e"}', False),
        ('{"a":"\x7f"}', False),
        ('{"a":"\u0085\u2028"}', False),
        ("[1]", False),
        ("a: 1", False),
        ("[" * 300 + "]" * 300, False),
        ('{"a":' * 160 + "{}" + "}" * 160, False),
        ('{"' + "k" * 1500 + '":1}', False),
    ],
)
def test_json_is_read_as_yaml_would(text: str, plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    body = text.encode()
    value = read_plain(body)
    assert (value is not None) is plain
    if plain:
        expected, repeated = by_yaml(body, monkeypatch)
        assert orjson.dumps(value) == orjson.dumps(expected)
        assert repeated == []


def random_value(rng: Random, depth: int) -> Any:
    kinds = "sin" if depth > 4 else "sindl"
    match rng.choice(kinds):
        case "s":
            return "".join(rng.choices("ab :#-{}[],&*!|>'\"%@`\n\t\\/0123é\u4e00\U0001f600~", k=rng.randint(0, 12)))
        case "i":
            return rng.choice([0, 1, -7, 2**40, True, False])
        case "d":
            return {str(random_value(rng, 9)): random_value(rng, depth + 1) for _ in range(rng.randint(0, 4))}
        case "l":
            return [random_value(rng, depth + 1) for _ in range(rng.randint(0, 4))]
    return None


@pytest.mark.parametrize("seed", range(150))
def test_random_objects_are_the_same_by_both(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    body = orjson.dumps({"metadata": random_value(Random(seed), 0), "padding": PADDING})
    value = read_plain(body)
    assert value is not None
    assert orjson.dumps(value) == orjson.dumps(by_yaml(body, monkeypatch)[0])


def test_repeated_keys_of_a_large_body_are_found() -> None:
    value, repeated = read_applied(f'{{"a":1,\n"a":2,"b":"{PADDING}"}}'.encode())
    assert value["a"] == 2
    assert repeated == ['line 2: key "a" already set in map']


def test_ten_thousand_owners_need_little_memory() -> None:
    owners = [{"apiVersion": "v1", "kind": "Pod", "name": f"p{i}", "uid": f"u{i}"} for i in range(10_000)]
    body = orjson.dumps({"metadata": {"name": "c", "ownerReferences": owners}})
    tracemalloc.start()
    read_applied(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 14 << 20
