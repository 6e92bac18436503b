"""Starting the further nodes of a cluster: each its own supervisor, in its own network namespace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial

from tiphys.cli.connect import admin_client
from tiphys.cli.console import Console, fail
from tiphys.cli.programs.lists import node_programs, preload_node
from tiphys.cli.programs.warmup import warm_up
from tiphys.cli.status import node_readiness
from tiphys.client.errors import ApiError, Conflict, NotFound
from tiphys.client.resources import NODES
from tiphys.client.rest import Client
from tiphys.cluster import lifecycle, nodes, tlsbootstrap
from tiphys.cluster.networking import nodenetwork
from tiphys.cluster.settings import Settings, SettingsError
from tiphys.cluster.supervisor import Supervisor, share_memory
from tiphys.runtime import logs

READY_SECONDS = 90.0
POLL_SECONDS = 0.03


def add(cluster: Settings, names: Sequence[str]) -> list[Settings]:
    """Define further nodes and write their files; nothing runs yet. Ends the command where that cannot be."""
    known = nodes.further_nodes(cluster)
    try:
        for name in names:
            known[name] = nodes.prepare(cluster, nodes.define(cluster, name, known.values()))
    except SettingsError as error:
        fail(error)
    return [known[name] for name in names]


def start(cluster: Settings, wanted: Sequence[Settings]) -> list[Settings]:
    """Start those that do not run, each as a daemon; gives them with the settings that they were started with."""
    stopped = [node for node in wanted if not lifecycle.supervisor_pid(node)]
    if not stopped:
        return []
    preload_node()
    warm_up(cluster)
    started = []
    for node in stopped:
        prepared = nodes.prepare(cluster, node)
        try:
            nodenetwork.ensure(cluster, prepared)
        except (nodenetwork.NodeNetworkError, SettingsError, OSError) as error:
            fail(f"node {node.node_name} has no network: {error}")
        try:
            lifecycle.start_daemon(prepared, partial(_supervise, cluster, prepared))
        except lifecycle.AlreadyRunning:
            continue
        started.append(prepared)
    return started


def _supervise(cluster: Settings, node: Settings) -> None:
    """Run a node's processes until SIGTERM, in its network namespace. The caller holds the lock."""
    nodenetwork.enter(cluster, node.node_name)
    logs.configure(node.verbosity)
    share_memory()
    Supervisor(node_programs(node), node.logs, node.state_file).run()


async def wait_until_ready(cluster: Settings, wanted: Sequence[Settings], console: Console) -> None:
    """Let the nodes register, approve what they serve with, and return when all are Ready."""
    if not wanted:
        return
    names = ", ".join(node.node_name for node in wanted)
    client = admin_client(cluster, timeout=5)
    tokens: list[str] = []
    try:
        with console.step(f"Waiting for node{'s' if len(wanted) > 1 else ''} {names} to be Ready"):
            await _first_has_its_range(cluster, client)
            tokens += [await _invite(client, node) for node in wanted if tlsbootstrap.needs_token(node)]
            await asyncio.gather(*(_ready(client, node) for node in wanted))
    finally:
        for token in tokens:
            await tlsbootstrap.delete_token(client, token)
        await client.close()


async def _first_has_its_range(cluster: Settings, client: Client) -> None:
    """The first node's network is configured for the first range, so it is given that before others ask."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        node = await client.get(NODES, cluster.node_name)
        if (node.get("spec") or {}).get("podCIDR"):
            return
        if time.monotonic() > deadline:
            fail(f"node {cluster.node_name} was given no pod addresses; see `tiphys logs kube-controller-manager`")
        await asyncio.sleep(POLL_SECONDS)


async def _invite(client: Client, node: Settings) -> str:
    """Make a token for a node and hand it over; gives the token."""
    token = tlsbootstrap.new_token()
    await tlsbootstrap.create_token(client, token, node.node_name)
    nodes.write_bootstrap(node, token)
    return token


async def _ready(client: Client, node: Settings) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not await _is_ready(client, node):
        if not lifecycle.supervisor_pid(node):
            fail(f"node {node.node_name} ended; see `tiphys logs supervisor --node {node.node_name}`")
        if time.monotonic() > deadline:
            states = lifecycle.component_states(node)
            ill = [f"  {name}: {c['state']}, {c['lastExit']}" for name, c in states.items() if c["state"] != "running"]
            fail(
                f"node {node.node_name} is not Ready after {READY_SECONDS:.0f} s; "
                f"see `tiphys logs kubelet --node {node.node_name}`",
                *ill,
            )
        await asyncio.sleep(POLL_SECONDS)


async def _is_ready(client: Client, node: Settings) -> bool:
    states = lifecycle.component_states(node)
    try:
        await tlsbootstrap.approve_serving(client, node.node_name, node.node_ips)
        seen = await client.get(NODES, node.node_name)
    except (NotFound, Conflict, ConnectionError, TimeoutError):
        return False
    runs = bool(states) and all(c["state"] == "running" for c in states.values())
    return runs and node_readiness(seen) == "Ready"


def forget(cluster: Settings, name: str) -> list[str]:
    """Remove a node's object from the API server; gives what could not be done."""

    async def delete() -> list[str]:
        client = admin_client(cluster, timeout=10)
        try:
            await client.delete(NODES, name)
        except NotFound:
            return []
        except (ApiError, ConnectionError, TimeoutError) as error:
            return [f"the Node object {name} could not be deleted: {error}"]
        finally:
            await client.close()
        return []

    return asyncio.run(delete())
