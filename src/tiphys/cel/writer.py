"""Python source, written line by line, with the costs of a run folded: what is certain to be spent is added once.

The source spends in the local variable ``c``. A cost that does not depend on values is *pending* until something may
fail, or a branch begins or ends; so whatever ends a run, ``c`` has exactly what was spent. ``L`` is what may be spent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

MOST_BLOCKS, MOST_DEPTH = 12, 60
"""Python nests 20 loops and ``try`` statements, and indents 100 times."""
_LARGE = 1000
"""A cost that is added, and compared with the limit, at once."""


class Names:
    """The globals of the source, helpers and constants, and the names that are taken."""

    def __init__(self, helpers: dict[str, Any]) -> None:
        self.globals = dict(helpers)
        self._taken = 0

    def fresh(self, hint: str = "t") -> str:
        self._taken += 1
        return f"{hint}{self._taken}"

    def constant(self, value: Any, hint: str = "k") -> str:
        name = self.fresh(hint)
        self.globals[name] = value
        return name


class FunctionWriter:
    """The body of one function."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.lines: list[tuple[int, str]] = []
        self.depth = 2
        self.blocks = 1
        self.pending = 0
        self.fallible = False
        """Whether a ``CelError`` may leave what was written since this was last reset."""
        self.checked: set[str] = set()
        """The variables that are known to be set here."""

    @property
    def crowded(self) -> bool:
        return self.blocks > MOST_BLOCKS or self.depth > MOST_DEPTH

    def line(self, text: str) -> None:
        self.lines.append((self.depth, text))

    @contextmanager
    def block(self, header: str, *, blocks: int = 0) -> Iterator[None]:
        """A block that may not be run: what is found out within is not known after it."""
        self.line(header)
        checked = set(self.checked)
        self.depth, self.blocks = self.depth + 1, self.blocks + blocks
        yield
        self.depth, self.blocks = self.depth - 1, self.blocks - blocks
        self.checked = checked

    def temp(self) -> str:
        return self.names.fresh()

    # Costs

    def spend(self, cost: int) -> None:
        self.pending += cost
        if cost >= _LARGE:
            self.flush()
            self.check()

    def flush(self) -> None:
        if self.pending:
            self.line(f"c += {self.pending}")
            self.pending = 0

    def check(self) -> None:
        """End the run if it has cost more than it may."""
        self.line("if c > L: raise exceeded()")

    def spend_more(self, amount: str) -> None:
        """A cost that depends on values."""
        self.line(f"c += {self.pending} + {amount}" if self.pending else f"c += {amount}")
        self.pending = 0
        self.check()

    # Failures

    def may_fail(self) -> None:
        self.fallible = True
        self.flush()

    def fail_if(self, condition: str, error: str) -> None:
        """Raise ``error``, with what is pending spent."""
        self.fallible = True
        spent = f"c += {self.pending}; " if self.pending else ""
        self.line(f"if {condition}: {spent}raise {error}")

    def seldom(self, statement: str, amount: str, usual: int) -> None:
        """Within a branch: a statement that may fail and costs ``amount``, where the other branches cost ``usual``."""
        self.fallible = True
        if self.pending:
            self.line(f"c += {self.pending}")
        self.line(statement)
        self.line(f"c += {amount} - {usual + self.pending}")

    def guarded(self, body: Callable[[], None], on_error: str) -> bool:
        """Write ``body``; if it may fail, with ``on_error`` for the error ``x``. Returns whether it may."""
        start, before, checked = len(self.lines), self.fallible, set(self.checked)
        self.fallible = False
        self.depth, self.blocks = self.depth + 1, self.blocks + 1
        body()
        self.flush()
        self.depth, self.blocks = self.depth - 1, self.blocks - 1
        fails, self.fallible = self.fallible, before
        if fails:
            self.lines.insert(start, (self.depth, "try:"))
            self.line("except E as x:")
            self.lines.append((self.depth + 1, "kept(x)"))
            self.lines.append((self.depth + 1, on_error))
            self.checked = checked
        else:
            self.lines[start:] = [(depth - 1, text) for depth, text in self.lines[start:]]
        return fails

    def function(self, header: str, inputs: dict[str, str]) -> str:
        """The function's source; ``inputs`` are the variables of the run that it reads, and their names in it."""
        lines = [header, "    c = r.cost; L = r.limit", "    try:"]
        lines += [f"        {name} = V.get({variable!r}, M)" for variable, name in inputs.items()]
        lines += [f"{'    ' * depth}{line}" for depth, line in self.lines]
        return "\n".join([*lines, "    finally: r.cost = c", ""])
