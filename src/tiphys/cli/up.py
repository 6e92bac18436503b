"""`tiphys up`: a cluster on this machine, from nothing to Ready: one node, or several with ``--nodes``.

The pipeline: settings → checks → certificates and kubeconfigs → supervisor (a daemon, or this process with
``--foreground``) → wait for the API server and the node → show the user how to continue. A second `up` finds the lock
held, and says what runs.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from tiphys.cli import status
from tiphys.cli.connect import admin_client
from tiphys.cli.console import Console, fail
from tiphys.cli.options import parser
from tiphys.cli.programs.lists import meanwhile, preload_apiserver, programs
from tiphys.client.errors import ApiError
from tiphys.client.resources import NODES
from tiphys.client.rest import Client
from tiphys.cluster import failures, kubeconfig, lifecycle, machine, nodes
from tiphys.cluster.backup.archive import BackupError
from tiphys.cluster.backup.places import place_of
from tiphys.cluster.networking import ranges
from tiphys.cluster.settings import DATA_DIR, RUN_DIR, Settings, SettingsError, split
from tiphys.cluster.supervisor import Supervisor, share_memory
from tiphys.runtime import logs
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.flags import parse_duration
from tiphys.runtime.system.usernamespace import is_rootless
from tiphys.wire.hostaddress import is_own_address

READY_SECONDS = 120.0
POLL_SECONDS = 0.03
PROXY_MODES = ("nftables", "iptables", "userspace")
MOST_NODES = 100
MOST_WORKERS = 64
LEAST_BACKUP_SECONDS = 10.0
CAN_BE_ADDED = ("autoscaler", "dashboard", "ingress", "monitoring")
RUN_ON_NODE = ("autoscaler", "ingress")
"""Add-ons that are processes of the first node, which start with it; the others run in pods."""
CLOUDS = ("local",)
"""Those that `up` can run with; others have their own machines, and are run beside `tiphys init`."""
CAN_BE_LEFT_OUT = ("kube-proxy", "dns", "csi-local", "metrics-server")


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys up``; returns the exit status when the node is Ready or, with ``--foreground``, has ended."""
    arguments = _options().parse_args(argv)
    console = Console(quiet=arguments.quiet)
    try:
        settings = resolve(arguments, console)
    except SettingsError as error:
        fail(error)
    if arguments.foreground and _in_pods(arguments.addons or ""):
        fail("--addons: a cluster in the foreground gets its add-ons by `tiphys addon apply`, once it runs")
    if lifecycle.supervisor_pid(settings):
        return _already_running(settings, arguments, console)
    with console.step("Checking this machine"):
        problems = machine.problems(settings)
    if problems:
        fail("this machine cannot run a cluster yet:", *(f"  - {problem}" for problem in problems))
    for remark in machine.remarks(settings):
        console.say(f"  ! {remark}")
    try:
        with console.step("Making certificates and kubeconfigs"), lifecycle.beside(lambda: prepare(settings)):
            preload_apiserver()
    except lifecycle.Failed:
        fail("the certificates and kubeconfigs could not be made")
    if arguments.accept_data_loss:
        asyncio.run(accept_loss(settings))
    if arguments.foreground:
        return _foreground(settings, arguments, console)
    try:
        lifecycle.start_daemon(settings, lambda: supervise(settings))
    except lifecycle.AlreadyRunning:
        return _already_running(settings, arguments, console)
    further = _start_further(settings, arguments.nodes, console)
    asyncio.run(_wait_for_all(settings, further, console))
    _apply_addons(settings, settings.addons, console)
    if not arguments.no_kubeconfig:
        _merge_kubeconfig(settings)
    _farewell(console, settings, merged=not arguments.no_kubeconfig)
    return 0


