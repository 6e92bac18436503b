"""A ValidatingAdmissionPolicy: its validations, their messages, and what goes to the audit log. Pure.

Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.apiserver.admission.policies.expressions import (
    CompiledText,
    Evaluation,
    Input,
    OutOfBudget,
    PolicyExpressions,
)
from tiphys.cel.expression import Use

_MAX_MESSAGE = 5 * 1024


@dataclass(frozen=True, slots=True)
class Denial:
    message: str
    reason: str = ""
    """Empty if the expression could not be evaluated."""
    always: bool = False
    """Whatever actions the binding wants."""


@dataclass(frozen=True, slots=True)
class _Validation:
    expression: CompiledText
    message_expression: CompiledText | None
    message: str
    reason: str


class ValidatingPolicy:
    def __init__(self, policy: Mapping[str, Any]) -> None:
        self.name = policy["metadata"]["name"]
        self.spec = policy.get("spec") or {}
        self._expressions = PolicyExpressions(self.spec)
        self._validations = [self._compile(entry) for entry in self.spec.get("validations") or ()]
        self._annotations = [
            self._expressions.compile(entry["valueExpression"], Use.AUDIT_ANNOTATION)
            for entry in self.spec.get("auditAnnotations") or ()
        ]

    @property
    def fails(self) -> bool:
        return self._expressions.fails

    def _compile(self, validation: Mapping[str, Any]) -> _Validation:
        text = validation.get("messageExpression") or ""
        return _Validation(
            self._expressions.compile(validation["expression"], Use.VALIDATION),
            self._expressions.compile(text, Use.MESSAGE, authorizer=False) if text else None,
            (validation.get("message") or "").strip(),
            validation.get("reason") or "Invalid",
        )

    def denials(self, given: Input) -> list[Denial]:
        """What the policy has against the request; raises Unanswered if the authorizer is to be asked first."""
        applies, problem = self._expressions.applies(given)
        if problem:
            return self._error(problem)
        if not applies:
            return []
        try:
            return self._validate(given) + self._annotate(given)
        except OutOfBudget as wrong:
            return self._error(str(wrong))

    def _error(self, message: str, always: bool = False) -> list[Denial]:
        return [Denial(message, always=always)] if self.fails else []

    def _validate(self, given: Input) -> list[Denial]:
        evaluation = self._expressions.evaluation(given, with_authorizer=True)
        outcomes = [evaluation.run(validation.expression) for validation in self._validations]
        messages = self._messages(given, evaluation.budget)
        denials = list[Denial]()
        for validation, outcome, message in zip(self._validations, outcomes, messages, strict=True):
            if outcome.error:
                denials += self._error(outcome.error)
            elif isinstance(message, OutOfBudget):
                denials += self._error(f"failed messageExpression: {message}")
            elif outcome.value is not True:
                text = message or validation.message or f"failed expression: {validation.expression.text.strip()}"
                denials.append(Denial(text, validation.reason))
        return denials

    def _messages(self, given: Input, budget: int) -> list[str | OutOfBudget]:
        evaluation = self._expressions.evaluation(given, with_authorizer=False, budget=budget)
        try:
            return [self._message(evaluation, validation.message_expression) for validation in self._validations]
        except OutOfBudget as wrong:
            return [wrong] * len(self._validations)

    @staticmethod
    def _message(evaluation: Evaluation, expression: CompiledText | None) -> str:
        """Empty if the expression gives nothing that can be shown."""
        value = evaluation.run(expression).value if expression is not None else None
        text = value.strip() if isinstance(value, str) else ""
        return "" if len(text.encode()) > _MAX_MESSAGE or "\n" in text else text

    def _annotate(self, given: Input) -> list[Denial]:
        """There is no audit log to annotate; but an annotation that cannot be evaluated refuses the request."""
        evaluation = self._expressions.evaluation(given, with_authorizer=False)
        denials = list[Denial]()
        for annotation in self._annotations:
            if error := evaluation.run(annotation).error:
                denials += self._error(error, always=True)
        return denials
