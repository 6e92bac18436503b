"""Memory that was freed goes back to the machine."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import threading
from tiphys.runtime.system.heap import give_back, share_one_heap

def kib():
    return int(open("/proc/self/statm").read().split()[1]) * 4

def work():
    kept, freed = [], []
    for _ in range(4000):
        freed.append(bytearray(12000))
        kept.append(bytearray(600))  # what is in use beside it keeps the heap from shrinking by itself
    return kept

share_one_heap()
kept = []
threads = [threading.Thread(target=lambda: kept.append(work())) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
before = kib()
give_back()
print(before, kib())
"""


def test_what_was_freed_beside_what_is_in_use_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert after < before * 0.6
