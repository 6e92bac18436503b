"""How long a cluster takes to come up, and what its processes weigh, against the budgets of the design.

Usage: python -m bench.startup [--runs N]     (needs root; runs in a network namespace of its own)

Prints, for each run: seconds to /readyz, to a Ready node, and to the demo's three pods Running, each from the start of
`tiphys up` or `tiphys demo`; then the idle memory of each process (PSS: shared pages count in parts), a minute's quiet
not awaited.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

from tests.machine import NODE_IP, Machine, machine, wait_for

BUDGETS = {"readyz": 0.5, "node Ready": 2.0, "one pod": 0.5, "in-process": 0.2}
MEMORY_BUDGET_MIB = 150
CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")


def measure(host: Machine) -> tuple[dict[str, float], dict[str, float]]:
    """Times in seconds, and memory in MiB by component."""
    times: dict[str, float] = {}
    started = time.monotonic()
    up = host.start_tiphys("up")
    wait_for(lambda: _answers(host), 60, "/readyz")
    times["readyz"] = time.monotonic() - started
    up.wait(120)
    times["node Ready"] = time.monotonic() - started
    started = time.monotonic()
    host.tiphys("demo", timeout=150)
    times["demo Running"] = time.monotonic() - started
    started = time.monotonic()
    image = "tiphys.local/demo:1"
    host.kubectl("run", "one", f"--image={image}", "--command", "--", "sleep", "1000")
    host.kubectl("wait", "pod/one", "--for=condition=Ready", "--timeout=60s")
    times["one pod"] = time.monotonic() - started
    host.kubectl("delete", "pod", "one", "--now")
    host.tiphys("demo", "--delete", timeout=120)
    time.sleep(5)  # the quiet that "idle" means
    memory = {name: c["memoryKiB"] / 1024 for name, c in host.components().items()}
    host.tiphys("reset", "--yes", timeout=180)
    return times, memory


def _answers(host: Machine) -> bool:
    done = host.run("curl", "-sk", "--max-time", "1", f"https://{NODE_IP}:6443/readyz", check=False)
    return done.stdout == "ok"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--json", action="store_true")
    arguments = options.parse_args()
    results: list[tuple[dict[str, float], dict[str, float]]] = []
    for _ in range(arguments.runs):
        with machine("tiphys-bench") as host:
            results.append(measure(host))
    times = {name: statistics.median(t[name] for t, _ in results) for name in results[0][0]}
    times["in-process"] = in_process_start()
    memory = {name: statistics.median(m[name] for _, m in results) for name in results[0][1]}
    if arguments.json:
        print(json.dumps({"times": times, "memoryMiB": memory}))
    else:
        report(times, memory)


def in_process_start(runs: int = 5) -> float:
    """The median time in which `tiphys.testing.Cluster` is up, modules imported, in seconds."""
    from tiphys.testing import Cluster

    times = []
    for _ in range(runs):
        started = time.monotonic()
        with Cluster():
            times.append(time.monotonic() - started)
    return statistics.median(times)


def report(times: dict[str, float], memory: dict[str, float]) -> None:
    for name, seconds in times.items():
        print(f"{name:<16} {seconds:7.2f} s{_against(seconds, BUDGETS.get(name), 's')}")
    for name, mib in memory.items():
        print(f"{name:<28} {mib:7.1f} MiB")
    total = sum(memory[name] for name in CONTROL_PLANE)
    print(f"{'store + API + controllers + scheduler':<38}{total:7.1f} MiB{_against(total, MEMORY_BUDGET_MIB, 'MiB')}")


def _against(value: float, budget: float | None, unit: str) -> str:
    return "" if budget is None else f"   budget {budget:g} {unit}, ratio {value / budget:.2f}"


if __name__ == "__main__":
    main()
