"""What expressions give, and which errors; the logical operators absorb those that do not matter."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.cel import environments, types
from tiphys.cel.evaluator import CostExceeded, Program
from tiphys.cel.values import CelError

OBJECT: dict[str, Any] = {
    "metadata": {"name": "web", "labels": {"app": "web", "tier": "front"}},
    "spec": {"replicas": 3, "ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}], "ratio": 0.5},
    "none": None,
}
ENVIRONMENT = environments.base().extend({"object": types.DYN, "x": types.INT, "s": types.STRING})


def run(text: str, limit: int = 10**9) -> Any:
    program = Program(ENVIRONMENT.compile(text))
    return program.run({"object": OBJECT, "x": 7, "s": "abc"}, limit)[0]


@pytest.mark.parametrize(
    "text",
    [
        "x + 1 == 8 && x - 8 == -1 && x * 2 == 14 && x / 2 == 3 && -x / 2 == -3 && x % 4 == 3 && -x % 4 == -3",
        "dyn(1) == 1.0 && dyn(1u) == 1 && dyn(2) > 1.5 && 3u > dyn(2)",
        "dyn(true) != 1 && dyn('1') != 1",
        "object.spec.replicas == 3 && object['spec']['replicas'] == 3",
        "has(object.spec.replicas) && !has(object.spec.nope) && has(object.none)",
        "object.?spec.?nope.orValue('x') == 'x' && object.spec[?'replicas'].value() == 3",
        "object.?nope.?deeper.?still.hasValue() == false",
        "object.spec.ports.all(p, p.port > 0) && object.spec.ports.exists(p, p.name == 'http')",
        "object.spec.ports.exists_one(p, p.port == 80)",
        "object.spec.ports.map(p, p.port) == [80, 443]",
        "object.spec.ports.map(p, p.port > 100, p.name) == ['https']",
        "object.spec.ports.filter(p, p.port > 100).size() == 1",
        "object.metadata.labels.all(k, object.metadata.labels[k] != '')",
        "object.metadata.labels.transformMap(k, v, v + k) == {'app': 'webapp', 'tier': 'fronttier'}",
        "object.spec.ports.transformList(i, p, i + p.port) == [80, 444]",
        "[1, 2, 3].map(i, [1, 2].map(j, i * j)) == [[1, 2], [2, 4], [3, 6]]",
        "[3, 1, 2].sort() == [1, 2, 3] && [3, 1, 2].sortBy(i, -i) == [3, 2, 1]",
        "[1, 2, 3, 4].slice(1, 3) == [2, 3] && [[1], [2, 3]].flatten() == [1, 2, 3] && [1, 1, 2].distinct() == [1, 2]",
        "[1, 2, 3].sum() == 6 && [1, 3, 2].max() == 3 && ['b', 'a'].min() == 'a' && [1, 2].isSorted()",
        "sets.contains([1, 2, 3], [3, 1]) && sets.intersects([1], [1, 2]) && sets.equivalent([1, 1], [1])",
        "optional.of(1).optMap(i, i + 1).value() == 2 && !optional.none().hasValue()",
        "'%s is %d, %.2f, %e and %x'.format(['a', 1, 1234.5, 1234.5, 255]).startsWith('a is 1, 1,234.50, ')",
        "'%s'.format([[1, 'a', 1.5, {'k': true}]]) == '[1, \"a\", 1.500000, {\"k\":true}]'",
        "'a,b,c'.split(',') == ['a', 'b', 'c'] && ['a', 'b'].join('-') == 'a-b' && ' a '.trim() == 'a'",
        "'hello'.substring(1, 3) == 'el' && 'hello'.indexOf('l') == 2 && 'hello'.lastIndexOf('l') == 3",
        "s.matches('^a.c$') && 'abc 123'.find('[0-9]+') == '123' && 'a1b2'.findAll('[0-9]') == ['1', '2']",
        "timestamp('2024-02-29T12:30:00Z').getDayOfMonth() == 28",
        "timestamp('2024-01-01T00:00:00Z') + duration('36h') == timestamp('2024-01-02T12:00:00Z')",
        "timestamp('2024-01-01T00:00:00Z').getHours('+02:00') == 2 && duration('90m').getHours() == 1",
        "string(duration('1h1.5s')) == '3601.5s'",
        "string(timestamp('2024-01-01T00:00:00.5Z')) == '2024-01-01T00:00:00.5Z'",
        "string(123456.5) == '123456.5' && '%.1e'.format([123456.0]) == '1.234560×10⁰⁵'",
        "url('https://a/b?x=3#f').getQuery() == {'x': ['3']} && !isURL('http://%zz/')",
        "string(1.5) == '1.5' && string(1e100) == '1e+100' && string(1234567.5) == '1.2345675e+06'",
        "string(b'abc') == 'abc' && int('12') == 12",
        "quantity('1.5Gi').isGreaterThan(quantity('1G')) && quantity('1k').add(1).asInteger() == 1001",
        "ip('10.0.0.1').family() == 4 && cidr('10.0.0.0/8').containsIP('10.1.2.3') && !isIP('10.0.0')",
        "url('https://example.com:8080/a?b=c').getPort() == '8080' && isURL('/path') && !isURL('no path')",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && isSemver('v1', true) && !isSemver('v1')",
        "format.dns1123Label().validate('Not_valid').hasValue() && !format.dns1123Label().validate('valid').hasValue()",
        "type(x) == int && type(object) == map && type([]) == list && type(null) == null_type",
        "false && object.nope || true || object.nope",
        "object.spec.ports.exists(p, p.nope == 1 || p.port == 80)",
    ],
)
def test_holds(text: str) -> None:
    assert run(text) is True


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("object.nope", "no such key: nope"),
        ("object.spec.ports[5]", "index out of bounds: 5"),
        ("object.spec.ports['a']", "unsupported index type 'string' in list"),
        ("object.metadata.name.x", "no such key: x"),
        ("x / 0", "division by zero"),
        ("x % 0", "modulus by zero"),
        ("9223372036854775807 + x", "integer overflow"),
        ("0u - 1u", "unsigned integer overflow"),
        ("int(s)", "type conversion error from 'string' to 'int'"),
        ("dyn(s) + 1", "no such overload"),
        ("dyn(true) + 1", "no such overload: _+_"),
        ("dyn(x).startsWith('a')", "no such overload"),
        ("dyn(x).size()", "no such overload: size"),
        ("dyn(x).lowerAscii()", "no such overload: lowerAscii(int)"),
        ("optional.none().value()", "optional.none() dereference"),
        ("[].max()", None),
        ("s.substring(9)", "index out of range: 9"),
        ("s.matches(s + '(')", "error parsing regexp: missing closing ): `abc(`"),
        (
            "quantity('x')",
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        ("object.nope || object.nope2", "no such key: nope"),
        ("object.spec.ports.all(p, p.nope == 1)", "no such key: nope"),
        ("object.spec.ports.map(p, p.nope)", "no such key: nope"),
    ],
)
def test_errors(text: str, told: str | None) -> None:
    if told is None:
        with pytest.raises(CelError, match="called on empty list"):
            run("[1].filter(i, i > 1).max()")
        return
    with pytest.raises(CelError) as caught:
        run(text)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("text", "cost"),
    [
        ("1 == 1", 1),
        ("x", 1),
        ("object.spec.replicas", 3),
        ("object.spec.ports[0].port", 5),
        ("has(object.spec.replicas)", 2),
        ("s == 'abcdefghijklmnop'", 2),
        ("s + 'abcdefghijklmnop' == s", 5),
        ("[1, 2, 3].all(i, i > 0)", 16),
        ("[1, 2, 3].map(i, i * 2)", 43),
        ("x > 5 ? object.spec : object", 3),
        ("s.contains('b')", 2),
        ("authorizer.group('').resource('pods').check('get').allowed()", 350004),
    ],
)
def test_cost_of_a_run(text: str, cost: int) -> None:
    from tiphys.cel.checking.declarations import AUTHORIZER
    from tiphys.cel.library.authorizer import Answer, AuthorizerValue, Question

    wider = ENVIRONMENT.extend({"authorizer": AUTHORIZER})
    variables = {
        "object": OBJECT,
        "x": 7,
        "s": "abc",
        "authorizer": AuthorizerValue(lambda _: Answer(allowed=True), Question()),
    }
    assert Program(wider.compile(text)).run(variables)[1] == cost


def test_a_run_is_cancelled_that_costs_too_much() -> None:
    with pytest.raises(CostExceeded, match="operation cancelled: actual cost limit exceeded"):
        run("lists.range(1000).all(i, i >= 0) || true", limit=100)
