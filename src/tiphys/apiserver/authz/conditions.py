"""Match conditions of authorization webhooks: expressions about the review, all of which have to hold. Pure.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/#using-configuration-file-for-authorization
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tiphys.api import fielderrors
from tiphys.api.fielderrors import FieldError, aggregate
from tiphys.api.object import Object

_MOST = 64


class ConditionFailed(Exception):
    """A condition cannot be evaluated, and none says no."""


class MatchConditions:
    def __init__(self, texts: Sequence[str]) -> None:
        """Raises ``UnfitExpression``."""
        from tiphys.cel.accessenvironments import BOOL, compile_program, review

        self._programs = [(text, compile_program(review(), text, BOOL)) for text in texts]

    def hold(self, spec: Object) -> bool:
        """``spec`` is that of a SubjectAccessReview. Raises ``ConditionFailed``."""
        from tiphys.cel.environments import PER_CALL_LIMIT
        from tiphys.cel.evaluator import CostExceeded
        from tiphys.cel.values import CelError

        problems = []
        for text, program in self._programs:
            try:
                value, _ = program.run({"request": spec}, PER_CALL_LIMIT)
            except (CelError, CostExceeded) as error:
                problems.append(f"cel evaluation error: expression '{text}' resulted in error: {error}")
                continue
            if value is not True:
                return False
        if problems:
            raise ConditionFailed(aggregate(problems))
        return True


def seen_by_conditions(spec: Object) -> Object:
    """The spec with what is empty filled in, as expressions see it."""
    seen = {"user": "", "uid": "", "groups": [], "extra": {}, **spec}
    if "resourceAttributes" in spec:
        names = ("namespace", "verb", "group", "version", "resource", "subresource", "name")
        seen["resourceAttributes"] = {**dict.fromkeys(names, ""), **spec["resourceAttributes"]}
    if "nonResourceAttributes" in spec:
        seen["nonResourceAttributes"] = {"path": "", "verb": "", **spec["nonResourceAttributes"]}
    return seen


def condition_problems(texts: Sequence[str], path: str) -> Iterator[FieldError]:
    """The errors of match conditions: at most ``_MOST``, unique, and boolean expressions."""
    if not texts:
        return
    if len(texts) > _MOST:
        yield fielderrors.too_many(f"{path}.matchConditions", len(texts), _MOST)
        return
    from tiphys.cel.accessenvironments import BOOL, compile_program, review
    from tiphys.cel.uses import UnfitExpression

    seen: set[str] = set()
    for number, text in enumerate(texts):
        at = f"{path}.matchConditions[{number}].expression"
        if not text.strip():
            yield fielderrors.required(at)
        elif text in seen:
            yield fielderrors.duplicate(at, text)
        else:
            try:
                compile_program(review(), text, BOOL)
            except UnfitExpression as error:
                yield fielderrors.invalid(at, text, str(error))
        seen.add(text)
