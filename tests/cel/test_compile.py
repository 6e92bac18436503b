"""What compiles, to which type; and what is told of what does not, at which column."""

from __future__ import annotations

import pytest

from tiphys.cel import environments
from tiphys.cel.environment import CompileError

OPERAND = (
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}"
)


def compile(text: str) -> str:
    """The type of an expression of an admission policy."""
    return environments.admission(has_params=True, has_authorizer=True, patches=True).compile(text).type.declared


def problems(text: str) -> list[str]:
    """``column message`` of each problem, without the lines of the source."""
    with pytest.raises(CompileError) as caught:
        compile(text)
    lines = [line for line in str(caught.value).split("\n") if line.startswith("ERROR: ")]
    return [line.split(":", 3)[3].replace(":", "", 1) for line in lines]


def test_nothing_at_all_is_told_before_the_first_column() -> None:
    assert problems("") == [f"0 Syntax error: mismatched input '<EOF>' expecting {OPERAND}"]
    assert problems(" ") == [f"2 Syntax error: mismatched input '<EOF>' expecting {OPERAND}"]


@pytest.mark.parametrize(
    ("text", "type"),
    [
        ("object.spec.replicas > 5", "bool"),
        ("1 + 2 * 3", "int"),
        ("object.x", "dyn"),
        ("[1, 2].map(x, string(x))", "list(string)"),
        ("{'a': 1}.transformMap(k, v, v + 1)", "map(string, int)"),
        ("request.userInfo.groups[?0]", "optional_type(string)"),
        ("object.?spec.?replicas.orValue(1)", "dyn"),
        ("request.namespace", "string"),
        ("namespaceObject.metadata.creationTimestamp", "google.protobuf.Timestamp"),
        ("type(1)", "type(int)"),
        ("authorizer.requestResource.check('get').allowed()", "bool"),
        ("quantity('1').add(2)", "kubernetes.Quantity"),
        ("cidr('10.0.0.0/8').ip()", "net.IP"),
        ("Object.spec{replicas: 1}", "Object.spec"),
        ("[JSONPatch{op: 'add', path: '/a', value: 1}]", "list(JSONPatch)"),
        ("[3, 1].sortBy(x, -x)", "list(int)"),
        ("optional.of(1).optMap(x, x > 0)", "optional_type(bool)"),
        ("--1", "int"),
        ("-1 < 1u", "bool"),
        ("true // with a comment", "bool"),
    ],
)
def test_types(text: str, type: str) -> None:
    assert compile(text) == type


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nope", ["1 undeclared reference to 'nope' (in container '')"]),
        ("request.nope", ["8 undefined field 'nope'"]),
        ("request.name.x", ["13 type 'string' does not support field selection"]),
        ("request.name + 1", ["14 found no matching overload for '_+_' applied to '(string, int)'"]),
        ("1.size()", ["7 found no matching overload for 'size' applied to 'int.()'"]),
        ("'a'.nope()", ["9 undeclared reference to 'nope' (in container '')"]),
        ("1 && 'a'", ["1 expected type 'bool' but found 'int'", "6 expected type 'bool' but found 'string'"]),
        ("[1, 'a']", ["5 expected type 'int' but found 'string'"]),
        ("{1: 2, 'a': 3}", ["8 expected type 'int' but found 'string'"]),
        (
            "1.all(x, x)",
            ["1 expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)"],
        ),
        ("object.all(1, true)", ["12 argument must be a simple name"]),
        ("object.map(1, 1)", ["12 argument is not an identifier"]),
        ("object.all(x, x, true)", ["15 duplicate variable name: x"]),
        ("has(object)", ["5 invalid argument to has() macro"]),
        ("Nope{a: 1}", ["5 undeclared reference to 'Nope' (in container '')"]),
        ("JSONPatch{nope: 1}", ["15 expected type of field 'nope' is '' but provided type is 'int'"]),
        ("JSONPatch{op: 1}", ["13 expected type of field 'op' is 'string' but provided type is 'int'"]),
        ("cel.bind(x, 1, x)", ["1 undeclared reference to 'cel' (in container '')"]),
        ("for == 1", ["1 reserved identifier: for"]),
        ("9223372036854775808", ["1 invalid int literal"]),
        ("object.`a-b`", ["8 unsupported syntax: '`'"]),
        ("'\\ud800'", ["1 invalid unicode code point"]),
        ("'a'.matches('(')", ["13 invalid matches argument"]),
        ("duration('1d')", ["10 invalid duration argument"]),
        ("timestamp('2020')", ["11 invalid timestamp argument"]),
        (
            "'%d'.format(['x'])",
            ["14 error during formatting: decimal clause can only be used on integers, was given string"],
        ),
        ("'%s'.format([1, 2])", ["12 too many arguments supplied to string.format (expected 1, got 2)"]),
        ("'%s %s'.format([1])", ["15 index 1 out of range"]),
    ],
)
def test_what_is_wrong(text: str, told: list[str]) -> None:
    found = problems(text)
    assert found[: len(told)] == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 +", [f"4 Syntax error: mismatched input '<EOF>' expecting {OPERAND}"]),
        ("+ 1", [f"1 Syntax error: extraneous input '+' expecting {OPERAND}"]),
        ("a b", ["3 Syntax error: extraneous input 'b' expecting <EOF>"]),
        ("a b c", ["3 Syntax error: mismatched input 'b' expecting <EOF>"]),
        ("(a", ["3 Syntax error: missing ')' at '<EOF>'"]),
        ("a)", ["2 Syntax error: extraneous input ')' expecting <EOF>"]),
        ("[1, 2", ["6 Syntax error: mismatched input '<EOF>' expecting {']', ','}"]),
        ("{1 2}", ["4 Syntax error: missing ':' at '2'"]),
        ("a.", ["3 Syntax error: no viable alternative at input '.'"]),
        ("a.true", ["3 Syntax error: mismatched input 'true' expecting IDENTIFIER"]),
        ("-!a", ["2 Syntax error: no viable alternative at input '-!'"]),
        ("a ? b", ["6 Syntax error: mismatched input '<EOF>' expecting ':'"]),
        (
            "a.?",
            [
                "4 Syntax error: mismatched input '<EOF>' expecting {IDENTIFIER, ESC_IDENTIFIER}",
                "4 unsupported ident kind",
            ],
        ),
        (
            "a & b",
            [
                "3 Syntax error: token recognition error at: '& '",
                "5 Syntax error: extraneous input 'b' expecting <EOF>",
            ],
        ),
        (
            "'abc",
            [
                "1 Syntax error: token recognition error at: ''abc'",
                f"5 Syntax error: mismatched input '<EOF>' expecting {OPERAND}",
            ],
        ),
        (
            "let x = 1",
            [
                "1 reserved identifier: let",
                "5 Syntax error: mismatched input 'x' expecting <EOF>",
                "7 Syntax error: token recognition error at: '= '",
            ],
        ),
    ],
)
def test_what_is_no_expression(text: str, told: list[str]) -> None:
    assert problems(text) == told


