"""`tiphys demo`: a Deployment with three replicas, its ConfigMap and its Service; and the path that a pod took."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from importlib.resources import files

from tiphys.api.object import Object
from tiphys.cli.connect import admin_client
from tiphys.cli.console import Console, fail
from tiphys.cli.options import existing_cluster, parser
from tiphys.client.errors import AlreadyExists, ApiError, NotFound
from tiphys.client.resources import CONFIG_MAPS, DEPLOYMENTS, EVENTS, NAMESPACES, PODS, SERVICES
from tiphys.client.rest import Client
from tiphys.cluster import journey, lifecycle
from tiphys.cluster.settings import Settings
from tiphys.runtime import yamltext

NAMESPACE = "tiphys-demo"
READY_SECONDS = 120.0
REACHABLE_SECONDS = 10.0
_PATHS = {"ConfigMap": CONFIG_MAPS, "Deployment": DEPLOYMENTS, "Service": SERVICES}


def main(argv: Sequence[str]) -> int:
    options = parser("demo", "Deploy a web page behind a Service, and show the path of a pod.")
    options.add_argument("--delete", action="store_true", help="remove the demo")
    arguments = options.parse_args(argv)
    settings = existing_cluster(arguments.data_dir)
    if not lifecycle.supervisor_pid(settings):
        fail("the cluster is not running; start it with `tiphys up`")
    try:
        return asyncio.run(_delete(settings) if arguments.delete else _deploy(settings))
    except (ApiError, ConnectionError, TimeoutError) as error:
        fail(error)


async def _delete(settings: Settings) -> int:
    client, console = admin_client(settings), Console()
    try:
        with console.step("Deleting the demo"):
            await client.delete(NAMESPACES, NAMESPACE)
            while await _exists(client):
                await asyncio.sleep(0.1)
    except NotFound:
        console.say("No demo to delete.")
    finally:
        await client.close()
    return 0


async def _exists(client: Client) -> bool:
    try:
        await client.get(NAMESPACES, NAMESPACE)
    except NotFound:
        return False
    return True


async def _deploy(settings: Settings) -> int:
    """Apply the demo, wait until it serves, and print a pod's journey; returns the exit status."""
    client, console = admin_client(settings), Console()
    try:
        await _ensure_namespace(client)
        async with _witness(client) as witness:
            with console.step("Applying the ConfigMap, the Deployment and the Service"):
                service = await _apply(client)
            with console.step("Waiting for three pods to be Ready"):
                await _wait_available(client, console)
                port = service["spec"]["ports"][0]["nodePort"]
                await _wait_reachable(settings.node_ip, port)
        scheduled = await _scheduled_times(client)
    finally:
        await client.close()
    console.say()
    for name in witness.complete()[:1]:
        console.say(journey.render(name, journey.journey(witness.pods[name], scheduled.get(name))))
        console.say()
    console.say("The page, on every address of this machine, and inside the cluster:")
    print(f"http://{settings.node_ip}:{port}/")
    console.say(f"http://{service['spec']['clusterIP']}/   http://web.{NAMESPACE}/\n")
    console.say(f"Look around:  kubectl -n {NAMESPACE} get all        Remove it:  tiphys demo --delete")
    return 0


class Witness:
    """Notes each version of the demo's pods, and when it came."""

    def __init__(self) -> None:
        self.pods: dict[str, list[journey.Observation]] = {}

    async def watch(self, client: Client, version: str) -> None:
        """From ``version`` of the list of pods on, until cancelled."""
        async for event in client.watch(PODS, NAMESPACE, resource_version=version, bookmarks=False):
            name = event.object["metadata"]["name"]
            self.pods.setdefault(name, []).append(journey.Observation(time.time(), event.object))

    def complete(self) -> list[str]:
        """Pods that were seen from creation to ready."""
        return [n for n, seen in self.pods.items() if any(s.name == "ready" for s in journey.journey(seen, None))]


@contextlib.asynccontextmanager
async def _witness(client: Client) -> AsyncIterator[Witness]:
    """Watches while the block runs. A watch that ends early leaves a path untold, and is no failure of the demo."""
    witness = Witness()
    listed = await client.list(PODS, NAMESPACE)
    watching = asyncio.create_task(witness.watch(client, listed["metadata"]["resourceVersion"]))
    try:
        yield witness
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _ensure_namespace(client: Client) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    try:
        await client.create(NAMESPACES, namespace)
    except AlreadyExists:
        return


async def _apply(client: Client) -> Object:
    """Apply the demo's manifest; returns the Service."""
    text = files("tiphys.cluster").joinpath("manifests/demo.yaml").read_text()
    applied = {}
    for obj in yamltext.load_all(text):
        applied[obj["kind"]] = await client.apply(_PATHS[obj["kind"]], obj, "tiphys-demo", force=True)
    return applied["Service"]


async def _wait_available(client: Client, console: Console) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        deployment = await client.get(DEPLOYMENTS, "web", NAMESPACE)
        wanted, status = deployment["spec"]["replicas"], deployment.get("status", {})
        current = status.get("observedGeneration") == deployment["metadata"]["generation"]
        if current and status.get("availableReplicas", 0) == status.get("updatedReplicas", 0) == wanted:
            return
        if time.monotonic() > deadline:
            fail(
                f"{status.get('availableReplicas', 0)} of {wanted} pods are ready after {READY_SECONDS:.0f} s",
                f"Look at: kubectl -n {NAMESPACE} describe pods",
            )
        console.live(f"{status.get('readyReplicas', 0)} of {wanted} pods are ready")
        await asyncio.sleep(0.05)


async def _wait_reachable(host: str, port: int) -> None:
    """Until the node's proxy has heard of the ready pods, which it does a moment after the Deployment has."""
    deadline = time.monotonic() + REACHABLE_SECONDS
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            if time.monotonic() > deadline:
                fail(
                    f"the pods are ready, but {host}:{port} does not answer after {REACHABLE_SECONDS:.0f} s: {error}",
                    "Look at: tiphys logs kube-proxy",
                )
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


async def _scheduled_times(client: Client) -> dict[str, float]:
    """When the scheduler said that it had placed each pod, in Unix seconds, by the pod's name."""
    events = await client.list(EVENTS, NAMESPACE, field_selector="reason=Scheduled")
    times = {}
    for event in events["items"]:
        if moment := event.get("eventTime"):
            times[event["regarding"]["name"]] = datetime.fromisoformat(moment).timestamp()
    return times
