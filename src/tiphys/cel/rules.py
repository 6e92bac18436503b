"""The rules of a custom resource's schema (``x-kubernetes-validations``): compiled, and what they cost at most.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.cel import environments, types
from tiphys.cel.checking import instantiate
from tiphys.cel.cost import Estimator, Range
from tiphys.cel.environment import Compiled, CompileError, Environment
from tiphys.cel.library import costs
from tiphys.cel.schema.decltypes import DeclType
from tiphys.cel.schema.schematypes import MAX_REQUEST
from tiphys.cel.syntax import Ident, Select, walk

Rule = Mapping[str, Any]
SELF, OLD_SELF = "self", "oldSelf"
_SELF_TYPE = "selfType0"
"""If upstream has a number that is another one each time."""


@dataclass(slots=True)
class CompiledRule:
    """A rule and its message; the texts say what is wrong with them, and are empty if nothing is."""

    rule: Compiled | None = None
    error: str = ""
    cost: int = 0
    uses_old_self: bool = False
    message: Compiled | None = None
    message_error: str = ""
    message_cost: int = 0


class Scope:
    """A place in a schema: what ``self`` is there."""

    def __init__(self, decl: DeclType) -> None:
        self.decl = decl
        self.self_type = decl.named(_SELF_TYPE)
        self.max_count = MAX_REQUEST // (decl.min_size + 1)
        """How many such values one request can hold."""

    def environment(self, *, optional_old_self: bool) -> Environment:
        type = self.self_type.type
        variables = {SELF: type, OLD_SELF: types.optional(type) if optional_old_self else type}
        return environments.base().extend(variables, (self.self_type,))

    def compile(self, rule: Rule) -> CompiledRule:
        """Rule and message expression, the latter only if the rule compiles."""
        compiled_rule = CompiledRule()
        text = rule.get("rule") or ""
        if not text.strip():
            return compiled_rule
        environment = self.environment(optional_old_self=bool(rule.get("optionalOldSelf")))
        try:
            compiled = environment.compile(text)
        except CompileError as problem:
            compiled_rule.error = f"compilation failed: {problem}"
            return compiled_rule
        if compiled.type is not types.BOOL:
            compiled_rule.error = "cel expression must evaluate to a bool"
            return compiled_rule
        if wrong := instantiate.problem(compiled):
            compiled_rule.error = f"program instantiation failed: {wrong}"
            return compiled_rule
        compiled_rule.rule, compiled_rule.cost = compiled, self.cost(compiled)
        compiled_rule.uses_old_self = _mentions(compiled, OLD_SELF)
        self._message(compiled_rule, environment, rule.get("messageExpression") or "")
        return compiled_rule

    def _message(self, rule: CompiledRule, environment: Environment, text: str) -> None:
        if not text:
            return
        try:
            compiled = environment.compile(text)
        except CompileError as problem:
            rule.message_error = f"messageExpression compilation failed: {problem}"
            return
        if compiled.type is not types.STRING:
            rule.message_error = "messageExpression must evaluate to a string"
            return
        if wrong := instantiate.problem(compiled):
            rule.message_error = f"messageExpression instantiation failed: {wrong}"
            return
        rule.message, rule.message_cost = compiled, self.cost(compiled)

    def cost(self, compiled: Compiled) -> int:
        return Estimator(self._size_of, costs.call_cost).cost(compiled.tree).high

    def _size_of(self, path: list[str]) -> Range | None:
        part = self.decl.at(path[1:])
        return None if part is None else Range(0, part.max_elements % 2**64)


def _mentions(compiled: Compiled, name: str) -> bool:
    return any(
        (isinstance(node, Ident) and node.name == name) or (isinstance(node, Select) and node.resolved == name)
        for node in walk(compiled.tree)
    )
