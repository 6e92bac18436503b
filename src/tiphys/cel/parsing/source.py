"""The text of an expression, and what is wrong with it: messages with a line, a column and the line itself.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

MAX_PROBLEMS = 100
_MAX_SNIPPET = 16384
_WIDE_DOT, _WIDE_CARET = "\N{FULLWIDTH FULL STOP}", "\N{FULLWIDTH CIRCUMFLEX ACCENT}"


@dataclass(frozen=True, slots=True)
class Problem:
    pos: int
    """Offset in code points; -1 if the problem is that of the whole text."""
    message: str


class Source:
    def __init__(self, text: str) -> None:
        self.text = text
        self._starts = [0]
        for at, char in enumerate(text):
            if char == "\n":
                self._starts.append(at + 1)

    def location(self, pos: int) -> tuple[int, int]:
        """Line, from one, and column, from zero."""
        if pos < 0:
            return -1, -1
        line = bisect_right(self._starts, pos)
        return line, pos - self._starts[line - 1]

    def snippet(self, line: int) -> str | None:
        if not self.text or not 1 <= line <= len(self._starts):
            return None
        end = self._starts[line] - 1 if line < len(self._starts) else len(self.text)
        return self.text[self._starts[line - 1] : end]

    def describe(self, problem: Problem) -> str:
        line, column = self.location(problem.pos)
        message = f"ERROR: <input>:{line}:{column + bool(self.text)}: {problem.message}"
        snippet = self.snippet(line)
        if snippet is None or len(snippet.encode("utf-8", "surrogatepass")) > _MAX_SNIPPET:
            return message
        snippet = snippet.replace("\t", " ")
        marks = "".join(_WIDE_DOT if ord(c) > 0x7F else "." for c in snippet[:column])
        marks += _WIDE_CARET if ord(snippet[column : column + 1] or " ") > 0x7F else "^"
        return f"{message}\n | {snippet}\n | {marks}"


@dataclass
class Problems:
    """Problems in the order they were noticed; printed in the order of the text."""

    source: Source
    all: list[Problem] = field(default_factory=list)

    def add(self, pos: int, message: str) -> None:
        self.all.append(Problem(pos, message))

    def __bool__(self) -> bool:
        return bool(self.all)

    def __str__(self) -> str:
        kept = sorted(self.all[:MAX_PROBLEMS], key=lambda problem: self.source.location(problem.pos))
        lines = [self.source.describe(problem) for problem in kept]
        if len(self.all) > MAX_PROBLEMS:
            lines.append(f"{len(self.all) - MAX_PROBLEMS} more errors were truncated")
        return "\n".join(lines)
