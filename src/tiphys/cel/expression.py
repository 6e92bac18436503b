"""An expression as a field of the API holds it: its text, its purpose, and what it may refer to.

Plain data, so that validation can describe an expression without importing the compiler.

Source: https://kubernetes.io/docs/reference/using-api/cel/
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


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


@dataclass(eq=False, slots=True)
class Scope:
    """The variables that a policy has declared so far, name and expression of each; it grows with every declaration.

    The compiler keeps here what it knows of them, so that each is compiled once however many expressions follow.
    """

    declared: list[tuple[str, str]] = field(default_factory=list)
    known: dict[str, Any] = field(default_factory=dict, repr=False)
    environments: dict[Any, Any] = field(default_factory=dict, repr=False)
    settled: int = 0
    """How many of the declared ones are known."""

    def declare(self, name: str, text: str) -> None:
        self.declared.append((name, text))


@dataclass(frozen=True, slots=True)
class Expression:
    text: str
    use: Use
    has_params: bool = False
    has_authorizer: bool = True
    stored: bool = False
    """It was stored before: what an older server compiled is accepted."""
    scope: Scope | None = None
    """What is declared before it; absent if the policy has no variables."""
