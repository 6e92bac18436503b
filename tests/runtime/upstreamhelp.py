"""Reads what upstream's components print for ``--help``: `python -m tests.runtime.upstreamhelp NAME < help.txt`.

Prints the table that ``tiphys.runtime.upstream`` reads: name, type and default of every flag, one a line, sorted.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

_FLAG = re.compile(
    r"^ +(?:-(?P<short>.), )?--(?P<name>[a-z0-9-]+)(?:\[=[^]]*\])?(?: (?P<kind>\S+(?: \S+)*?))?(?:  +(?P<help>.*))?$"
)
_DEFAULT = re.compile(r'\(default (?P<value>"(?:[^"\\]|\\.)*"|\[[^]]*\]|[^)]*)\)')
_NO_FLAGS = ("help", "version")


def flags(text: str) -> Iterator[tuple[str, str, str]]:
    """(name, type, default) of each flag; the default as Go prints it, without quotes; empty if none is printed."""
    for block in _blocks(text):
        match = _FLAG.match(block[0])
        assert match is not None, block[0]
        help = " ".join((match["help"] or "", *(line.strip() for line in block[1:])))
        found = [default["value"] for default in _DEFAULT.finditer(help)]
        yield match["name"], match["kind"] or "bool", found[-1].strip('"') if found else ""


def _blocks(text: str) -> Iterator[list[str]]:
    """The lines of one flag each: its own, and those that go on from there."""
    block: list[str] = []
    for line in text.splitlines():
        starts = re.match(r"^ {2,6}(-., )?--[a-z]", line)
        if block and (starts or not line.startswith("        ")):
            yield block
            block = []
        if starts:
            block = [line]
        elif block:
            block.append(line)
    if block:
        yield block


def table(text: str) -> str:
    rows = sorted(row for row in flags(text) if row[0] not in _NO_FLAGS)
    return "".join("\t".join(row).rstrip() + "\n" for row in rows)


if __name__ == "__main__":
    sys.stdout.write(table(sys.stdin.read()))
