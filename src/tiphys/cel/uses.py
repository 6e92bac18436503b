"""Whether an expression in a field of the API compiles, and gives what that field needs.

Source: https://kubernetes.io/docs/reference/using-api/cel/
"""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.cel import environments, types
from tiphys.cel.checking import instantiate
from tiphys.cel.cost import Estimator, Range
from tiphys.cel.environment import Compiled, CompileError, Environment
from tiphys.cel.expression import Expression, Scope, Use
from tiphys.cel.library import costs
from tiphys.cel.schema.decltypes import DeclType
from tiphys.cel.types import Type

_PATCH = types.struct("JSONPatch")
_RESULTS: dict[Use, tuple[Type, ...]] = {
    Use.MATCH_CONDITION: (types.BOOL,),
    Use.VALIDATION: (types.BOOL,),
    Use.MESSAGE: (types.STRING,),
    Use.AUDIT_ANNOTATION: (types.STRING, types.NULL),
    Use.APPLY_CONFIGURATION: (types.struct("Object"),),
    Use.JSON_PATCH: (types.list_of(_PATCH),),
}
"""What the uses may give; a variable may be anything."""


class UnfitExpression(Exception):
    """The expression is not for this field; ``str`` says why."""


class NoProgram(UnfitExpression):
    """It compiles, but cannot be run."""


class TooExpensive(UnfitExpression):
    """It could cost more than is allowed."""


def compile(expression: Expression) -> Compiled:
    """Raises Refused."""
    if expression.use is Use.DEVICE_SELECTOR:
        return _device_selector(expression.text)
    text = expression.text.strip() if expression.use is Use.AUDIT_ANNOTATION else expression.text
    return compile_in(environment(expression), text, _RESULTS.get(expression.use))


def compile_in(environment: Environment, text: str, wanted: Sequence[Type] | None) -> Compiled:
    """``wanted`` are the types that it may give; None for any. Raises ``UnfitExpression``."""
    compiled = _compile(environment, text)
    if wanted is not None and compiled.type not in wanted:
        raise UnfitExpression(_wrong_result(wanted, compiled.type))
    _instantiate(compiled)
    return compiled


def _instantiate(compiled: Compiled) -> None:
    if wrong := instantiate.problem(compiled):
        raise NoProgram(f"program instantiation failed: {wrong}")


def _wrong_result(wanted: Sequence[Type], got: Type) -> str:
    if len(wanted) == 1:
        return f"must evaluate to {wanted[0].declared} but got {got.declared}"
    return f"must evaluate to one of [{' '.join(type.declared for type in wanted)}] but got {got.declared}"


def _compile(environment: Environment, text: str) -> Compiled:
    try:
        return environment.compile(text)
    except CompileError as wrong:
        raise UnfitExpression(f"compilation failed: {wrong}") from None


def environment(expression: Expression) -> Environment:
    """What an expression of an admission policy or a match condition may refer to."""
    use = expression.use
    patches = use in (Use.APPLY_CONFIGURATION, Use.JSON_PATCH)
    scope = expression.scope
    composed = (scope is not None and scope.declared) or patches or use is Use.VARIABLE
    if use is Use.MATCH_CONDITION or not composed:
        return environments.admission(
            has_params=expression.has_params, has_authorizer=expression.has_authorizer, patches=patches
        )
    scope = scope if scope is not None else Scope()
    _settle(scope, has_params=expression.has_params)
    return _composed(scope, has_params=expression.has_params, has_authorizer=expression.has_authorizer, patches=patches)


def _settle(scope: Scope, *, has_params: bool) -> None:
    """Find the types of the variables that were declared since; one that does not compile may be anything."""
    for name, text in scope.declared[scope.settled :]:
        try:
            compiled = _composed(scope, has_params=has_params, has_authorizer=True, patches=False).compile(text)
        except CompileError:
            type = types.DYN
        else:
            type = environments.variable_type(compiled.type)
        scope.known[name] = DeclType("variable", type)
        scope.settled += 1


def _composed(scope: Scope, *, has_params: bool, has_authorizer: bool, patches: bool) -> Environment:
    """With the variables that are known by now; it learns of later ones as the scope grows."""
    key = (has_params, has_authorizer, patches)
    composed: Environment | None = scope.environments.get(key)
    if composed is None:
        plain = environments.admission(has_params=has_params, has_authorizer=has_authorizer, patches=patches)
        composed = scope.environments[key] = environments.with_variables(plain, scope.known)
    return composed


def _device_selector(text: str) -> Compiled:
    compiled = _compile(environments.device(), text)
    if compiled.type not in (types.BOOL, types.ANY):
        raise UnfitExpression(f"must evaluate to bool or the unknown type, not {compiled.type.declared}")
    _instantiate(compiled)
    estimator = Estimator(_device_size, costs.call_cost)
    if estimator.cost(compiled.tree).high > environments.MAX_DEVICE_SELECTOR_COST:
        raise TooExpensive("too complex, exceeds cost limit")
    return compiled


def _device_size(path: list[str]) -> Range | None:
    size = environments.device_size(path)
    return None if size is None else Range(*size)
