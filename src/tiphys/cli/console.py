"""What a person sees while a command works: one line a step, with its time; plain text if it is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn, TextIO


class Console:
    """Progress on standard error, so that a command's result on standard output can be piped."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._quiet = quiet

    def say(self, text: str = "") -> None:
        if not self._quiet:
            print(text, file=self._stream, flush=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """``with console.step("…")``: shown while it runs, then with its time, or crossed out."""
        started = time.monotonic()
        if self._live and not self._quiet:
            self._stream.write(f"  \033[33m…\033[0m {text}")
            self._stream.flush()
        try:
            yield
        except BaseException:
            self._end(f"  {self._paint('31', '✗')} {text}")
            raise
        self._end(f"  {self._paint('32', '✓')} {text} {self._paint('2', f'({time.monotonic() - started:.1f} s)')}")

    def live(self, text: str) -> None:
        """Replace the current line, on a terminal; elsewhere nothing."""
        if self._live and not self._quiet:
            self._stream.write(f"\r\033[K  \033[33m…\033[0m {text}")
            self._stream.flush()

    def _end(self, text: str) -> None:
        if not self._quiet:
            self._stream.write(("\r\033[K" if self._live else "") + text + "\n")
            self._stream.flush()

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._live else text


def fail(*lines: object) -> NoReturn:
    """End the command with status 1 and a message."""
    raise SystemExit("\n".join([f"tiphys: {_said(lines[0])}", *(str(line) for line in lines[1:])]))


def _said(what: object) -> str:
    """The text of a message or an error; some errors have none."""
    if isinstance(what, TimeoutError):
        return str(what) or "there was no answer in time"
    return str(what) or type(what).__name__


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as kubectl prints them: three spaces between."""
    cells = [[str(c) for c in row] for row in (headings, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headings))]
    return "\n".join("   ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)
