"""The kernel's accounts of processes that it killed for want of memory."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tiphys.kubelet.node import oom
from tiphys.kubelet.node.oom import Kill, OomParser, OomWatcher, text_of

BEGIN = "stress invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0"
NOISE = "Mem-Info:"
OLD = "Task in /mem2 killed as a result of limit of /mem3"
MODERN = (
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=6f5,mems_allowed=0-1,"
    "oom_memcg=/kubepods/burstable/pod1,task_memcg=/kubepods/burstable/pod1/6f5,task=stress,pid=1729,uid=0"
)
EVERYBODY = (
    "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
    "task_memcg=/user.slice,task=badsysprogram,pid=1532,uid=0"
)
END = "Killed process 1532 (badsysprogram) total-vm:4213156kB, anon-rss:3801092kB, file-rss:188kB"


@pytest.mark.parametrize(
    ("messages", "kill"),
    [
        ([BEGIN, NOISE, EVERYBODY, END], Kill("/", "badsysprogram", 1532)),
        ([BEGIN, NOISE, MODERN], Kill("/kubepods/burstable/pod1", "stress", 1729)),
        ([BEGIN, NOISE, OLD, END], Kill("/mem3", "badsysprogram", 1532)),
        ([BEGIN, f"Out of memory: {END}"], Kill("/", "badsysprogram", 1532)),
        ([BEGIN, "Killed process 7 (a (b) c), UID 0,"], Kill("/", "a (b) c", 7)),
        ([END], None),
        ([MODERN], None),
        ([BEGIN, NOISE], None),
    ],
)
def test_an_account_is_read_to_its_end(messages: list[str], kill: Kill | None) -> None:
    parser = OomParser()
    *before, last = [parser.feed(message) for message in messages]
    assert before == [None] * len(before)
    assert last == kill


def test_one_account_after_another() -> None:
    parser = OomParser()
    kills = [parser.feed(message) for message in (BEGIN, MODERN, NOISE, BEGIN, END)]
    assert [kill.limit for kill in kills if kill] == ["/kubepods/burstable/pod1", "/"]


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (b"6,2565,102258085667,-;docker0: port 2 entered blocking state", "docker0: port 2 entered blocking state"),
        (b"6,2565,102258085667,-,more=1;a;b", "a;b"),
        (b"6,2565,1;", ""),
        (b" SUBSYSTEM=net", None),
        (b"6,2565;text", None),
        (b"x,2565,1;text", None),
        (b"6,1,1,-;\xff", "\ufffd"),
    ],
)
def test_the_head_of_a_record(record: bytes, text: str | None) -> None:
    assert text_of(record) == text


def test_a_kill_for_everybodys_memory_is_an_event_and_others_are_not() -> None:
    events: list[tuple[str, str, str]] = []
    reader, writer = os.pipe2(os.O_DIRECT)  # each write is read by itself, as from the kernel
    path = Path(f"/proc/self/fd/{reader}")

    async def watch() -> None:
        watcher = asyncio.ensure_future(OomWatcher(lambda *event: events.append(event), path).run())
        for message in (BEGIN, MODERN, "nonsense", BEGIN, EVERYBODY, END):
            os.write(writer, f"6,1,1,-;{message}".encode())
        os.write(writer, b" KEY=value")
        async with asyncio.timeout(60):
            while not events:
                await asyncio.sleep(0.01)
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)

    asyncio.run(watch())
    os.close(writer)
    os.close(reader)
    assert events == [("Warning", "SystemOOM", "System OOM encountered, victim process: badsysprogram, pid: 1532")]


@pytest.mark.parametrize("content", [None, b"6,1,1,-;text"])
def test_a_machine_without_a_kernel_log_goes_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    path = tmp_path / "kmsg"
    if content is not None:
        path.write_bytes(content)

    async def watch() -> None:
        watcher = asyncio.ensure_future(OomWatcher(lambda *_: None, path).run())
        async with asyncio.timeout(60):
            while "running out of memory" not in caplog.text:
                await asyncio.sleep(0.01)
        assert not watcher.done()
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)

    asyncio.run(watch())


@pytest.mark.root
def test_a_real_kill_at_a_cgroups_limit_is_read_as_such() -> None:
    """The kernel's own words, whatever its version: a process is killed in a cgroup of its own."""
    v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    root, limit = (v1, "memory.limit_in_bytes") if v1.is_dir() else (v2, "memory.max")
    group = root / f"tiphys-oom-{os.getpid()}"
    group.mkdir()
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    os.lseek(log, 0, os.SEEK_END)
    try:
        (group / limit).write_text(str(8 << 20))
        if (group / "memory.swap.max").exists():
            (group / "memory.swap.max").write_text("0")
        eater = f"open('{group}/cgroup.procs', 'w').write('0'); x = bytearray(64 << 20)"
        child = subprocess.run([sys.executable, "-c", eater], check=False)
        assert child.returncode == -signal.SIGKILL
        parser, kills = OomParser(), list[Kill]()
        while True:
            try:
                record = os.read(log, oom._LONGEST)
            except BlockingIOError:
                break
            if (text := text_of(record)) and (kill := parser.feed(text)):
                kills.append(kill)
        assert f"/{group.name}" in [kill.limit for kill in kills]
    finally:
        os.close(log)
        group.rmdir()
