"""How long three nodes take to come up on one machine, and what each further node weighs when it has nothing to do.

Usage: python -m bench.nodes [--runs N] [--idle SECONDS]    (needs root; runs in a network namespace of its own)

Prints, for each run: seconds from the start of `tiphys up --nodes 3` until three nodes are Ready, and after ``--idle``
seconds the memory (PSS) of all processes in each further node's network namespace, its containerd included, with the
CPU time that they took meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.machine import Machine, machine

BRIDGE = "benchnodes"
WANTED_SECONDS, WANTED_MIB = 6.0, 120.0


@dataclass(frozen=True)
class Weight:
    mib: float
    cpu: float
    by_process: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--idle", type=float, default=30.0)
    flags = parser.parse_args()
    for _ in range(flags.runs):
        with machine("bench-nodes") as host:
            run(host, flags.idle)


def run(host: Machine, idle: float) -> None:
    started = time.monotonic()
    host.tiphys("up", "--nodes", "3", "--bridge", BRIDGE, timeout=300)
    print(f"three nodes Ready after {time.monotonic() - started:.2f} s (wanted: {WANTED_SECONDS:.0f} s)", flush=True)
    nodes = [node["metadata"]["name"] for node in json.loads(host.kubectl("get", "nodes", "-o", "json"))["items"]]
    further = [name for name in nodes if name.startswith("node-")]
    time.sleep(idle)
    before = {name: weight(name) for name in further}
    time.sleep(idle)
    for name in further:
        after = weight(name)
        parts = ", ".join(f"{program} {mib:.0f}" for program, mib in sorted(after.by_process.items()))
        share = (after.cpu - before[name].cpu) / idle
        print(f"{name}: {after.mib:.0f} MiB (wanted: {WANTED_MIB:.0f}): {parts}; {100 * share:.1f} % of a processor")


def weight(name: str) -> Weight:
    by_process: dict[str, float] = {}
    cpu = 0.0
    for pid in processes(Path(f"/run/netns/{BRIDGE}-{name}")):
        try:
            lines = dict(line.split(":", 1) for line in (pid / "smaps_rollup").read_text().splitlines()[1:])
            program = (pid / "comm").read_text().strip()
            ticks = (pid / "stat").read_text().rpartition(")")[2].split()[11:13]
        except OSError:
            continue
        by_process[program] = by_process.get(program, 0.0) + int(lines["Pss"].split()[0]) / 1024
        cpu += sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return Weight(sum(by_process.values()), cpu, by_process)


def processes(namespace: Path) -> Iterator[Path]:
    inode = namespace.stat().st_ino
    for pid in Path("/proc").iterdir():
        try:
            if pid.name.isdigit() and os.stat(pid / "ns/net").st_ino == inode:
                yield pid
        except OSError:
            continue


if __name__ == "__main__":
    main()
