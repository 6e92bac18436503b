"""What the kernel lets this process do. Source: capabilities(7)"""

from __future__ import annotations

from pathlib import Path

CAP_SYS_RESOURCE = 24


def has_capability(number: int) -> bool:
    """Whether this process has a capability in its effective set."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False