def _options() -> argparse.ArgumentParser:
    options = parser("up", "Start a cluster on this machine, or say that it runs.")
    add = options.add_argument
    add("--run-dir", type=Path, help=f"where sockets and the state of processes go (default {RUN_DIR})", metavar="DIR")
    add("--port", type=int, help="port of the API server (default 6443)")
    add("--etcd-port", type=int, help="port of the store's etcd API, on loopback (default 2379)")
    add("--kubelet-port", type=int, help="port of the kubelet (default 10250)")
    add("--node-name", help="the node's name (default: this host's)")
    add("--node-ip", help="the node's address, or one of each IP family (default: that of the default route)")
    add("--pod-cidr", help="addresses of pods, or one range of each IP family (default 10.244.0.0/16)")
    add("--service-cidr", help="addresses of Services, or one range of each IP family (default 10.96.0.0/16)")
    add("--node-cidr", help="addresses of this machine's further nodes (default 10.243.0.0/24)")
    add("--nodes", type=_count, help="how many nodes there are to be on this machine", metavar="N")
    add("--api-workers", type=_processes, help="processes of the API server (default 1)", metavar="N")
    add("--metrics-port", type=int, help="port of the metrics server (default 4443)")
    add("--backup-to", type=_place, help="make backups here: a folder, or s3://BUCKET/PREFIX", metavar="PLACE")
    add("--backup-every", type=_duration, help="time between two backups (default 6h)", metavar="DURATION")
    add("--backup-keep", type=int, help="how many of them are kept (default 28)", metavar="N")
    add("--without", type=_components, help="leave these out, as others run them", metavar="COMPONENT,…")
    add("--addons", type=_addons, help="run these as well: " + ", ".join(CAN_BE_ADDED), metavar="NAME,…")
    add(
        "--autoscaler-nodes",
        type=_bounds,
        help="nodes that --addons autoscaler may make (default 0:3)",
        metavar="MIN:MAX",
    )
    add(
        "--autoscaler-idle",
        type=_idle,
        help="how long a node is empty until it removes it (default 10m)",
        metavar="TIME",
    )
    add("--bridge", help="name of the pods' bridge (default tiphys0)")
    add("--proxy-mode", choices=PROXY_MODES, help="how packets get to Services (default: nftables, if it can be used)")
    add(
        "--load-balancer-pool",
        help="addresses for Services of type LoadBalancer: NETWORK or FIRST-LAST, commas between; node for the nodes'"
        " own (default), none to leave such Services to others",
        metavar="RANGES",
    )
    add(
        "--cloud-provider",
        choices=(*CLOUDS, "none"),
        help="local: this machine is the cloud; its controllers, load balancers and disks are run as well",
    )
    add("--cluster-name", help="name of the context in the kubeconfig (default tiphys)")
    add("-v", "--verbosity", type=int, help="upstream's -v, 0 to 10")
    add("--foreground", action="store_true", help="stay, log to this terminal, and stop at Ctrl-C")
    add("--accept-data-loss", action="store_true", help="continue with what is left of a damaged store")
    add("--no-kubeconfig", action="store_true", help="leave ~/.kube/config alone")
    add("-q", "--quiet", action="store_true", help="say nothing but errors")
    return options


def _duration(text: str) -> str:
    if parse_duration(text) < LEAST_BACKUP_SECONDS:
        raise argparse.ArgumentTypeError(f"{text} is too often; {LEAST_BACKUP_SECONDS:.0f}s at least")
    return text


def _bounds(text: str) -> str:
    least, _, most = text.partition(":")
    if not (least.isdecimal() and most.isdecimal() and int(least) <= int(most) <= MOST_NODES):
        raise argparse.ArgumentTypeError(f"{text} is not MIN:MAX with at most {MOST_NODES}, such as 0:3")
    return text


def _idle(text: str) -> str:
    if parse_duration(text) <= 0:
        raise argparse.ArgumentTypeError(f"{text} is no time for which a node could be empty; use 10m, or 30s at least")
    return text


def _place(text: str) -> str:
    try:
        place_of(text)
    except BackupError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text if "://" in text else str(Path(text).absolute())


def _components(text: str) -> str:
    names = [name for name in text.split(",") if name]
    if unknown := [name for name in names if name not in CAN_BE_LEFT_OUT]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} cannot be left out; {', '.join(CAN_BE_LEFT_OUT)} can")
    return ",".join(names)


def _addons(text: str) -> str:
    names = [name for name in text.split(",") if name]
    if unknown := [name for name in names if name not in CAN_BE_ADDED]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is no add-on of `up`; there are {', '.join(CAN_BE_ADDED)}")
    return ",".join(names)


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= MOST_NODES:
        raise argparse.ArgumentTypeError(f"{text} is no number of nodes between 1 and {MOST_NODES}")
    return count


def _processes(text: str) -> int:
    count = int(text)
    if not 1 <= count <= MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text} is no number of processes between 1 and {MOST_WORKERS}")
    return count


