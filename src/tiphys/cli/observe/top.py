"""`tiphys top`: nodes, pods, requests, queues, the store and events of a running cluster, live in the terminal."""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import sys
from collections.abc import Awaitable, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tiphys.api.object import Object
from tiphys.cli.console import fail
from tiphys.cli.observe import figures
from tiphys.cli.observe.figures import Look
from tiphys.cli.options import parser
from tiphys.client.errors import ApiError
from tiphys.client.kubeconfig import KubeconfigError, client_from_file, credentials_from_file, server_of
from tiphys.client.resources import CORE_EVENTS, NODES, PODS, ResourcePath
from tiphys.client.rest import Client
from tiphys.cluster import kubeconfig
from tiphys.cluster.settings import Settings
from tiphys.wire.client import SocketTransport
from tiphys.wire.hostaddress import is_own_address
from tiphys.wire.tls.contexts import client_context

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

NODE_METRICS = ResourcePath("metrics.k8s.io", "v1beta1", "nodes", namespaced=False)
POD_METRICS = ResourcePath("metrics.k8s.io", "v1beta1", "pods")
CONTROLLERS_PORT = 10257
_MOST_PAGE = 32 << 20
_PODS, _EVENTS, _QUEUES = 12, 8, 6


def main(argv: Sequence[str]) -> int:
    """Show until Ctrl-C, or once with ``--once``; returns the exit status."""
    options = parser("top", "Show what the cluster does, live, in the terminal.")
    options.add_argument("--kubeconfig", type=Path, help="the cluster (default: that of `tiphys up`, or $KUBECONFIG)")
    options.add_argument(
        "--interval", type=_seconds, default=2.0, metavar="SECONDS", help="between two looks (default 2)"
    )
    options.add_argument("--once", action="store_true", help="print one picture, and end")
    arguments = options.parse_args(argv)
    try:
        import rich  # noqa: F401
    except ImportError:
        fail("`tiphys top` draws with rich; install it: pip install 'tiphys[top]'")
    try:
        asyncio.run(_run(arguments))
    except (KubeconfigError, ApiError, ConnectionError, TimeoutError) as error:
        fail(error)
    return 0


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.5 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.5 and 3600 seconds")
    return seconds


