"""The expressions of a policy, compiled once; and what they give for one request. Pure.

The authorizer cannot be waited for in the middle of an expression: if it is asked something new, the evaluation is
given up (``Unanswered``), and done again when the answer is known.

Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.cel import uses
from tiphys.cel.environments import PER_CALL_LIMIT
from tiphys.cel.evaluator import CostExceeded, Program
from tiphys.cel.expression import Expression, Scope, Use
from tiphys.cel.library.authorizer import Answer, Question, ResourceCheck
from tiphys.cel.library.authorizer import AuthorizerValue as AuthorizerValue
from tiphys.cel.values import CelError

BUDGET, MATCH_BUDGET = 10_000_000, 2_500_000


class Unanswered(Exception):
    """The authorizer is to be asked first."""

    def __init__(self, question: Question) -> None:
        self.question = question
        super().__init__(question.verb)


class OutOfBudget(Exception):
    """No further expressions are evaluated."""


@dataclass(frozen=True, slots=True)
class CompiledText:
    text: str
    program: Program | None
    error: str = ""


def compile_expression(expression: Expression) -> CompiledText:
    """One that was stored by another server and does not compile here fails when it is used."""
    try:
        return CompiledText(expression.text, Program(uses.compile(expression)))
    except uses.UnfitExpression as wrong:
        return CompiledText(expression.text, None, f"compilation error: {wrong}")


@dataclass
class Input:
    """What the expressions of one policy see of one request."""

    object: Any
    old: Any
    request: Object
    namespace: Any
    params: Any
    resource: Question
    """The resource of the request, for ``authorizer.requestResource``."""
    answers: Mapping[Question, Answer] = field(default_factory=dict)

    def variables(self, *, with_authorizer: bool, with_namespace: bool = True) -> Object:
        values = {
            "object": self.object,
            "oldObject": self.old,
            "request": self.request,
            "namespaceObject": self.namespace if with_namespace else None,
            "params": self.params,
        }
        if with_authorizer:
            values["authorizer"] = AuthorizerValue(self._ask, Question())
            values["authorizer.requestResource"] = ResourceCheck(self._ask, self.resource)
        return values

    def _ask(self, question: Question) -> Answer:
        if question not in self.answers:
            raise Unanswered(question)
        return self.answers[question]


class Variables(Mapping[str, Any]):
    """The variables of a policy, evaluated when they are first used, at the cost of the expression that uses them."""

    def __init__(self, declared: Mapping[str, CompiledText], bindings: Object) -> None:
        self._declared, self._bindings = declared, {**bindings, "variables": self}
        self._known: dict[str, Any] = {}
        self.cost = 0

    def __getitem__(self, name: str) -> Any:
        value = self._known.get(name, self)
        if value is self:
            value = self._known[name] = self._evaluate(name)
        if isinstance(value, CelError):
            raise value
        return value

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self._declared else default

    def __iter__(self) -> Iterator[str]:
        return iter(self._declared)

    def __len__(self) -> int:
        return len(self._declared)

    def _evaluate(self, name: str) -> Any:
        declared = self._declared[name]
        if declared.program is None:
            return CelError(f"composited variable {quote(name)} fails to compile: {declared.error}")
        try:
            value, cost = declared.program.run(self._bindings, PER_CALL_LIMIT)
        except (CelError, CostExceeded) as wrong:
            return CelError(f"composited variable {quote(name)} fails to evaluate: {wrong}")
        self.cost += cost
        return value


@dataclass(frozen=True, slots=True)
class ExpressionOutcome:
    """What an expression gave, or what went wrong."""

    value: Any = None
    error: str = ""


class Evaluation:
    """Expressions evaluated one after another, with the same variables and out of one budget."""

    def __init__(self, declared: Mapping[str, CompiledText], bindings: Object, budget: int) -> None:
        self._variables = Variables(declared, bindings)
        self._bindings = {**bindings, "variables": self._variables}
        self.budget = budget

    def run(self, expression: CompiledText) -> ExpressionOutcome:
        """Raises OutOfBudget."""
        if expression.program is None:
            return ExpressionOutcome(error=expression.error)
        message = f"expression '{expression.text}' resulted in error: "
        before = self._variables.cost
        try:
            value, cost = expression.program.run(self._bindings, PER_CALL_LIMIT)
        except CelError as wrong:
            self._spend(self._variables.cost - before)
            return ExpressionOutcome(error=f"{message}{wrong}")
        except CostExceeded as wrong:
            self._spend(PER_CALL_LIMIT)
            return ExpressionOutcome(error=f"{message}{wrong}")
        self._spend(cost + self._variables.cost - before)
        return ExpressionOutcome(value)

    def _spend(self, cost: int) -> None:
        if cost > self.budget:
            raise OutOfBudget(
                "validation failed due to running out of cost budget, no further validation rules will be run"
            )
        self.budget -= cost


class PolicyExpressions:
    """What a policy has in common with all policies: parameters, variables, and its own conditions."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.has_params = spec.get("paramKind") is not None
        self.fails = spec.get("failurePolicy") != "Ignore"
        self._scope = Scope()
        self.variables = dict[str, CompiledText]()
        for variable in spec.get("variables") or ():
            name, text = variable["name"], variable["expression"]
            self.variables[name] = self.compile(text, Use.VARIABLE)
            self._scope.declare(name, text)
        self.conditions = [
            self.compile(condition["expression"], Use.MATCH_CONDITION)
            for condition in spec.get("matchConditions") or ()
        ]

    def compile(self, text: str, use: Use, *, authorizer: bool = True) -> CompiledText:
        return compile_expression(Expression(text, use, self.has_params, authorizer, stored=True, scope=self._scope))

    def evaluation(self, given: Input, budget: int = BUDGET, *, with_authorizer: bool) -> Evaluation:
        return Evaluation(self.variables, given.variables(with_authorizer=with_authorizer), budget)

    def applies(self, given: Input) -> tuple[bool, str]:
        """Whether the conditions hold; and what went wrong, if that matters."""
        if not self.conditions:
            return True, ""
        bindings = given.variables(with_authorizer=True, with_namespace=False)
        evaluation = Evaluation(self.variables, bindings, MATCH_BUDGET)
        problems = list[str]()
        for condition in self.conditions:
            try:
                outcome = evaluation.run(condition)
            except OutOfBudget as wrong:
                return False, str(wrong) if self.fails else ""
            if outcome.error:
                problems.append(outcome.error)
            if outcome.value is False:
                return False, ""
        if not problems:
            return True, ""
        message = problems[0] if len(problems) == 1 else f"[{', '.join(dict.fromkeys(problems))}]"
        return False, message if self.fails else ""
