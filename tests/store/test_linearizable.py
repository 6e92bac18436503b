"""Clients of a ``tiphys etcd`` that is killed and started again under them: their answers are linearizable."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from pathlib import Path

from tests.store import tiphys_etcd
from tests.store.etcds import free_ports
from tests.store.linearizable import NEVER, Operation, linearizable
from tiphys.store.backend import Compare, CompareTarget, Put, Range, Txn, Unavailable
from tiphys.store.etcdchannel import Unanswered
from tiphys.store.etcdclient import EtcdBackend

KEYS = 4
CLIENTS = 6
KILLS = 4
BETWEEN_KILLS = 30
"""How many operations are answered between two kills, whatever time they take."""


def test_the_checker_itself() -> None:
    put = Operation("put", "1", 0, 1)
    assert linearizable([put, Operation("get", "1", 2, 3)])
    assert not linearizable([put, Operation("get", "", 2, 3)])
    assert linearizable([put, Operation("get", "", 0.5, 3)])
    assert linearizable([Operation("put", "1", 0, NEVER), Operation("get", "", 2, 3), Operation("get", "1", 4, 5)])
    assert not linearizable([Operation("put", "1", 0, NEVER), Operation("get", "1", 2, 3), Operation("get", "", 4, 5)])
    swap = Operation("cas", "2", 2, 3, expected="1")
    assert linearizable([put, swap, Operation("get", "2", 4, 5)])
    assert not linearizable([swap])
    assert linearizable([Operation("cas", "2", 2, 3, expected="1", ok=False), Operation("get", "", 4, 5)])


async def client(
    number: int, endpoint: str, ended: asyncio.Event, histories: dict[bytes, list[Operation]], seed: int
) -> None:
    chance = random.Random(seed * 1000 + number)
    backend = EtcdBackend([endpoint], timeout=2.0)
    seen: dict[bytes, str] = {}
    count = 0
    try:
        while not ended.is_set():
            count += 1
            key = b"/r/%d" % chance.randrange(KEYS)
            value = f"{number}.{count}"
            kind = chance.choice(["get", "put", "cas"])
            expected = seen.get(key, "")
            called = time.monotonic()
            ok = True
            try:
                if kind == "get":
                    kvs = (await backend.range(Range(key))).kvs
                    seen[key] = value = kvs[0].value.decode() if kvs else ""
                elif kind == "put":
                    await backend.put(Put(key, value.encode()))
                else:
                    absent = Compare(key, CompareTarget.VERSION, "=", 0)
                    same = Compare(key, CompareTarget.VALUE, "=", expected.encode())
                    request = Txn([same if expected else absent], [Put(key, value.encode())])
                    ok = (await backend.txn(request)).succeeded
            except Unavailable as error:
                sent = error.sent if isinstance(error, Unanswered) else True
                if kind != "get" and sent:
                    histories[key].append(Operation(kind, value, called, NEVER, expected))
                await asyncio.sleep(0.02)
                continue
            histories[key].append(Operation(kind, value, called, time.monotonic(), expected, ok))
            await asyncio.sleep(chance.random() * 0.03)
    finally:
        await backend.close()


def answered(histories: dict[bytes, list[Operation]]) -> int:
    return sum(operation.returned != NEVER for history in histories.values() for operation in history)


async def until_answered(histories: dict[bytes, list[Operation]], more: int) -> None:
    wanted = answered(histories) + more
    async with asyncio.timeout(120):
        while answered(histories) < wanted:
            await asyncio.sleep(0.01)


def test_concurrent_clients_of_a_server_that_is_killed(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    (port,) = free_ports(1)
    histories: dict[bytes, list[Operation]] = {b"/r/%d" % key: [] for key in range(KEYS)}

    async def main() -> None:
        chance = random.Random(seed)
        process = tiphys_etcd.start(tmp_path / "data", port)
        try:
            await asyncio.to_thread(tiphys_etcd.wait_until_healthy, process, port)
            ended = asyncio.Event()
            clients = [
                asyncio.create_task(client(number, f"127.0.0.1:{port}", ended, histories, seed))
                for number in range(CLIENTS)
            ]
            for _ in range(KILLS):
                await until_answered(histories, BETWEEN_KILLS)
                await asyncio.sleep(chance.random() * 0.1)
                process.send_signal(signal.SIGKILL)
                await asyncio.to_thread(process.wait, 10)
                assert process.stderr is not None
                process.stderr.close()
                process = tiphys_etcd.start(tmp_path / "data", port)
            await until_answered(histories, BETWEEN_KILLS)
            ended.set()
            await asyncio.gather(*clients)
        finally:
            process.kill()
            process.wait(10)
            if process.stderr is not None:
                process.stderr.close()

    asyncio.run(main())
    for key, history in histories.items():
        assert linearizable(history), (seed, key)
