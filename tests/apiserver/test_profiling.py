"""`/debug/pprof/`: who may see it, and that its profiles say what the process did, in the form of pprof."""

from __future__ import annotations

import asyncio
import gzip
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.apiserver.apiworld import World, run
from tests.apiserver.reviewer import run_real
from tiphys.apiserver.config import Config
from tiphys.apiserver.running import _profiles
from tiphys.controlkit.serving.pprof import Profiling
from tiphys.runtime.system import profiles
from tiphys.wire.http import Response

CONFIG = Config(seed=1)
Fields = list[tuple[int, int | bytes]]


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message, by their numbers: integers, and what has a length."""
    at = 0

    def number() -> int:
        nonlocal at
        result = shift = 0
        while True:
            byte = message[at]
            at += 1
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return result

    while at < len(message):
        tag = number()
        if tag & 7 == 0:
            yield tag >> 3, number()
        else:
            assert tag & 7 == 2
            length = number()
            at += length
            yield tag >> 3, message[at - length : at]


def packed(message: bytes) -> list[int]:
    return [value for _, value in fields(b"".join(b"\x08" + bytes(part) for part in _varints(message)))]  # type: ignore[misc]


def _varints(message: bytes) -> Iterator[bytes]:
    start = 0
    for at, byte in enumerate(message):
        if byte < 0x80:
            yield message[start : at + 1]
            start = at + 1


def stacks(response: Response) -> dict[tuple[str, ...], list[int]]:
    """The values of a profile by the functions of a stack, innermost first."""
    assert isinstance(response.body, bytes)
    profile: Fields = list(fields(gzip.decompress(response.body)))

    def messages(wanted: int) -> list[Fields]:
        return [list(fields(value)) for number, value in profile if number == wanted and isinstance(value, bytes)]

    strings = [value.decode() for number, value in profile if number == 6 and isinstance(value, bytes)]
    functions = {dict(row)[1]: strings[int(dict(row)[2])] for row in messages(5)}
    locations = {}
    for row in messages(4):
        line = dict(fields(bytes(dict(row)[4])))  # type: ignore[arg-type]
        locations[dict(row)[1]] = functions[line[1]]
    found = {}
    for row in messages(2):
        sample = dict(row)
        names = tuple(locations[number] for number in packed(bytes(sample[1])))  # type: ignore[arg-type]
        found[names] = packed(bytes(sample[2]))  # type: ignore[arg-type]
    assert strings[0] == ""
    return found


def test_a_profile_says_which_functions_took_the_processor() -> None:
    ended = threading.Event()

    def spin_for_the_profile() -> None:
        while not ended.is_set():
            sum(range(1000))

    async def work(world: World) -> None:
        thread = threading.Thread(target=spin_for_the_profile)
        thread.start()
        try:
            answer = await world.raw("GET", "/debug/pprof/profile?seconds=0.5")
        finally:
            ended.set()
            thread.join()
        assert answer.status == 200
        assert answer.headers["Content-Disposition"] == 'attachment; filename="profile"'
        found = stacks(answer)
        busy = [values for names, values in found.items() if any("spin_for_the_profile" in name for name in names)]
        assert sum(count for count, _ in busy) >= 1
        assert sum(nanoseconds for _, nanoseconds in busy) > 1_000_000

    run_real(work, CONFIG)


def spin_in_a_child() -> int:
    """What a profile of this process shows of its main thread, in nanoseconds."""
    seen: dict[profiles.Stack, tuple[int, int]] = {}
    looking = threading.Thread(target=lambda: seen.update(profiles.sample(0.3)))
    looking.start()
    while looking.is_alive():
        sum(range(1000))
    return sum(took for stack, (_, took) in seen.items() if any("spin_in_a_child" in at[0] for at in stack))


def test_a_forked_process_sees_its_own_main_thread() -> None:
    child = os.fork()  # multiprocessing mends the number of the thread, which a supervisor's child has not done
    if child == 0:
        os._exit(0 if spin_in_a_child() > 1_000_000 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_tasks_are_shown_where_they_wait() -> None:
    async def work(world: World) -> None:
        async def wait_for_the_test() -> None:
            await asyncio.Event().wait()

        waiting = [asyncio.create_task(wait_for_the_test(), name=f"waits {number}") for number in range(3)]
        await asyncio.sleep(0)
        found = stacks(await world.raw("GET", "/debug/pprof/goroutine"))
        assert [values for names, values in found.items() if "wait_for_the_test" in names[0]] == [[3]]
        text = (await world.raw("GET", "/debug/pprof/goroutine?debug=2")).body
        assert isinstance(text, bytes)
        assert b"task waits 2:\n" in text
        assert b"in wait_for_the_test" in text
        for task in waiting:
            task.cancel()

    run(work, CONFIG)


def test_only_one_profile_is_taken_at_a_time() -> None:
    async def work(world: World) -> None:
        pair = [world.raw("GET", "/debug/pprof/profile?seconds=0.2") for _ in range(2)]
        first, second = sorted(await asyncio.gather(*pair), key=lambda answer: answer.status)
        assert (first.status, second.status) == (200, 500)
        assert second.body == b"Could not enable CPU profiling: cpu profiling already in use\n"

    run_real(work, CONFIG)


def test_strangers_see_none_and_nobody_does_without_it() -> None:
    async def work(world: World) -> None:
        for path in ("", "cmdline", "goroutine", "profile"):
            assert (await world.raw("GET", f"/debug/pprof/{path}", user=("u", ()))).status == 403
        assert (await world.raw("GET", "/debug/pprof/")).status == 200
        assert (await world.raw("GET", "/debug/pprof/heap")).status == 404
        assert "/debug/pprof/" not in (await world.json("GET", "/"))["paths"]

    run(work, CONFIG)

    async def without(world: World) -> None:
        assert (await world.raw("GET", "/debug/pprof/cmdline")).status == 404

    run(without, replace(CONFIG, profiling=False))


def test_the_socket_is_the_administrators_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "debug"
    path.write_text("left behind")

    async def work() -> None:
        async with _profiles(Profiling(), str(path)):
            assert path.stat().st_mode & 0o777 == 0o600
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"GET /debug/pprof/cmdline HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
            writer.close()
        assert not path.exists()

    asyncio.run(work())


def test_a_stack_that_ends_costs_nothing() -> None:
    assert profiles._processor_time(None) == 0
    assert profiles.sample(0) == {}
