"""Running an expression: the checked tree becomes a function, when it is first run; each run counts what it costs.

What fails raises CelError. A run that costs more than it may is cancelled, which nothing absorbs.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tiphys.cel.environment import Compiled
from tiphys.cel.limits import CostExceeded as CostExceeded
from tiphys.cel.limits import bounded, exceeded
from tiphys.cel.patience import Lengthy
from tiphys.cel.patience import current as current_patience
from tiphys.cel.translate import translate

NO_LIMIT = 2**63


class _Run:
    """One evaluation: what it has cost so far, and what it may."""

    __slots__ = ("cost", "limit")

    def __init__(self, limit: int) -> None:
        self.limit, self.cost = limit, 0


class Program:
    """An expression that can be run any number of times."""

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self._function: Callable[[_Run, Mapping[str, Any]], Any] | None = None

    def run(self, variables: Mapping[str, Any], limit: int = NO_LIMIT) -> tuple[Any, int]:
        """Value and cost. Raises CelError and CostExceeded; the latter's cost is beyond the limit.

        Raises ``Lengthy`` if the caller's patience ends first.
        """
        patience = current_patience()
        if patience is None:
            run = _Run(limit)
            return self._evaluate(run, variables), run.cost
        run = _Run(min(limit, patience.left))
        try:
            value = self._evaluate(run, variables)
        except CostExceeded:
            if run.limit < limit:
                raise Lengthy from None
            raise
        finally:
            patience.spend(run.cost)
        return value, run.cost

    def _evaluate(self, run: _Run, variables: Mapping[str, Any]) -> Any:
        if self._function is None:
            self._function = translate(self._compiled.tree, self._compiled.environment)
        try:
            with bounded():
                return self._function(run, variables)
        finally:
            if run.cost > run.limit:
                raise exceeded() from None