async def _run(arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.live import Live

    ours = Settings.load(arguments.data_dir.absolute()) if arguments.kubeconfig is None else None
    path = ours.kubeconfig("admin") if ours is not None else arguments.kubeconfig or kubeconfig.user_file()
    client, controllers = client_from_file(path, "tiphys", timeout=10), _controllers(path)
    console = Console()
    try:
        before = await look(client, controllers, ours)
        await asyncio.sleep(min(arguments.interval, 1.0))
        after = await look(client, controllers, ours)
        if arguments.once or not sys.stdout.isatty():
            console.print(picture(before, after, console.width))
            return
        with Live(picture(before, after, console.width), console=console, screen=True, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(arguments.interval)
                before, after = after, await look(client, controllers, ours)
                live.update(picture(before, after, console.width), refresh=True)
    finally:
        await client.close()
        if controllers is not None:
            await controllers.close()


def _controllers(path: Path) -> Client | None:
    """The controller manager's own port on this machine, whose certificate is its own; the user's certificate is shown
    there, never a token. None for a user without a certificate, and for a cluster elsewhere."""
    credentials, host = credentials_from_file(path), urlsplit(server_of(path)).hostname or ""
    if credentials.certificate is None or not is_own_address(host):
        return None
    try:
        tls = client_context(None, credentials.certificate, credentials.key, verify=False)
    except (OSError, ssl.SSLError):
        return None
    return Client(SocketTransport("127.0.0.1", CONTROLLERS_PORT, tls), user_agent="tiphys", timeout=5)


async def look(client: Client, controllers: Client | None, ours: Settings | None) -> Look:
    """Everything that is shown, read at once. What fails is left out and named; nodes must be readable.

    Raises ``ApiError`` and ``ConnectionError`` if the API server does not answer at all.
    """
    troubles: list[str] = []

    async def attempt(what: str, work: Awaitable[Any], otherwise: Any) -> Any:
        try:
            return await work
        except (ApiError, ConnectionError, TimeoutError) as error:
            troubles.append(f"{what}: {error or 'timed out'}")
            return otherwise

    nodes, pods, node_usage, pod_usage, events, page, queues = await asyncio.gather(
        client.list(NODES),
        attempt("pods", client.list(PODS), {}),
        attempt("usage of nodes", client.list(NODE_METRICS), {}),
        attempt("usage of pods", client.list(POD_METRICS), {}),
        attempt("events", client.list(CORE_EVENTS), {}),
        attempt("metrics", _page(client), ""),
        _queues_page(controllers),
    )
    samples = await asyncio.to_thread(lambda: {**figures.read_samples(page), **figures.read_samples(queues)})
    store = await asyncio.to_thread(_size, ours.store) if ours is not None else None
    return Look(
        monotonic(),
        nodes=_items(nodes),
        pods=_items(pods),
        node_usage=_items(node_usage),
        pod_usage=_items(pod_usage),
        events=_items(events),
        samples=samples,
        store_bytes=store,
        troubles=troubles,
    )


def _items(answer: Object) -> list[Object]:
    return answer.get("items") or []


async def _page(client: Client) -> str:
    answer = await client.request("GET", "/metrics", headers={"accept": "text/plain"})
    return (await answer.read(_MOST_PAGE)).decode("utf-8", "replace")


async def _queues_page(controllers: Client | None) -> str:
    """What the controller manager says of its queues; nothing if it has no port, as that of `tiphys up`."""
    try:
        return await _page(controllers) if controllers is not None else ""
    except (ApiError, ConnectionError, TimeoutError):
        return ""


def _size(folder: Path) -> int:
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            total += entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else 0
    return total


def picture(before: Look, after: Look, width: int) -> RenderableType:
    """Both looks as one screen."""
    from rich.columns import Columns
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [_headline(before, after), _nodes(after), _pods(after)]
    tables = [table for table in (_requests(before, after), _queues(after), _objects(after)) if table.row_count]
    parts += [Columns(tables, padding=(0, 3))] if tables else []
    parts.append(_events(after, width))
    parts += [Text(printable(trouble), style="yellow") for trouble in after.troubles]
    return Group(*parts)


def _headline(before: Look, after: Look) -> RenderableType:
    from rich.text import Text

    per_second = sum(figures.rates(before.samples, after.samples, after.at - before.at, figures.REQUESTS).values())
    slow = figures.quantile(before.samples, after.samples, figures.LATENCY, 0.99)
    running = sum(pod.get("status", {}).get("phase") == "Running" for pod in after.pods)
    words = [
        f"{len(after.nodes)} nodes",
        f"{running} of {len(after.pods)} pods running",
        f"{per_second:.1f} requests/s",
    ]
    words.append("p99 –" if slow is None else f"p99 {slow * 1000:.0f} ms")
    if after.store_bytes is not None:
        words.append(f"store {size(after.store_bytes)}")
    return Text("tiphys  ", style="bold cyan").append("   ".join(words), style="default")


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", no_wrap=True)
    return table


def _nodes(look: Look) -> Table:
    table = _table("\nNodes", "NODE", "STATE", ">CPU", "", ">MEMORY", "", ">PODS")
    for row in figures.node_rows(look):
        style = "green" if row.state == "Ready" else "yellow" if row.state.startswith("Ready") else "red"
        cpu = "–" if row.cpu is None else f"{row.cpu:.2f} of {row.cpu_total:g}"
        memory = "–" if row.memory is None else f"{size(row.memory)} of {size(row.memory_total)}"
        bars = bar(row.cpu, row.cpu_total), bar(row.memory, row.memory_total)
        table.add_row(row.name, f"[{style}]{row.state}[/]", cpu, bars[0], memory, bars[1], str(row.pods))
    return table


def _pods(look: Look) -> Table:
    table = _table("\nPods", "NAMESPACE", "POD", "PHASE", ">CPU", ">MEMORY")
    for row in figures.pod_rows(look, _PODS):
        table.add_row(row.namespace, row.name, row.phase, f"{row.cpu * 1000:.0f}m", size(row.memory))
    return table


def _requests(before: Look, after: Look) -> Table:
    table = _table("\nRequests", "VERB", ">PER SECOND")
    grown = figures.rates(before.samples, after.samples, after.at - before.at, figures.REQUESTS)
    for verb, rate in sorted(grown.items(), key=lambda each: -each[1])[:_QUEUES]:
        table.add_row(verb, f"{rate:.1f}")
    return table


def _queues(look: Look) -> Table:
    table = _table("\nControllers' queues", "QUEUE", ">WAITING")
    for name, depth in sorted(figures.values(look.samples, figures.DEPTH).items(), key=lambda e: (-e[1], e[0]))[
        :_QUEUES
    ]:
        table.add_row(name, f"{depth:.0f}")
    return table


def _objects(look: Look) -> Table:
    table = _table("\nObjects", "KIND", ">NUMBER")
    for name, count in sorted(figures.values(look.samples, figures.OBJECTS).items(), key=lambda e: -e[1])[:_QUEUES]:
        table.add_row(name, f"{count:.0f}")
    return table


def _events(look: Look, width: int) -> Table:
    from rich.text import Text

    table = _table("\nEvents", "TIME", "OBJECT", "REASON", "MESSAGE")
    for event in figures.recent(look.events, _EVENTS):
        about = event.get("involvedObject") or {}
        style = "yellow" if event.get("type") == "Warning" else "default"
        message = " ".join((event.get("message") or "").split())[: max(20, width - 75)]
        name = f"{about.get('kind', '')}/{about.get('name', '')}"[:40]
        cells = figures.event_time(event)[11:19], name, event.get("reason") or "", message
        table.add_row(*(Text(printable(cell), style=style) for cell in cells))
    return table


def printable(text: str) -> str:
    """Without what would steer the terminal: messages are anybody's."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def bar(used: float | None, total: float) -> str:
    """Ten cells of which as many are full as are in use."""
    if used is None or total <= 0:
        return ""
    full = max(0, min(10, round(10 * used / total)))
    style = "red" if full >= 9 else "cyan"
    return f"[{style}]{'█' * full}[/][dim]{'░' * (10 - full)}[/]"


def size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if count >= 100 or unit == "B" else f"{count:.1f} {unit}"
