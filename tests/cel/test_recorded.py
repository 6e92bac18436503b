"""700 expressions, made at random, give the values, errors and costs that were recorded for them.

They were recorded from an interpreter of the tree, before expressions were translated to functions: two ways to the
same answers. Costs count for errors, too, as what an operator absorbs has cost something; and a run may be cancelled at
any cost below.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tiphys.cel import environments, types
from tiphys.cel.checking.declarations import AUTHORIZER
from tiphys.cel.evaluator import CostExceeded, Program
from tiphys.cel.library import comprehensions
from tiphys.cel.library.authorizer import Answer, AuthorizerValue, Question
from tiphys.cel.patience import Patience, limited
from tiphys.cel.values import NONE, CelError, MapList, Optional, SetList, Uint

RECORDED: list[tuple[str, str, str, int]] = json.loads((Path(__file__).parent / "recorded.json").read_text())
EACH = 10
"""What patience is charged besides the cost."""
DECLARED = {
    **dict.fromkeys(("self", "object", "oldSelf"), types.DYN),
    "items": types.list_of(types.INT),
    "names": types.list_of(types.STRING),
    "x": types.INT,
    "s": types.STRING,
    "d": types.DOUBLE,
    "m": types.map_of(types.STRING, types.INT),
    "opt": types.optional(types.INT),
    "absent": types.INT,
    "lie": types.STRING,
    "lies": types.list_of(types.INT),
    "u": types.UINT,
    "b": types.BOOL,
    "authorizer": AUTHORIZER,
}
ENVIRONMENT = environments.base().extend(DECLARED, libraries=(comprehensions.BINDINGS,))
OBJECT: dict[str, Any] = {
    "metadata": {"name": "web", "labels": {"app": "web", "tier": "front"}},
    "spec": {
        "replicas": 3,
        "ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}],
        "ratio": 0.5,
        "__if__": 4,
    },
    "none": None,
    "list": [1, "a", 2.5, None, True, {"k": 1}],
    "set": SetList([1, 2, 2]),
    "ml": MapList([{"k": 1, "v": 2}, {"k": 2, "v": 3}], ("k",)),
    "t": True,
    "long": "ab" * 40,
}
VARIABLES: dict[str, Any] = {
    "self": OBJECT,
    "object": OBJECT,
    "oldSelf": OBJECT,
    "items": [3, 1, 2, 0, -4],
    "names": ["web", "api", "db", "a-much-longer-name-than-the-others"],
    "x": 7,
    "s": "abc",
    "d": 2.5,
    "m": {"a": 1, "b": 2},
    "opt": Optional(5),
    "lie": 5,
    "lies": ["a", 2, None, True],
    "u": Uint(3),
    "b": True,
    "authorizer": AuthorizerValue(lambda _: Answer(allowed=True), Question()),
}
"""``absent`` is not set, and ``lie`` and ``lies`` are not what they are declared to be."""


def written(value: Any) -> str:
    """The value and the types in it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(key)}: {written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"{type(value).__name__}[{', '.join(map(written, value))}]"
    if isinstance(value, Optional):
        return "none" if value is NONE else f"opt({written(value.value)})"
    return f"{type(value).__name__}{value.nanos}" if hasattr(value, "nanos") else f"{type(value).__name__}:{value}"


@pytest.mark.parametrize(("text", "kind", "given", "cost"), RECORDED, ids=range(len(RECORDED)))
def test_gives_what_was_recorded(text: str, kind: str, given: str, cost: int) -> None:
    program, patience = Program(ENVIRONMENT.compile(text)), Patience(10**9)
    try:
        with limited(patience):
            outcome = ("ok", written(program.run(VARIABLES)[0]))
    except CelError as error:
        outcome = ("err", str(error))
    assert outcome == (kind, given)
    assert 10**9 - patience.left == cost + EACH
    for limit in {cost - 1, cost // 2, 1} - {cost}:
        if 0 <= limit < cost:
            with pytest.raises(CostExceeded):
                program.run(VARIABLES, limit)


def test_deep_expressions_are_translated_in_parts() -> None:
    folds = "items.all(a, " * 11 + "x == 7 || absent == 1" + ")" * 11
    assert Program(ENVIRONMENT.compile(folds.replace("items", "[1]"))).run(VARIABLES)[0] is True
    choices = "x == 1 ? 1 : " * 25 + "x"
    assert Program(ENVIRONMENT.compile(choices)).run(VARIABLES)[0] == 7
    nested = "[x == 7].all(a, a && " * 9 + "absent == 1 || b" + ")" * 9
    assert Program(ENVIRONMENT.compile(nested)).run(VARIABLES)[0] is True
    wrong = "[x].map(a, a == 7 ? dyn(" * 8 + "absent" + ") : 0)" * 8
    with pytest.raises(CelError, match="no such attribute"):
        Program(ENVIRONMENT.compile(wrong)).run(VARIABLES)
