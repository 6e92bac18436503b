"""`tiphys test`: the whole suite: what `tiphys check` checks, and the tests, end-to-end ones included.

The tests of the client, the store and the watch cache run under coverage, and fail if they leave more of these
unexecuted than the floor allows; `tiphys test --coverage` runs these alone.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree

from tiphys.cli.develop.check import checkout, failed_checks, run

_OF_STORAGE = (
    "biglists",
    "contained",
    "crdconversion",
    "deleting",
    "entry",
    "first_objects",
    "foreign_values",
    "listoptions",
    "lists",
    "storageform",
)
_BESIDE = ("-n", str((os.cpu_count() or 1) + 1), "--dist", "loadfile")
"""One more than the machine has processors: some tests wait for a moment."""
FLOOR = 95
"""Per cent of the lines of each part that its tests execute."""
COVERED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("tiphys.client", ("tests/client",)),
    ("tiphys.store", ("tests/store", "tests/contract/test_backend.py")),
    (
        "tiphys.apiserver.storage",
        ("tests/apiserver/storage", *(f"tests/apiserver/test_{name}.py" for name in _OF_STORAGE)),
    ),
)
"""By part of the source, the tests that are about it."""

LANES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "tests",
        ("-m", "not e2e", *_BESIDE, *(f"--ignore={path}" for _, paths in COVERED for path in paths)),
    ),
    ("end-to-end tests", ("-m", "e2e and not slow", "-n", "3", "--dist", "loadfile")),
)
"""Real clusters wait more than they work: three at a time, whatever the machine has. All other tests share its
processors; those of the parts with a floor run by themselves, under coverage."""
_COVERAGE = (*_BESIDE, "--cov-report=term-missing:skip-covered", f"--cov-fail-under={FLOOR}")


def main(argv: Sequence[str]) -> int:
    """Arguments go to pytest, but for ``--coverage``; with any, only the tests run. Exit status 1 if one fails."""
    root = checkout()
    if list(argv) == ["--coverage"]:
        passed = [run(name, root, ("pytest", *options)) for name, options in floors()]
        return 0 if all(passed) else 1
    if argv:
        return 0 if run("pytest", root, ("pytest", *argv)) else 1
    failed = failed_checks(root)
    with tempfile.TemporaryDirectory(prefix="tiphys-test-") as folder:
        reports = []
        for name, options in (*floors(), *LANES):
            reports.append(Path(folder) / f"{name}.xml")
            if not run(name, root, ("pytest", f"--junitxml={reports[-1]}", *options)):
                failed.append(name)
        print(skipped_table(skips(reports)))
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def floors() -> list[tuple[str, tuple[str, ...]]]:
    """Lanes that print what the tests of each part execute of it, and fail below the floor."""
    return [(f"coverage of {part}", (*_COVERAGE, f"--cov={part}", "-m", "not e2e", *tests)) for part, tests in COVERED]


def skips(reports: Iterable[Path]) -> Counter[tuple[str, str]]:
    """How many tests of which file were skipped for which reason, from JUnit reports; one that is missing adds none."""
    counted: Counter[tuple[str, str]] = Counter()
    for report in reports:
        if report.exists():
            for case in ElementTree.parse(report).iter("testcase"):
                for skipped in case.iter("skipped"):
                    counted[case.get("classname", "").replace(".", "/") + ".py", skipped.get("message", "")] += 1
    return counted


def skipped_table(counted: Counter[tuple[str, str]]) -> str:
    if not counted:
        return "── skipped: nothing"
    rows = [f"{count:6}  {file}: {reason}" for (file, reason), count in sorted(counted.items())]
    return "\n".join([f"── skipped: {counted.total()}", *rows])
