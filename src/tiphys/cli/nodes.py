"""Starting the further nodes of a cluster: each its own supervisor, in its own network namespace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any

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


async def wait_until_ready(
    cluster: Settings, wanted: Sequence[Settings], console: Console, first: Coroutine[Any, Any, None] | None = None
) -> None:
    """Let the nodes register, approve what they serve with, and return when all are Ready.

    ``first`` waits for the cluster's first node; the others are invited meanwhile.
    """
    if not wanted:
        return
    names = ", ".join(node.node_name for node in wanted)
    client = admin_client(cluster, timeout=5)
    tokens: list[str] = []
    inviting = asyncio.create_task(_invite_all(cluster, client, wanted, tokens))
    try:
        if first is not None:
            await first
        with console.step(f"Waiting for node{'s' if len(wanted) > 1 else ''} {names} to be Ready"):
            await _until_invited(cluster, inviting)
            await asyncio.gather(*(_ready(client, node) for node in wanted))
    finally:
        inviting.cancel()
        await asyncio.gather(inviting, return_exceptions=True)
        for token in tokens:
            await tlsbootstrap.delete_token(client, token)
        await client.close()


async def _invite_all(cluster: Settings, client: Client, wanted: Sequence[Settings], tokens: list[str]) -> None:
    """Invite the nodes that have no certificate yet, once the first node has its range; adds to ``tokens``.

    The first node's network is configured for the first range, so it is given that before others ask.
    """
    while not await _first_has_its_range(cluster, client):
        await asyncio.sleep(POLL_SECONDS)
    for node in wanted:
        if tlsbootstrap.needs_token(node):
            await _invite(client, node, tokens)


async def _until_invited(cluster: Settings, inviting: asyncio.Task[None]) -> None:
    try:
        await asyncio.wait_for(asyncio.shield(inviting), READY_SECONDS)
    except TimeoutError:
        fail(f"node {cluster.node_name} was given no pod addresses; see `tiphys logs kube-controller-manager`")


async def _first_has_its_range(cluster: Settings, client: Client) -> bool:
    try:
        node = await client.get(NODES, cluster.node_name)
    except (ApiError, ConnectionError, TimeoutError):  # it is starting
        return False
    return bool((node.get("spec") or {}).get("podCIDR"))


async def _invite(client: Client, node: Settings, tokens: list[str]) -> None:
    """Make a token for a node, add it to ``tokens``, and hand it over."""
    token = tlsbootstrap.new_token()
    tokens.append(token)
    await tlsbootstrap.create_token(client, token, node.node_name)
    nodes.write_bootstrap(node, token)


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
    return lifecycle.node_runs(states) and node_readiness(seen) == "Ready"


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
