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
from tiphys.cel.values import type_of

_MAX_MESSAGE = 5 * 1024
_MAX_ANNOTATION = 10 * 1024


@dataclass(frozen=True, slots=True)
class Denial:
    message: str
    reason: str = ""
    """Empty if the expression could not be evaluated."""
    always: bool = False
    """Whatever actions the binding wants."""
    index: int = 0
    """That of the expression among the policy's validations."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """``annotations`` are for the audit log, by key."""

    denials: list[Denial]
    annotations: dict[str, str]


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
            (entry["key"], self._expressions.compile(entry["valueExpression"], Use.AUDIT_ANNOTATION))
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

    def judge(self, given: Input) -> Judgement:
        """What the policy says of the request; raises Unanswered if the authorizer is to be asked first."""
        annotations: dict[str, str] = {}
        return Judgement(self._denials(given, annotations), annotations)

    def _denials(self, given: Input, annotations: dict[str, str]) -> list[Denial]:
        applies, problem = self._expressions.applies(given)
        if problem:
            return self._error(problem)
        if not applies:
            return []
        try:
            return self._validate(given) + self._annotate(given, annotations)
        except OutOfBudget as wrong:
            return self._error(str(wrong))

    def _error(self, message: str, index: int = 0, *, always: bool = False) -> list[Denial]:
        return [Denial(message, always=always, index=index)] if self.fails else []

    def _validate(self, given: Input) -> list[Denial]:
        evaluation = self._expressions.evaluation(given, with_authorizer=True)
        outcomes = [evaluation.run(validation.expression) for validation in self._validations]
        messages = self._messages(given, evaluation.budget)
        denials = list[Denial]()
        judged = zip(self._validations, outcomes, messages, strict=True)
        for index, (validation, outcome, message) in enumerate(judged):
            if outcome.error:
                denials += self._error(outcome.error, index=index)
            elif isinstance(message, OutOfBudget):
                denials += self._error(f"failed messageExpression: {message}", index=index)
            elif outcome.value is not True:
                text = message or validation.message or f"failed expression: {validation.expression.text.strip()}"
                denials.append(Denial(text, validation.reason, index=index))
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

    def _annotate(self, given: Input, annotations: dict[str, str]) -> list[Denial]:
        """Fill in the audit annotations; one that cannot be evaluated refuses the request."""
        evaluation = self._expressions.evaluation(given, with_authorizer=False)
        denials = list[Denial]()
        for key, expression in self._annotations:
            outcome = evaluation.run(expression)
            if outcome.error:
                denials += self._error(outcome.error, always=True)
            elif isinstance(outcome.value, str):
                if value := outcome.value.strip():
                    annotations[key] = value.encode()[:_MAX_ANNOTATION].decode(errors="ignore")
            elif outcome.value is not None:
                kind = type_of(outcome.value)
                message = f"valueExpression '{expression.text}' resulted in unsupported return type: {kind}."
                denials.append(Denial(f"{message} Return type must be either string or null.", always=True))
        return denials
