"""The supervisor, with real processes."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tiphys.cluster.supervisor import Program, Ready, Supervisor, describe_exit, execute, next_delay


def sleeper(ready: Ready) -> None:
    ready()
    while True:
        signal.pause()


def failing(ready: Ready) -> None:
    raise SystemExit("no such file")


@contextmanager
def supervised(
    tmp_path: Path, *programs: Program, meanwhile: Sequence[Callable[[], None]] = ()
) -> Iterator[Callable[[], dict[str, Any]]]:
    """A supervisor in a process of its own; gives a function that reads its state file."""
    state_file = tmp_path / "state.json"
    pid = os.fork()
    if pid == 0:
        try:
            Supervisor(programs, tmp_path / "logs", state_file, meanwhile=meanwhile).run()
        finally:
            os._exit(0)

    def read() -> dict[str, Any]:
        return json.loads(state_file.read_text()) if state_file.exists() else {"pid": pid, "components": {}}

    try:
        yield read
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError("the condition did not come true in time")


def component(read: Callable[[], dict[str, Any]], name: str) -> dict[str, Any]:
    return read()["components"].get(name, {})


def running(read: Callable[[], dict[str, Any]], name: str) -> int:
    found = component(read, name)
    return found["pid"] if found.get("state") == "running" else 0


@pytest.mark.parametrize(
    ("last", "served", "killed", "expected"),
    [
        (0.0, float("-inf"), False, 0.2),  # it ended before it was ready, for the first time
        (0.2, float("-inf"), False, 0.4),
        (0.2, 3.0, False, 0.4),  # it served for seconds only
        (25.6, 9.0, False, 30.0),
        (30.0, float("-inf"), False, 30.0),
        (30.0, 11.0, False, 0.2),  # it served
        (0.2, float("-inf"), True, 0.4),
        (1.6, 1.0, True, 3.0),
        (30.0, float("-inf"), True, 3.0),
    ],
)
def test_what_ends_by_itself_waits_longer_and_longer(last: float, served: float, killed: bool, expected: float) -> None:
    assert next_delay(last, served, killed=killed) == expected


def test_a_killed_component_is_started_again_and_the_state_says_so(tmp_path: Path) -> None:
    with supervised(tmp_path, Program("a", sleeper)) as read:
        first = wait_for(lambda: running(read, "a"))
        os.kill(first, signal.SIGKILL)
        second = wait_for(lambda: running(read, "a") not in (0, first) and running(read, "a"))
        assert second != first
        assert component(read, "a")["restarts"] == 1
        assert component(read, "a")["lastExit"] == "killed by SIGKILL"
    assert component(read, "a")["state"] == "stopped"
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


def test_what_needs_another_starts_when_that_is_ready(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    def gated(ready: Ready) -> None:
        while not gate.exists():
            time.sleep(0.01)
        sleeper(ready)

    with supervised(tmp_path, Program("first", gated), Program("second", sleeper, needs=("first",))) as read:
        wait_for(lambda: component(read, "first").get("state") == "starting")
        assert component(read, "second")["state"] == "waiting"
        gate.touch()
        wait_for(lambda: running(read, "second"))


def test_a_component_that_fails_is_held_back_and_its_log_says_why(tmp_path: Path) -> None:
    with supervised(tmp_path, Program("bad", failing)) as read:
        wait_for(lambda: component(read, "bad").get("restarts", 0) >= 2)
        assert component(read, "bad")["lastExit"] == "exit code 1"
    assert "no such file" in (tmp_path / "logs" / "bad.log").read_text()


def test_components_end_with_a_killed_supervisor(tmp_path: Path) -> None:
    state_file = tmp_path / "state.json"
    pid = os.fork()
    if pid == 0:
        Supervisor([Program("a", sleeper)], tmp_path / "logs", state_file).run()
        os._exit(0)
    child = wait_for(lambda: state_file.exists() and json.loads(state_file.read_text())["components"]["a"]["pid"])
    wait_for(lambda: json.loads(state_file.read_text())["components"]["a"]["state"] == "running")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    wait_for(lambda: not _alive(child))


def shell(script: str, probe: Callable[[], bool], *, fragile_start: bool = False) -> Program:
    return Program("sh", lambda _: execute(["/bin/sh", "-c", script]), probe=probe, fragile_start=fragile_start)


def test_an_executable_is_the_supervised_process_itself(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    program = shell(f"echo $$ > {marker}; exec sleep 1000", marker.exists)
    with supervised(tmp_path, program) as read:
        first = wait_for(lambda: running(read, "sh"))
        assert int(wait_for(lambda: marker.read_text().strip())) == first
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: running(read, "sh") not in (0, first))
        assert component(read, "sh")["lastExit"] == "killed by SIGKILL"


@pytest.mark.parametrize("ready", [False, True])
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_an_executable_with_a_fragile_start_is_not_asked_to_end_meanwhile(
    tmp_path: Path, ready: bool, by: signal.Signals
) -> None:
    """containerd, asked to end while it looks for the containers that run, takes all for dead and kills them."""
    pid, asked, state_file = tmp_path / "pid", tmp_path / "asked", tmp_path / "state.json"
    script = f"trap 'touch {asked}; exit 0' TERM; echo $$ > {pid}; while :; do sleep 0.05; done"
    program = shell(script, lambda: ready and pid.exists(), fragile_start=True)
    supervisor = os.fork()
    if supervisor == 0:
        try:
            Supervisor([program], tmp_path / "logs", state_file).run()
        finally:
            os._exit(0)
    inner = int(wait_for(lambda: pid.exists() and pid.read_text().strip()))
    wanted = "running" if ready else "starting"
    wait_for(lambda: state_file.exists() and json.loads(state_file.read_text())["components"]["sh"]["state"] == wanted)
    os.kill(supervisor, by)
    os.waitpid(supervisor, 0)
    wait_for(lambda: not _alive(inner))
    assert asked.exists() == (ready and by == signal.SIGTERM)


def test_an_executable_that_dies_before_it_is_ready_is_noticed_and_its_prober_ends(tmp_path: Path) -> None:
    prober = tmp_path / "prober"

    def never() -> bool:
        prober.write_text(str(os.getpid()))
        return False

    with supervised(tmp_path, shell("sleep 0.2; exit 3", never)) as read:
        wait_for(lambda: component(read, "sh").get("restarts", 0) >= 1)
        first = int(wait_for(lambda: prober.exists() and prober.read_text()))
        assert component(read, "sh")["lastExit"] == "exit code 3"
        wait_for(lambda: not _alive(first) or prober.read_text() != str(first))


def test_an_executable_whose_prober_fails_is_started_again(tmp_path: Path) -> None:
    once = tmp_path / "once"

    def fails_once() -> bool:
        if not once.exists():
            once.touch()
            raise OSError("the image cannot be read")
        return True

    with supervised(tmp_path, shell("exec sleep 1000", fails_once)) as read:
        wait_for(lambda: running(read, "sh"))
        assert component(read, "sh")["restarts"] == 1
        assert component(read, "sh")["lastExit"] == "killed by SIGKILL"
    assert "the image cannot be read" in (tmp_path / "logs" / "sh.log").read_text()


def test_an_executable_that_is_not_there_is_held_back(tmp_path: Path) -> None:
    program = Program("none", lambda _: execute([str(tmp_path / "none")]), probe=lambda: False)
    with supervised(tmp_path, program) as read:
        wait_for(lambda: component(read, "none").get("restarts", 0) >= 1)
        assert component(read, "none")["lastExit"] == "exit code 1"
    assert "No such file" in (tmp_path / "logs" / "none.log").read_text()


def test_exits_in_words() -> None:
    assert describe_exit(0) == "exit code 0"
    assert describe_exit(signal.SIGSEGV) == "killed by SIGSEGV"


def _alive(pid: int) -> bool:
    """Whether a process is there and not a zombie (an orphan's parent may reap it late)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_becomes_due_meanwhile_starts_between_two_steps(tmp_path: Path) -> None:
    done: list[str] = []

    def tell(name: str) -> Callable[[Ready], None]:
        def run(ready: Ready) -> None:
            (tmp_path / name).write_text(" ".join(done))
            sleeper(ready)

        return run

    def imports(what: str) -> Callable[[], None]:
        def step() -> None:
            wait_for(lambda: (tmp_path / "first").exists())  # it runs already
            done.append(what)

        return step

    def rest() -> None:
        if not (tmp_path / "second").exists():
            time.sleep(0.1)

    programs = (
        Program("first", tell("first")),
        Program("second", tell("second"), needs=("first",), before_start=lambda: done.append("own")),
    )
    # A minute of steps, between which the first one's readiness is heard.
    steps = [imports("one"), *[rest] * 600, lambda: done.append("last")]
    with supervised(tmp_path, *programs, meanwhile=steps) as read:
        wait_for(lambda: component(read, "second").get("state") == "running")
    assert (tmp_path / "first").read_text() == ""
    assert (tmp_path / "second").read_text() == "one own"
