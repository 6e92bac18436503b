"""Compiling modules so that the same source always gives the same bytes. A program of its own, and a leaf.

Two things differ from run to run otherwise: the order of sets among constants, which follows the hash seed, and which
objects count as shared, which follows what the process did before. So the caller runs this file in a fresh interpreter
with a fixed seed. The byte code carries the hash of its source and is not checked against it (PEP 552), as nobody
edits an image.

It reads a JSON list of ``[source file, its path in the image, file to write]``.
"""

from __future__ import annotations

import contextlib
import json
import py_compile
import subprocess
import sys
from collections.abc import Sequence
from typing import TextIO

Job = tuple[str, str, str]

_UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH


def compile_all(jobs: Sequence[Job], processes: int = 2) -> None:
    """Compile all, in a fixed number of processes, so that the result does not follow the machine."""
    running = [(_start(), jobs[at::processes]) for at in range(processes)]
    for process, share in running:
        assert process.stdin is not None
        json.dump(share, process.stdin)
        process.stdin.close()
    for process, _ in running:
        if status := process.wait():
            raise RuntimeError(f"compiling modules ended with status {status}")


def _start() -> subprocess.Popen[str]:
    command = [sys.executable, "-s", "-S", "-B", __file__]
    return subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env={"PYTHONHASHSEED": "0"})


def _compile_these(stream: TextIO) -> None:
    for source, path, target in json.load(stream):
        # What does not compile is a template or a test of the parser: nobody imports it.
        with contextlib.suppress(py_compile.PyCompileError):
            py_compile.compile(source, target, path, doraise=True, optimize=0, invalidation_mode=_UNCHECKED)


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")  # of other people's modules
    _compile_these(sys.stdin)
