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
from tiphys.client.rest import Client
from tiphys.cluster import lifecycle
from tiphys.cluster.nodes import further_nodes
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
    """``running``, ``ready``, ``supervisor`` (pid), ``components`` by name, ``node``, and ``nodes``: the further ones,
    by name, each with ``running``, ``node`` and ``components`` of its own. ``ready`` is true if all of them are."""
    pid = lifecycle.supervisor_pid(settings)
    if not pid:
        return {"running": False, "ready": False, "dataDir": str(settings.data_dir), "components": {}}
    further = further_nodes(settings)
    readiness = asyncio.run(_readiness(settings, [settings.node_name, *further]))
    node = readiness[settings.node_name]
    components = _components(settings)
    nodes = {name: _further(each, readiness[name]) for name, each in further.items()}
    return {
        "running": True,
        "ready": _is_well(components, node) and all(_is_well(n["components"], n["node"]) for n in nodes.values()),
        "supervisor": pid,
        "dataDir": str(settings.data_dir),
        "server": settings.server,
        "kubeconfig": str(settings.kubeconfig("admin")),
        "node": node,
        "components": components,
        "nodes": nodes,
    }


def _components(node: Settings) -> dict[str, dict[str, Any]]:
    """The processes of one node with their memory; none where its supervisor does not run."""
    if not lifecycle.supervisor_pid(node):
        return {}
    components = lifecycle.component_states(node)
    for component in components.values():
        component["memoryKiB"] = proportional_memory(component["pid"])
    return components


def _further(node: Settings, readiness: str) -> dict[str, Any]:
    pid = lifecycle.supervisor_pid(node)
    return {
        "running": bool(pid),
        "supervisor": pid,
        "address": node.node_ip,
        "node": readiness,
        "components": _components(node),
    }


def _is_well(components: dict[str, dict[str, Any]], readiness: str) -> bool:
    return lifecycle.node_runs(components) and readiness == "Ready"


def render(state: dict[str, Any]) -> str:
    if not state["running"]:
        return f"The cluster in {state['dataDir']} is not running; start it with `tiphys up`."
    parts = [
        f"server:      {state['server']}\nkubeconfig:  {state['kubeconfig']}\nnode:        {state['node']}",
        _processes(state["components"]),
    ]
    for name, node in state["nodes"].items():
        parts.append(f"node {name} at {node['address']}: {node['node']}{'' if node['running'] else ' (stopped)'}")
        if node["components"]:
            parts.append(_processes(node["components"]))
    return "\n\n".join(parts)


def _processes(components: dict[str, dict[str, Any]]) -> str:
    rows = [
        (name, _state(c), c["pid"] or "-", c["restarts"], f"{c['memoryKiB'] // 1024}Mi", c["lastExit"] or "-")
        for name, c in components.items()
    ]
    return table(("COMPONENT", "STATE", "PID", "RESTARTS", "MEMORY", "LAST EXIT"), rows)


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


async def _readiness(settings: Settings, names: Sequence[str]) -> dict[str, str]:
    """What the API server knows of each node, by name."""
    client = admin_client(settings, timeout=5)
    try:
        return {name: await _one_readiness(client, name) for name in names}
    finally:
        await client.close()


async def _one_readiness(client: Client, name: str) -> str:
    try:
        return node_readiness(await client.get(NODES, name))
    except (ApiError, ConnectionError, TimeoutError) as error:
        return f"unknown: {error}"


def node_readiness(node: dict[str, Any]) -> str:
    """``Ready``, or ``NotReady`` with the kubelet's reason."""
    conditions = node.get("status", {}).get("conditions") or []
    ready = next((c for c in conditions if c["type"] == "Ready"), None)
    if ready is None:
        return "NotReady: the kubelet has not reported yet"
    return "Ready" if ready["status"] == "True" else f"NotReady: {ready.get('message', '')}"
