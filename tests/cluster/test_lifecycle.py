"""Work in a process beside the command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tiphys.cluster import lifecycle
from tiphys.cluster.settings import Settings


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


def test_the_daemon_holds_nothing_of_who_started_it(tmp_path: Path) -> None:
    """A lock that `tiphys up` was run under ends with the command, not with the cluster."""
    settings = Settings(data_dir=tmp_path / "data", run_dir=tmp_path / "run")
    mine = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(mine, True)  # noqa: FBT003 - as os has it
    held = tmp_path / "held"

    def run() -> None:
        descriptors = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
        held.with_suffix(".new").write_text("\n".join(descriptors))
        held.with_suffix(".new").replace(held)

    pid = lifecycle.start_daemon(settings, run)
    os.close(mine)
    while Path(f"/proc/{pid}").exists() and not held.exists():
        os.sched_yield()
    assert str(settings.lock_file) in held.read_text()
    assert str(tmp_path / "lock") not in held.read_text().splitlines()


def of(state: str, restarts: int = 0) -> dict[str, object]:
    return {"state": state, "restarts": restarts}


@pytest.mark.parametrize(
    ("states", "runs"),
    [
        ({}, False),
        ({"kubelet": of("running")}, True),
        ({"kubelet": of("starting")}, False),
        ({"kubelet": of("running"), "metrics-server": of("starting")}, True),
        ({"kubelet": of("running"), "csi-local": of("waiting")}, True),
        ({"kubelet": of("running"), "csi-local": of("backoff")}, False),
        ({"kubelet": of("running"), "csi-local": of("starting", 1)}, False),
        ({"kubelet": of("running"), "csi-local": of("stopped")}, False),
    ],
)
def test_a_node_runs_without_what_is_only_starting_on_top_of_it(
    states: dict[str, dict[str, object]], runs: bool
) -> None:
    assert lifecycle.node_runs(states) == runs
