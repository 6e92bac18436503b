"""Runs commands with bad input, each in a child forked from one process that has imported them all.

Usage: python -m tests.cli.badinput < CASES (JSON: a list of lists of words); prints, for each, status and output.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import traceback
from importlib import import_module

from tiphys.cli.main import COMMANDS, COMPONENTS, main

TOGETHER = 16
SECONDS = 20
"""After which a command that goes on is ended: it has not noticed."""


def run(cases: list[list[str]]) -> list[dict[str, object]]:
    """Statuses and outputs, a few commands at a time."""
    files = [[tempfile.TemporaryFile("w+") for _ in ("out", "err")] for _ in cases]  # noqa: SIM115
    children: dict[int, int] = {}
    statuses: dict[int, int] = {}
    waiting = list(range(len(cases)))
    while waiting or children:
        while waiting and len(children) < TOGETHER:
            number = waiting.pop(0)
            child = os.fork()
            if child == 0:
                _become(cases[number], *(file.fileno() for file in files[number]))
            children[child] = number
        child, status = os.wait()
        statuses[children.pop(child)] = os.waitstatus_to_exitcode(status)
    for pair in files:
        for file in pair:
            file.seek(0)
    return [
        {"status": statuses[number], "stdout": out.read(), "stderr": err.read()}
        for number, (out, err) in enumerate(files)
    ]


def _become(words: list[str], out: int, err: int) -> None:
    """Run the command as the interpreter would run it alone."""
    os.dup2(out, 1)
    os.dup2(err, 2)
    signal.alarm(SECONDS)
    status = 1
    try:
        status = main(words)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    for module, _ in (*COMMANDS.values(), *COMPONENTS.values()):
        import_module(module)
    print(json.dumps(run(json.load(sys.stdin))))
