"""Whether an expression in a field of the API compiles, and gives what that field needs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from tiphys.cel import environments, instantiate, types
from tiphys.cel.cost import Estimator, Range
from tiphys.cel.environment import Compiled, CompileError, Environment
from tiphys.cel.expression import Expression, Use
from tiphys.cel.library import costs
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


class Refused(Exception):
    """The expression is not for this field; ``str`` tells why."""


class NoProgram(Refused):
    """It compiles, but cannot be run."""


class TooExpensive(Refused):
    """It could cost more than is allowed."""


def compile(expression: Expression) -> Compiled:
    """Raises Refused."""
    if expression.use is Use.DEVICE_SELECTOR:
        return _device_selector(expression.text)
    text = expression.text.strip() if expression.use is Use.AUDIT_ANNOTATION else expression.text
    compiled = _compile(environment(expression), text)
    wanted = _RESULTS.get(expression.use)
    if wanted is not None and compiled.type not in wanted:
        raise Refused(_wrong_result(wanted, compiled.type))
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
        raise Refused(f"compilation failed: {wrong}") from None


def environment(expression: Expression) -> Environment:
    """What an expression of an admission policy or a match condition may refer to."""
    use = expression.use
    patches = use in (Use.APPLY_CONFIGURATION, Use.JSON_PATCH)
    composed = expression.variables or patches or use is Use.VARIABLE
    if use is Use.MATCH_CONDITION or not composed:
        return environments.admission(expression.has_params, expression.has_authorizer, patches)
    return _composed(expression.has_params, expression.has_authorizer, patches, tuple(expression.variables))


@lru_cache(maxsize=256)
def _composed(
    has_params: bool, has_authorizer: bool, patches: bool, variables: tuple[tuple[str, str], ...]
) -> Environment:
    """With the variables declared so far; one that does not compile may be anything."""
    plain = environments.admission(has_params, has_authorizer, patches)
    known = dict[str, Type]()
    for i, (name, text) in enumerate(variables):
        try:
            compiled = _composed(has_params, True, False, variables[:i]).compile(text)
        except CompileError:
            known[name] = types.DYN
        else:
            known[name] = environments.variable_type(compiled.type)
    return environments.with_variables(plain, known)


def _device_selector(text: str) -> Compiled:
    compiled = _compile(environments.device(), text)
    if compiled.type not in (types.BOOL, types.ANY):
        raise Refused(f"must evaluate to bool or the unknown type, not {compiled.type.declared}")
    _instantiate(compiled)
    estimator = Estimator(_device_size, costs.call_cost)
    if estimator.cost(compiled.tree).high > environments.MAX_DEVICE_SELECTOR_COST:
        raise TooExpensive("too complex, exceeds cost limit")
    return compiled


def _device_size(path: list[str]) -> Range | None:
    size = environments.device_size(path)
    return None if size is None else Range(*size)
