"""Kill a writer at random points, many times: what it was told is durable must be there, and nothing by halves."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.store.etcds import embedded
from tiphys.store.backend import Compacted, Range, WatchRequest

ROUNDS = 200
SEED = int(os.environ.get("CRASH_SEED", "0")) or random.randrange(1 << 30)


@contextmanager
def writer() -> Iterator[subprocess.Popen[str]]:
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.store.writer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()
        process.kill()
        process.wait(10)


def one_round(process: subprocess.Popen[str], directory: Path, delay: float) -> list[list[str]]:
    """Let it write for ``delay`` seconds, kill it; returns what it told."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{directory}\n")
    process.stdin.flush()
    told: list[list[str]] = []
    child = 0
    for line in process.stdout:
        words = line.split()
        if words[0] == "pid":
            child = int(words[1])
            if delay < 0.004:  # in the middle of opening the store
                os.kill(child, signal.SIGKILL)
        elif words[0] == "open" and delay >= 0.004:
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
        elif words[0] == "ended":
            assert int(words[1]) == -signal.SIGKILL
            break
        else:
            told.append(words)
    return told


def test_what_was_acknowledged_survives(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    print(f"CRASH_SEED={SEED}")
    directory = tmp_path / "data"
    expected: dict[str, tuple[str, int]] = {}
    written = 0
    revision = 1
    with writer() as process:
        for _ in range(ROUNDS):
            told = one_round(process, directory, chance.random() * 0.05)
            written += len(told)
            for kind, number, text, at in told:
                for name in ("a", "b") if kind == "pair" else ("own",):
                    key = f"/{name}/{number}"
                    if int(at) >= expected.get(key, ("", 0))[1]:
                        expected[key] = ("" if kind == "gone" else text, int(at))
            revision = asyncio.run(check(directory, expected, revision))
    assert written > ROUNDS


async def check(directory: Path, expected: dict[str, tuple[str, int]], before: int) -> int:
    """Compare the store with what was acknowledged; returns its revision."""
    async with embedded(directory) as store:
        result = await store.range(Range(b"\0", b"\0"))
        found = {kv.key.decode(): kv for kv in result.kvs}
        newest = max((at for _, at in expected.values()), default=1)
        assert result.revision >= max(newest, before)
        for key, (text, at) in expected.items():
            kv = found.get(key)
            if kv is not None and kv.mod_revision <= at:
                assert (kv.value.decode(), kv.mod_revision) == (text, at), key
            elif kv is None and text:  # deleted after the write that was acknowledged last
                assert await deleted_after(store, key, at), key
        for key in list(found):
            if key.startswith("/a/"):
                pair = found[key.replace("/a/", "/b/")]
                assert (found[key].value, found[key].mod_revision) == (pair.value, pair.mod_revision), (
                    "half a transaction"
                )
        await check_history(store, result.revision)
        return result.revision


async def deleted_after(store, key: str, at: int) -> bool:  # type: ignore[no-untyped-def]
    if store.core.compacted > at:
        return True
    watch = await store.watch(WatchRequest(key.encode(), None, at + 1))
    batch = await anext(aiter(watch))
    await watch.close()
    return batch.events[-1].type.name == "DELETE"


async def check_history(store, revision: int) -> None:  # type: ignore[no-untyped-def]
    """Revisions follow each other without a gap, and a watch can begin anywhere that is not compacted."""
    first = store.core.compacted + 1
    if first > revision or revision == 1:
        return
    watch = await store.watch(WatchRequest(b"\0", b"\0", max(first, 2)))
    seen: list[int] = []
    try:
        while not seen or seen[-1] < revision:
            seen += [event.kv.mod_revision for event in (await anext(aiter(watch))).events]
    except Compacted:
        raise AssertionError("a watch from a kept revision was refused") from None
    await watch.close()
    assert sorted(set(seen)) == list(range(max(first, 2), revision + 1))
    assert seen == sorted(seen)
