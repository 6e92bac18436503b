"""The seam to CEL: what is checked of an expression beyond that it is there.

The compiler is imported when the first expression is met: a server that sees none never pays for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from tiphys.api import fielderrors
from tiphys.api.validation.common import Errors


class Use(Enum):
    """What an expression is for; it decides about its variables and about the type of its result.

    Rules of custom resources are not among them: see ``apiextensions.rules``.
    """

    MATCH_CONDITION = "matchCondition"
    VALIDATION = "validation"
    MESSAGE = "messageExpression"
    AUDIT_ANNOTATION = "auditAnnotation"
    VARIABLE = "variable"
    APPLY_CONFIGURATION = "applyConfiguration"
    JSON_PATCH = "jsonPatch"
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


def check(errs: Errors, expression: Expression, path: str) -> None:
    from tiphys.api.cel import uses

    try:
        uses.compile(expression)
    except uses.TooExpensive as wrong:
        errs.append(fielderrors.forbidden(path, str(wrong)))
    except uses.NoProgram as wrong:
        errs.append(fielderrors.internal(path, str(wrong)))
    except uses.Refused as wrong:
        errs.append(fielderrors.invalid(path, expression.text, str(wrong)))
