"""`tiphys status`: what the supervisor says of its processes, what they weigh, and whether the node is ready."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiphys.cli.connect import admin_client
from tiphys.cli.console import table
from tiphys.cli.options import existing_cluster, parser
from tiphys.client.errors import ApiError
from tiphys.client.resources import NODES
from tiphys.cluster import lifecycle
from tiphys.cluster.settings import Settings


def main(argv: Sequence[str]) -> int:
    """Exit status 0 if every component runs and the node is ready, 1 if not, 3 if nothing runs."""
    options = parser("status", "Show the cluster's processes and its node.")
    options.add_argument("-o", "--output", choices=("text", "json"), default="text")
    arguments = options.parse_args(argv)
    settings = existing_cluster(arguments.data_dir)
    state = status(settings)
    print(json.dumps(state, indent=2) if arguments.output == "json" else render(state))
    if not state["running"]:
        return 3
    return 0 if state["ready"] else 1


def status(settings: Settings) -> dict[str, Any]:
    """``running``, ``ready``, ``supervisor`` (pid), ``components`` by name, and ``node``."""
    pid = lifecycle.supervisor_pid(settings)
    if not pid:
        return {"running": False, "ready": False, "dataDir": str(settings.data_dir), "components": {}}
    components = lifecycle.component_states(settings)
    for component in components.values():
        component["memoryKiB"] = proportional_memory(component["pid"])
    node = asyncio.run(_node(settings))
    running = all(c["state"] == "running" for c in components.values())
    return {
        "running": True,
        "ready": running and node == "Ready",
        "supervisor": pid,
        "dataDir": str(settings.data_dir),
        "server": settings.server,
        "kubeconfig": str(settings.kubeconfig("admin")),
        "node": node,
        "components": components,
    }


def render(state: dict[str, Any]) -> str:
    if not state["running"]:
        return f"The cluster in {state['dataDir']} is not running; start it with `tiphys up`."
    rows = [
        (name, _state(c), c["pid"] or "-", c["restarts"], f"{c['memoryKiB'] // 1024}Mi", c["lastExit"] or "-")
        for name, c in state["components"].items()
    ]
    return (
        f"server:      {state['server']}\nkubeconfig:  {state['kubeconfig']}\nnode:        {state['node']}\n\n"
        + table(("COMPONENT", "STATE", "PID", "RESTARTS", "MEMORY", "LAST EXIT"), rows)
    )


def proportional_memory(pid: int) -> int:
    """A process's memory in KiB, each page that is shared counted in parts (PSS); 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def _state(component: dict[str, Any]) -> str:
    retry = f" ({component['retryIn']:.0f}s)" if component["state"] == "backoff" else ""
    return f"{component['state']}{retry}"


async def _node(settings: Settings) -> str:
    client = admin_client(settings, timeout=5)
    try:
        node = await client.get(NODES, settings.node_name)
    except (ApiError, ConnectionError, TimeoutError) as error:
        return f"unknown: {error}"
    finally:
        await client.close()
    return node_readiness(node)


def node_readiness(node: dict[str, Any]) -> str:
    """``Ready``, or ``NotReady`` with the kubelet's reason."""
    conditions = node.get("status", {}).get("conditions") or []
    ready = next((c for c in conditions if c["type"] == "Ready"), None)
    if ready is None:
        return "NotReady: the kubelet has not reported yet"
    return "Ready" if ready["status"] == "True" else f"NotReady: {ready.get('message', '')}"
