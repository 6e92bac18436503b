"""A checker of linearizability for one key, whose operations are put, get and compare-and-set.

The search is Wing and Gong's, with Lowe's memory of the states that were tried (as in porcupine): an operation may take
effect at any moment between its call and its return; one that was never answered may take effect later, or never.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operation:
    """``kind`` is get, put or cas; ``value`` what it read or wrote; ``expected`` what cas compared with."""

    kind: str
    value: str
    called: float
    returned: float
    expected: str = ""
    ok: bool = True
    """Whether the cas found what it expected."""


NEVER = float("inf")


def _apply(operation: Operation, state: str) -> str | None:
    """The state after the operation; None where its answer does not fit the state."""
    if operation.kind == "get":
        return state if operation.value == state else None
    if operation.kind == "put":
        return operation.value
    if operation.returned == NEVER:  # its answer is not known
        return operation.value if state == operation.expected else state
    if operation.ok:
        return operation.value if state == operation.expected else None
    return state if state != operation.expected else None


def linearizable(history: list[Operation], initial: str = "") -> bool:
    """Whether one order of the operations explains every answer."""
    history = sorted(history, key=lambda operation: operation.called)
    count = len(history)
    answered = frozenset(n for n in range(count) if history[n].returned != NEVER)
    tried: set[tuple[frozenset[int], str]] = set()
    stack: list[tuple[frozenset[int], str]] = [(frozenset(), initial)]
    while stack:
        done, state = stack.pop()
        if answered <= done:
            return True
        if (done, state) in tried:
            continue
        tried.add((done, state))
        bound = min(history[n].returned for n in answered if n not in done)
        able = [n for n in range(count) if n not in done and history[n].called <= bound]
        fitting = next((n for n in able if history[n].kind == "get" and history[n].value == state), None)
        if fitting is not None:  # a read that fits can be taken at once: it changes nothing
            stack.append((done | {fitting}, state))
            continue
        for n in able:
            after = _apply(history[n], state)
            if after is not None:
                stack.append((done | {n}, after))
    return False
