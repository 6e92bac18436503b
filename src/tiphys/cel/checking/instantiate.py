"""What a program cannot be made for, though it compiles: constants are computed when it is made.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

from typing import Any

from tiphys.cel.calls import bind
from tiphys.cel.checking import validators
from tiphys.cel.environment import Compiled, Environment
from tiphys.cel.syntax import Call, Literal, Node
from tiphys.cel.values import CelError

_CONVERSIONS = frozenset(
    ("bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"),
)


def problem(compiled: Compiled) -> str:
    """A literal that is no pattern or cannot be converted, as a message; empty if every literal is fine."""
    return validators.first_bad_pattern(compiled.tree) or _first_bad_conversion(compiled, compiled.tree)


def _first_bad_conversion(compiled: Compiled, node: Node) -> str:
    for child in node.children():
        if problem := _first_bad_conversion(compiled, child):
            return problem
    if not _is_constant(node) or isinstance(node, Literal):
        return ""
    try:
        _value(node, compiled.environment)
    except CelError as wrong:
        return str(wrong)
    return ""


def _value(node: Node, environment: Environment) -> Any:
    if isinstance(node, Call):
        overloads = [environment.overloads[id] for id in node.overloads]
        return bind(node.function, overloads)(_value(node.args[0], environment))
    return node.value if isinstance(node, Literal) else None


def _is_constant(node: Node) -> bool:
    if isinstance(node, Call):
        return (
            node.function in _CONVERSIONS and node.target is None and len(node.args) == 1 and _is_constant(node.args[0])
        )
    return isinstance(node, Literal)
