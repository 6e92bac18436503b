"""What a change costs among many network policies: here, and in the kernel's nftables.

    python -m bench.policies [--policies 1000] [--pods 1000]

Needs root: the table is loaded in a network namespace of its own. Each figure is the median of ten changes in ms, by
the wall clock; ``decide`` is what the table's commands take in Python, ``library`` the same commands in this process,
``process`` by ``nft -f -``.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable

from tests.proxy.lab import Lab, lab
from tests.proxy.test_policy import cluster, numbered, pod
from tiphys.proxy.libnftables import Libnftables
from tiphys.proxy.policy.table import PolicyTable
from tiphys.runtime.system import hosttools


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policies", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=1000)
    flags = parser.parse_args()
    with lab() as net:
        measure(net, flags.pods, flags.policies)


def measure(net: Lab, pods: int, policies: int) -> None:
    table = cluster(pods=pods, policies=policies)
    started = time.perf_counter()
    commands = table.rebuild()
    print(f"from nothing, decide: {1e3 * (time.perf_counter() - started):.0f} ms, {len(commands)} commands")
    batch = "\n".join(commands) + "\n"
    started = time.perf_counter()
    asyncio.run(hosttools.run(("ip", "netns", "exec", net.node, "nft", "-f", "-"), batch))
    print(f"from nothing, load:   {1e3 * (time.perf_counter() - started):.0f} ms")
    nft = net.inside(net.node, Libnftables)

    def in_process(text: str) -> None:
        nft.execute(text)

    def by_command(text: str) -> None:
        asyncio.run(hosttools.run(("ip", "netns", "exec", net.node, "nft", "-f", "-"), text))

    for name, change in (("one pod", change_pod), ("one policy", change_policy)):
        for kind, execute in (("library", in_process), ("process", by_command)):
            decide, load = zip(*(once(table, change, execute, n) for n in range(10)), strict=True)
            print(f"{name}: decide {statistics.median(decide):.1f} ms, {kind} {statistics.median(load):.1f} ms")


def once(
    table: PolicyTable, change: Callable[[PolicyTable, int], None], execute: Callable[[str], None], n: int
) -> tuple[float, float]:
    started = time.perf_counter()
    change(table, n)
    commands = table.update()
    decided = time.perf_counter()
    execute("\n".join(commands) + "\n")
    return 1e3 * (decided - started), 1e3 * (time.perf_counter() - decided)


def change_pod(table: PolicyTable, n: int) -> None:
    table.pod(("ns-0", "pod-0"), pod("10.244.0.0", namespace="ns-0", app=str(1 + n % 2)))


def change_policy(table: PolicyTable, n: int) -> None:
    table.policy(("ns-0", "p-0"), numbered(0, app=str(1 + n % 2)))


if __name__ == "__main__":
    main()
