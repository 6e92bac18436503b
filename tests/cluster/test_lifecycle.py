"""Work in a process beside the command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tiphys.cluster import lifecycle


def test_work_beside_the_block_is_done_at_its_end_in_another_process(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with lifecycle.beside(lambda: mark.write_text(str(os.getpid())) and None):
        pass
    assert int(mark.read_text()) != os.getpid()


def test_work_beside_that_fails_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise OSError("the disk is full")

    with pytest.raises(lifecycle.Failed), lifecycle.beside(work):
        pass
    assert "the disk is full" in capfd.readouterr().err


def test_an_error_of_the_block_comes_first_and_the_work_is_awaited(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(LookupError), lifecycle.beside(mark.touch):
        raise LookupError
    assert mark.exists()
