"""`tiphys test`: the whole suite: format, lint, import rules, types, and the tests, end-to-end ones included."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tiphys.cli.console import fail

CHECKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ruff format", ("ruff", "format", "--check", "-q", ".")),
    ("ruff", ("ruff", "check", "-q", ".")),
    ("import rules", ("lint-imports", "--no-cache")),
    ("mypy", ("mypy", "--no-error-summary")),
)


def main(argv: Sequence[str]) -> int:
    """Arguments go to pytest; with any, only the tests run."""
    root = Path(__file__).parents[3]
    if not (root / "tests").is_dir():
        fail("the test suite is in the project's repository, not in the installed package; run it in a checkout")
    failed = [] if argv else [name for name, command in CHECKS if not _run(name, root, command)]
    if not _run("pytest", root, ("pytest", *argv)):
        failed.append("pytest")
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run(name: str, root: Path, command: Sequence[str]) -> bool:
    started = time.monotonic()
    print(f"── {name}", flush=True)
    tools = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{tools}:{os.environ.get('PATH', '')}"}
    done = subprocess.run([tools / command[0], *command[1:]], cwd=root, env=environment, check=False)
    print(f"── {name}: {'ok' if done.returncode == 0 else 'FAILED'} in {time.monotonic() - started:.0f} s", flush=True)
    return done.returncode == 0