def resolve(arguments: argparse.Namespace, console: Console) -> Settings:
    """The cluster's settings: those of its first `up`, with what this call's flags and the machine's address change."""
    data_dir = arguments.data_dir.absolute()
    existing = Settings.load(data_dir)
    if existing is None:
        existing = Settings(
            data_dir=data_dir,
            run_dir=RUN_DIR if data_dir == DATA_DIR else data_dir / "run",
            node_name=arguments.node_name or machine.node_name(),
            node_ip=arguments.node_ip or _first_address(arguments.pod_cidr),
        )
    elif nodes.further_nodes(existing) and (arguments.bridge or arguments.node_cidr):
        raise SettingsError("--bridge and --node-cidr cannot change while there are further nodes; delete those first")
    elif arguments.node_name not in (None, existing.node_name):
        raise SettingsError(f"the node of this cluster is {existing.node_name}; to rename it, `tiphys reset` first")
    elif arguments.node_ip is None and not is_own_address(existing.node_ip):
        arguments.node_ip = _new_address(existing)
        console.say(f"  ! This machine no longer has {existing.node_ip}: the node moves to {arguments.node_ip}.")
    changed = existing.changed(
        run_dir=arguments.run_dir and arguments.run_dir.absolute(),
        port=arguments.port,
        etcd_port=arguments.etcd_port,
        kubelet_port=arguments.kubelet_port,
        metrics_port=arguments.metrics_port,
        without=arguments.without,
        addons=arguments.addons,
        autoscaler_nodes=arguments.autoscaler_nodes,
        autoscaler_idle=arguments.autoscaler_idle,
        backup_to=arguments.backup_to,
        backup_every=arguments.backup_every,
        backup_keep=arguments.backup_keep,
        pod_cidr=arguments.pod_cidr,
        service_cidr=arguments.service_cidr,
        node_cidr=arguments.node_cidr,
        bridge=arguments.bridge,
        cluster_name=arguments.cluster_name,
        proxy_mode=arguments.proxy_mode,
        load_balancer_pool=arguments.load_balancer_pool,
        cloud_provider=arguments.cloud_provider and arguments.cloud_provider.replace("none", ""),
        api_workers=arguments.api_workers,
        verbosity=arguments.verbosity,
    )
    return ranges.completed(changed, arguments.node_ip, machine.address_of)


def _first_address(pod_cidr: str | None) -> str:
    """The machine's address of the family that pods have first."""
    if (pod_cidr or "").partition(",")[0].count(":") and (address := machine.address_of(6)):
        return address
    return machine.node_address()


def _new_address(existing: Settings) -> str:
    try:
        return _first_address(existing.pod_cidr)
    except SettingsError as error:
        raise SettingsError(f"the node's address {existing.node_ip} is gone, and {error}") from error


def prepare(settings: Settings) -> None:
    """Everything on disk that the components need before they start."""
    from tiphys.cluster.credentials import ensure_kubeconfigs
    from tiphys.cluster.pki import ensure_pki

    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings.save()
    ensure_pki(settings)
    ensure_kubeconfigs(settings)
    if settings.cloud_provider:
        settings.write_cloud_config()


async def accept_loss(settings: Settings) -> None:
    """Open the store once with what is left of it, so that it opens by itself from then on."""
    from tiphys.store.backend import StoreError
    from tiphys.store.sqlite import SQLiteBackend

    logs.configure(settings.verbosity)
    try:
        store = await SQLiteBackend.open(settings.store, SystemClock(), accept_loss=True)
    except StoreError as error:
        fail(error)
    await store.close()


def _start_further(settings: Settings, count: int | None, console: Console) -> list[Settings]:
    """Start the further nodes that there are, and as many new ones as make up ``count`` nodes; gives those started."""
    known = nodes.further_nodes(settings)
    new = nodes.new_names(settings, count or 1, known)
    if not (known or new):
        return []
    from tiphys.cli import nodes as running

    started = running.start(settings, [*known.values(), *running.add(settings, new)])
    if settings.imported_images.exists():
        from tiphys.cli.image import bring  # with what runs containerd's client

        bring(settings, started, console)
    return started


async def _wait_for_all(settings: Settings, further: Sequence[Settings], console: Console) -> None:
    first = wait_until_ready(settings, console)
    if not further:
        await first
        return
    from tiphys.cli import nodes as running

    await running.wait_until_ready(settings, further, console, first)


def supervise(settings: Settings) -> None:
    """Run the node's processes until SIGTERM. The caller holds the lock."""
    logs.configure(settings.verbosity)
    share_memory()
    Supervisor(programs(settings), settings.logs, settings.state_file, meanwhile=meanwhile(settings)).run()


