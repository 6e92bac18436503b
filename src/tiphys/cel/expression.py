"""An expression as a field of the API holds it: its text, its purpose, and what it may refer to.

Plain data, so that validation can describe an expression without importing the compiler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum


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
