"""`tiphys node`: further nodes of the cluster on this machine, each with its own network, containerd and files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tiphys.cli import nodes as running
from tiphys.cli.connect import admin_client
from tiphys.cli.console import Console, fail, table
from tiphys.cli.image import bring
from tiphys.cli.options import existing_cluster, parser
from tiphys.cli.status import node_readiness
from tiphys.client.errors import ApiError
from tiphys.client.resources import NODES
from tiphys.cluster import lifecycle
from tiphys.cluster.networking import nodenetwork
from tiphys.cluster.nodes import further_nodes
from tiphys.cluster.reset import remove_node
from tiphys.cluster.settings import Settings, SettingsError

_VERBS = {
    "add": "add a node and start it",
    "list": "list the nodes",
    "stop": "stop a node's pods and processes; its files stay",
    "start": "start a node that was stopped",
    "partition": "cut a node off from all others, without telling it",
    "heal": "end a partition",
    "delete": "stop a node and remove everything of it, its Node object included",
}


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys node VERB``; returns the exit status."""
    options = parser("node", "Add, list, stop, start, cut off and delete further nodes on this machine.")
    verbs = options.add_subparsers(dest="verb", required=True)
    for verb, text in _VERBS.items():
        added = verbs.add_parser(verb, help=text)
        if verb == "list":
            added.add_argument("-o", "--output", choices=("text", "json"), default="text")
        else:
            added.add_argument("name", help="the node's name")
        if verb == "delete":
            added.add_argument(
                "--keep-object", action="store_true", help="leave its Node to a cloud controller manager"
            )
    arguments = options.parse_args(argv)
    cluster = existing_cluster(arguments.data_dir)
    try:
        if arguments.verb == "list":
            return _list(cluster, arguments.output)
        if arguments.verb == "add":
            return _add(cluster, arguments.name)
        acts: dict[str, Callable[[Settings, Settings], int]] = {
            "stop": _stop,
            "start": _start,
            "partition": _partition,
            "heal": _heal,
            "delete": partial(_delete, keep_object=getattr(arguments, "keep_object", False)),
        }
        return acts[arguments.verb](cluster, _existing(cluster, arguments.name))
    except (SettingsError, nodenetwork.NodeNetworkError, lifecycle.StillRunning) as error:
        fail(error)


def _existing(cluster: Settings, name: str) -> Settings:
    node = further_nodes(cluster).get(name)
    if node is None:
        if name == cluster.node_name:
            fail(f"{name} is the first node, which runs the control plane; see `tiphys down` and `tiphys up`")
        fail(f"no node {name}; see `tiphys node list`")
    return node


def _needs_cluster(cluster: Settings) -> None:
    if not lifecycle.supervisor_pid(cluster):
        fail("the cluster is not running; start it with `tiphys up`")


def _add(cluster: Settings, name: str) -> int:
    _needs_cluster(cluster)
    return _run(cluster, running.add(cluster, [name]))


def _start(cluster: Settings, node: Settings) -> int:
    _needs_cluster(cluster)
    return _run(cluster, [node])


def _run(cluster: Settings, wanted: Sequence[Settings]) -> int:
    console = Console()
    started = running.start(cluster, wanted)
    if not started:
        console.say(f"Node {wanted[0].node_name} runs already.")
    bring(cluster, started, console)
    asyncio.run(running.wait_until_ready(cluster, started, console))
    return 0


def _stop(_: Settings, node: Settings) -> int:
    console = Console()
    if not lifecycle.supervisor_pid(node):
        console.say(f"Node {node.node_name} is not running.")
        return 0
    with console.step(f"Stopping the pods and the processes of node {node.node_name}"):
        lifecycle.stop(node)
    return 0


def _partition(cluster: Settings, node: Settings) -> int:
    nodenetwork.set_partitioned(cluster, node.node_name, cut=True)
    return 0


def _heal(cluster: Settings, node: Settings) -> int:
    nodenetwork.set_partitioned(cluster, node.node_name, cut=False)
    return 0


def _delete(cluster: Settings, node: Settings, *, keep_object: bool) -> int:
    """The Node object last: a kubelet that still runs would make it again."""
    console = Console()
    name = node.node_name
    with console.step(f"Stopping the pods and the processes of node {name}"):
        lifecycle.stop(node)
    with console.step(f"Removing what node {name} made"):
        runs = bool(lifecycle.supervisor_pid(cluster))
        problems = running.forget(cluster, name) if runs and not keep_object else []
        problems += remove_node(cluster, node)
    if problems:
        fail("not everything could be removed; a second `tiphys node delete` tries again:", *problems)
    return 0


def _list(cluster: Settings, output: str) -> int:
    rows = listing(cluster)
    if output == "json":
        print(json.dumps(rows, indent=2))
    else:
        heads = ("NODE", "ADDRESS", "PROCESSES", "NETWORK", "STATUS")
        print(table(heads, [[row[head.lower()] for head in heads] for row in rows]))
    return 0


def listing(cluster: Settings) -> list[dict[str, Any]]:
    """Each node: its name, address, whether its processes run, whether it is cut off, and what the API server says."""
    readiness = asyncio.run(_readiness(cluster)) if lifecycle.supervisor_pid(cluster) else {}
    rows = []
    for node in (cluster, *further_nodes(cluster).values()):
        further = bool(node.joined)
        cut = further and nodenetwork.is_partitioned(cluster, node.node_name)
        rows.append(
            {
                "node": node.node_name,
                "address": node.node_ip,
                "addresses": list(node.node_ips),
                "processes": "running" if lifecycle.supervisor_pid(node) else "stopped",
                "network": "cut off" if cut else "connected",
                "status": readiness.get(node.node_name, "unknown"),
            }
        )
    return rows


async def _readiness(cluster: Settings) -> dict[str, str]:
    client = admin_client(cluster, timeout=5)
    try:
        listed = await client.list(NODES)
    except (ApiError, ConnectionError, TimeoutError):
        return {}
    finally:
        await client.close()
    return {node["metadata"]["name"]: node_readiness(node) for node in listed["items"]}