def _foreground(settings: Settings, arguments: argparse.Namespace, console: Console) -> int:
    try:
        lifecycle.hold_lock(settings)
    except lifecycle.AlreadyRunning:
        return _already_running(settings, arguments, console)
    supervise(settings)
    return 0


def _apply_addons(settings: Settings, names: str, console: Console) -> None:
    if pods := _in_pods(names):
        from tiphys.cli.kubeadm.addon import apply_to  # with what assembles images

        apply_to(settings, pods, console)


def _in_pods(names: str) -> tuple[str, ...]:
    return tuple(name for name in split(names) if name not in RUN_ON_NODE)


def _already_running(settings: Settings, arguments: argparse.Namespace, console: Console) -> int:
    """Say what runs, once there are as many nodes and the add-ons as were requested."""
    if arguments.nodes is not None and (further := _start_further(settings, arguments.nodes, console)):
        asyncio.run(_wait_for_all(settings, further, console))
    _apply_addons(settings, arguments.addons or "", console)
    runs = lifecycle.component_states(settings)
    for name in split(arguments.addons or ""):
        if name in RUN_ON_NODE and name not in runs:
            fail(f"--addons {name}: it starts with the node; run `tiphys down`, and then `tiphys up --addons {name}`")
    state = status.status(settings)
    print(status.render(state))
    return 0 if state["ready"] else 1


async def wait_until_ready(settings: Settings, console: Console) -> None:
    """Return when the API server answers and the node is Ready; ends the command if that takes too long."""
    deadline = time.monotonic() + READY_SECONDS
    client = admin_client(settings, timeout=5)
    try:
        with console.step("Starting the API server"):
            while not await _serves(client):
                await _pause(settings, deadline)
        with console.step(f"Waiting for node {settings.node_name} to be Ready"):
            while not (_runs(settings) and await _node_ready(client, settings.node_name)):
                await _pause(settings, deadline)
    finally:
        await client.close()


def _runs(settings: Settings) -> bool:
    return lifecycle.node_runs(lifecycle.component_states(settings))


async def _serves(client: Client) -> bool:
    try:
        await (await client.request("GET", "/readyz")).read()
    except (ApiError, ConnectionError, TimeoutError):
        return False
    return True


async def _node_ready(client: Client, name: str) -> bool:
    try:
        node = await client.get(NODES, name)
    except (ApiError, ConnectionError, TimeoutError):
        return False
    return status.node_readiness(node) == "Ready"


async def _pause(settings: Settings, deadline: float) -> None:
    if not lifecycle.supervisor_pid(settings):
        fail("the supervisor ended", *failures.last_words(settings.logs, ["supervisor"]))
    if time.monotonic() > deadline:
        states = lifecycle.component_states(settings)
        ill = [f"  {name}: {c['state']}, {c['lastExit']}" for name, c in states.items() if c["state"] != "running"]
        words = failures.last_words(settings.logs, failures.guilty(states))
        fail(f"not ready after {READY_SECONDS:.0f} s; see `tiphys status` and `tiphys logs COMPONENT`", *ill, *words)
    await asyncio.sleep(POLL_SECONDS)


def _merge_kubeconfig(settings: Settings) -> None:
    path = kubeconfig.user_file()
    try:
        admin = kubeconfig.load(settings.kubeconfig("admin"))
        if is_rootless():  # the machine reaches the namespace by a port of its own
            admin = kubeconfig.with_server(admin, f"https://127.0.0.1:{settings.port}")
        kubeconfig.merge_into(path, admin)
    except (ValueError, OSError) as error:
        fail(f"the cluster runs, but {path} could not be changed: {error}", f"Use {settings.kubeconfig('admin')}.")


def _farewell(console: Console, settings: Settings, *, merged: bool) -> None:
    console.say()
    console.say(f"The cluster is ready at {settings.server}.")
    console.say(f"  kubeconfig: {settings.kubeconfig('admin')}")
    if merged:
        console.say(f"  context:    {settings.cluster_name}, in {kubeconfig.user_file()}")
    if shutil.which("kubectl") is None:
        console.say("\nkubectl is not installed. Get it as https://kubernetes.io/docs/tasks/tools/ says, for example:")
        console.say(
            "  curl -LO https://dl.k8s.io/release/v1.36.0/bin/linux/amd64/kubectl && install kubectl /usr/local/bin"
        )
    console.say("\nTry:  tiphys demo      kubectl get nodes      tiphys status")