def test_the_line_is_shown_with_a_mark() -> None:
    with pytest.raises(CompileError) as caught:
        compile("true &&\n\t'日本' == nope")
    assert str(caught.value) == (
        "ERROR: <input>:2:10: undeclared reference to 'nope' (in container '')\n"
        " |  '日本' == nope\n"
        " | ..\N{FULLWIDTH FULL STOP}\N{FULLWIDTH FULL STOP}.....^"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("(" * 250 + "1" + ")" * 250, "expression recursion limit exceeded: 250"),
        ("object" + ".b" * 251, "max recursion depth exceeded"),
        ("1" + " + 1" * 251, "max recursion depth exceeded"),
    ],
)
def test_depth_is_bounded(text: str, told: str) -> None:
    with pytest.raises(CompileError) as caught:
        compile(text)
    assert str(caught.value) == f"ERROR: <input>:-1:0: {told}"


def test_as_deep_as_is_allowed() -> None:
    assert compile("(" * 249 + "1" + ")" * 249) == "int"
    assert compile("object" + ".b" * 250) == "dyn"


def test_size_is_bounded() -> None:
    with pytest.raises(CompileError, match="expression code point size exceeds limit: size: 100001, limit 100000"):
        compile("1" * 100_001)


def test_device_selectors_bind_names() -> None:
    text = "cel.bind(a, device.attributes['x.example.com'], a.size == 'large')"
    assert environments.device().compile(text).type.declared == "bool"
