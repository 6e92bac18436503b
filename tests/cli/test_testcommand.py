"""`tiphys test` says at its end what was skipped and why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tiphys.cli.develop.test import skipped_table, skips

TESTS = """
import pytest

@pytest.mark.skipif(True, reason="needs root")
def test_one(): ...

@pytest.mark.parametrize("n", [1, 2])
def test_two(n): pytest.skip("needs etcd")

def test_three(): ...
"""


def test_skipped_tests_are_counted_by_file_and_reason(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", "--rootdir=.", "test_some.py"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    counted = skips([report, tmp_path / "never-written.xml"])
    assert counted == {("test_some.py", "needs root"): 1, ("test_some.py", "needs etcd"): 2}
    assert skipped_table(counted).splitlines() == [
        "── skipped: 3",
        "     2  test_some.py: needs etcd",
        "     1  test_some.py: needs root",
    ]


def test_nothing_skipped() -> None:
    assert skipped_table(skips([])) == "── skipped: nothing"
