"""The seam to CEL: what is checked of an expression beyond that it is there.

The compiler is imported when the first expression is met: a server that sees none never pays for it.

Source: https://kubernetes.io/docs/reference/using-api/cel/
"""

from __future__ import annotations

from tiphys.api import fielderrors
from tiphys.cel.expression import Expression
from tiphys.validation.shared.common import Errors


def check(errs: Errors, expression: Expression, path: str) -> None:
    from tiphys.cel import uses

    try:
        uses.compile(expression)
    except uses.TooExpensive as wrong:
        errs.append(fielderrors.forbidden(path, str(wrong)))
    except uses.NoProgram as wrong:
        errs.append(fielderrors.internal(path, str(wrong)))
    except uses.UnfitExpression as wrong:
        errs.append(fielderrors.invalid(path, expression.text, str(wrong)))
