"""The seam to the CEL compiler: what is checked of an expression beyond that it is there.

The server's start sets the compiler with ``use_compiler``; until then every expression passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tiphys.api import fielderrors
from tiphys.api.validation.common import Errors


class Use(Enum):
    """What an expression is for; it decides about its variables and about the type of its result."""

    MATCH_CONDITION = "matchCondition"
    VALIDATION = "validation"
    MESSAGE = "messageExpression"
    AUDIT_ANNOTATION = "auditAnnotation"
    VARIABLE = "variable"
    APPLY_CONFIGURATION = "applyConfiguration"
    JSON_PATCH = "jsonPatch"
    SCHEMA_RULE = "schemaRule"
    SCHEMA_MESSAGE = "schemaMessage"
    DEVICE_SELECTOR = "deviceSelector"


@dataclass(frozen=True, slots=True)
class Expression:
    text: str
    use: Use
    has_params: bool = False
    has_authorizer: bool = True
    stored: bool = False
    """It was stored before: what an older server compiled is accepted."""
    variables: Sequence[tuple[str, str]] = field(default_factory=tuple)
    """Name and expression of the variables declared before it."""
    schema: Any = None
    """The structural schema of ``self``, for rules in a schema."""


Compiler = Callable[[Expression], str]
"""Gives what is wrong with the expression; empty where it compiles."""


Evaluator = Callable[[dict[str, Any], "dict[str, Any] | None", dict[str, Any]], Errors]
"""Gives what the rules of a schema find wrong with a custom resource: the new one, the old one, the schema."""


class _Seam:
    compiler: Compiler | None = None
    evaluator: Evaluator | None = None


def use_compiler(compiler: Compiler | None) -> None:
    _Seam.compiler = compiler


def use_evaluator(evaluator: Evaluator | None) -> None:
    _Seam.evaluator = evaluator


def validate_rules(obj: dict[str, Any], old: dict[str, Any] | None, schema: dict[str, Any]) -> Errors:
    """Check ``x-kubernetes-validations`` everywhere in the schema of a custom resource."""
    return [] if _Seam.evaluator is None else _Seam.evaluator(obj, old, schema)


def check(errs: Errors, expression: Expression, path: str, shown: Any = None) -> None:
    """``shown`` is the value that an error tells, where it is not the expression itself."""
    if _Seam.compiler is not None and (problem := _Seam.compiler(expression)):
        errs.append(fielderrors.invalid(path, expression.text if shown is None else shown, problem))
