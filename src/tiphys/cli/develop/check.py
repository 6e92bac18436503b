"""`tiphys check`: what needs no running test: format, lint, import rules, types, dead code, and
whether the packed definitions are those that were published. Under a minute."""

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
    ("dead code", ("vulture",)),
    ("published definitions", ("python", "build_hooks/schema.py", "--check")),
)


def main(argv: Sequence[str]) -> int:
    """Takes no arguments. Exit status 1 if a check fails."""
    if argv:
        fail(f"check takes no arguments, not {argv[0]!r}")
    failed = failed_checks(checkout())
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def checkout() -> Path:
    """The root of the repository that this package is imported from; exits if it is an installed package."""
    root = Path(__file__).parents[4]
    if not (root / "tests").is_dir():
        fail("checks and tests are in the project's repository, not in the installed package; run them in a checkout")
    return root


def failed_checks(root: Path) -> list[str]:
    return [name for name, command in CHECKS if not run(name, root, command)]


def run(name: str, root: Path, command: Sequence[str]) -> bool:
    """Run a tool of the virtual environment in ``root`` and print its name and time; return whether it passed."""
    started = time.monotonic()
    print(f"── {name}", flush=True)
    tools = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{tools}:{os.environ.get('PATH', '')}"}
    done = subprocess.run([tools / command[0], *command[1:]], cwd=root, env=environment, check=False)
    print(f"── {name}: {'ok' if done.returncode == 0 else 'FAILED'} in {time.monotonic() - started:.0f} s", flush=True)
    return done.returncode == 0
