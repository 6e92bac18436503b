"""A process that writes until it is killed, and tells of each write that was acknowledged.

It serves ``rounds``: for each line on standard input (a directory) it forks a child that opens the store there and
writes; forking spares the imports. The child's answers go to standard output, one short line each, written at once.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys

from tiphys.runtime.clock import SystemClock
from tiphys.store.backend import Compare, CompareTarget, Delete, Put, Txn
from tiphys.store.sqlite import SQLiteBackend

CLIENTS = 8


def tell(text: str) -> None:
    os.write(1, f"{text}\n".encode())


async def write(directory: str, seed: int) -> None:
    """Each client counts up: a pair of keys in one transaction, a key of its own, and now and then a deletion."""
    store = await SQLiteBackend.open(directory, SystemClock())
    tell("open")
    shuffle = random.Random(seed)

    async def client(number: int) -> None:
        count = 0
        while True:
            count += 1
            text = f"{seed}.{count}".encode()
            a, b, own = (f"/{name}/{number}".encode() for name in ("a", "b", "own"))
            swap = Txn([Compare(a, CompareTarget.VERSION, ">", -1)], [Put(a, text), Put(b, text)])
            pair = (await store.txn(swap)).revision
            tell(f"pair {number} {text.decode()} {pair}")
            if shuffle.random() < 0.2:
                await store.delete(Delete(own))
                tell(f"gone {number} {text.decode()} {await store.current_revision()}")
            else:
                tell(f"own {number} {text.decode()} {(await store.put(Put(own, text))).revision}")
            if shuffle.random() < 0.02 and pair > 10:
                await store.compact(pair - 5)

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))


def main() -> None:
    for seed, line in enumerate(sys.stdin):
        child = os.fork()
        if child == 0:
            asyncio.run(write(line.strip(), seed))
            os._exit(1)
        tell(f"pid {child}")
        _, status = os.waitpid(child, 0)
        tell(f"ended {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
