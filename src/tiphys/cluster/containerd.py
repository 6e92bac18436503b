"""A containerd of our own: configuration, start, readiness, and the CNI network of its pods.

Its root, state and socket are private, so a containerd or Docker of the user's is left alone. It is started in a
session of its own and is not stopped with the kubelet: containers belong to their shims, which outlive containerd, and
a containerd started again on the same state finds them.

Source: containerd's docs/cri/config.md (version 2 of the configuration file, read by 1.5 up to 2.x) and the CNI
specification 1.0.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tiphys.cluster.images import PAUSE_IMAGE
from tiphys.cluster.processes import Traces, end_processes, remove_files
from tiphys.cluster.settings import Settings
from tiphys.runtime.system.capabilities import CAP_SYS_RESOURCE, has_capability
from tiphys.runtime.system.mounts import unmount_below
from tiphys.runtime.system.usernamespace import cgroups_are_ours, is_rootless

_UNUSED_PLUGINS = (
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.internal.v1.tracing",
)


class ContainerdError(Exception):
    """containerd cannot be started; the message says why and how to mend it."""


@dataclass(frozen=True, slots=True)
class ContainerdConfig:
    """Where this containerd lives, and what the machine allows it."""

    root: Path
    state: Path
    socket: Path
    cni_conf_dir: Path
    cni_bin_dir: Path
    certs_dir: Path
    """Registry mirrors, one folder per registry with a hosts.toml."""
    snapshotter: str = "overlayfs"
    systemd_cgroup: bool = False
    restrict_oom_score_adj: bool = False
    disable_cgroup: bool = False
    """The machine gives this user no cgroups: containers run without limits."""
    sandbox_image: str = PAUSE_IMAGE


@dataclass(frozen=True, slots=True)
class PodNetwork:
    """The bridge network of one node's pods."""

    pod_cidrs: tuple[str, ...]
    """One range, or one of each IP family."""
    bridge: str = "tiphys0"
    cluster_cidrs: tuple[str, ...] = ()
    """Pod addresses of the whole cluster: traffic to them keeps the pod's own address."""
    mtu: int = 0
    name: str = "tiphys"
    data_dir: str = ""
    """Where host-local keeps its reservations; empty for its default."""
    host_ports: bool = True
    bandwidth: bool = False
    """Whether pods' annotations kubernetes.io/ingress-bandwidth and egress-bandwidth limit what they receive and send,
    for which the node needs the plugin of that name."""


def settings_for_machine(data_dir: Path, run_dir: Path, *, sandbox_image: str = PAUSE_IMAGE) -> ContainerdConfig:
    """The configuration that fits this machine, with everything under ``data_dir`` and ``run_dir``."""
    root = data_dir / "containerd"
    return ContainerdConfig(
        root=root,
        state=run_dir / "containerd",
        socket=run_dir / "containerd.sock",
        cni_conf_dir=data_dir / "cni" / "net.d",
        cni_bin_dir=run_dir / "cni-bin",
        certs_dir=data_dir / "registries",
        snapshotter="overlayfs" if overlay_works(root) else "native",
        systemd_cgroup=systemd_answers() and cgroup_version() == 2 and not is_rootless(),
        restrict_oom_score_adj=is_rootless() or not has_capability(CAP_SYS_RESOURCE),
        disable_cgroup=is_rootless() and not cgroups_are_ours(),
        sandbox_image=sandbox_image,
    )


def settings_for_node(settings: Settings) -> ContainerdConfig:
    """The same for a cluster's node. A further node has cgroups of its own top, which systemd does not manage."""
    made = settings_for_machine(settings.data_dir, settings.run_dir)
    return replace(made, systemd_cgroup=False) if settings.joined else made


def cgroup_version() -> int:
    """2 where the unified hierarchy alone is mounted; 1 for the old hierarchies and for both (hybrid)."""
    return 2 if Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1


def systemd_is_init() -> bool:
    return Path("/run/systemd/system").is_dir()


def systemd_answers() -> bool:
    """Whether systemd can be asked for cgroups, which takes D-Bus."""
    return systemd_is_init() and Path("/run/dbus/system_bus_socket").exists()


def overlay_works(directory: Path) -> bool:
    """Whether overlayfs can be mounted on ``directory`` (it cannot on another overlayfs, or without the right)."""
    directory.mkdir(parents=True, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".overlay-") as scratch:
        lower, upper, work, merged = (Path(scratch) / name for name in ("lower", "upper", "work", "merged"))
        for each in (lower, upper, work, merged):
            each.mkdir()
        options = f"lowerdir={lower},upperdir={upper},workdir={work}".encode()
        if libc.mount(b"overlay", str(merged).encode(), b"overlay", 0, options) != 0:
            return False
        libc.umount2(str(merged).encode(), 0)
    return True


def render(config: ContainerdConfig) -> str:
    """config.toml for ``config``."""
    quote = json.dumps
    disabled = ", ".join(quote(name) for name in _UNUSED_PLUGINS)
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
root = {quote(str(config.root))}
state = {quote(str(config.state))}
oom_score = 0
disabled_plugins = [{disabled}]

[grpc]
  address = {quote(str(config.socket))}

[{cri}]
  sandbox_image = {quote(config.sandbox_image)}
  restrict_oom_score_adj = {str(config.restrict_oom_score_adj).lower()}
  disable_cgroup = {str(config.disable_cgroup).lower()}
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  netns_mounts_under_state_dir = true
  [{cri}.containerd]
    snapshotter = {quote(config.snapshotter)}
    default_runtime_name = "runc"
    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [{cri}.containerd.runtimes.runc.options]
        Root = {quote(str(config.state / "runc"))}
        SystemdCgroup = {str(config.systemd_cgroup).lower()}
  [{cri}.cni]
    bin_dir = {quote(str(config.cni_bin_dir))}
    conf_dir = {quote(str(config.cni_conf_dir))}
    max_conf_num = 1
  [{cri}.registry]
    config_path = {quote(str(config.certs_dir))}
"""


def network_config(network: PodNetwork) -> str:
    """The CNI configuration list of a node's bridge. Masquerading is not the plugin's: see ``masquerade_rules``."""
    ipam: dict[str, object] = {
        "type": "host-local",
        "ranges": [[{"subnet": cidr}] for cidr in network.pod_cidrs],
        "routes": [{"dst": "::/0" if ":" in cidr else "0.0.0.0/0"} for cidr in network.pod_cidrs],
    }
    if network.data_dir:
        ipam["dataDir"] = network.data_dir
    bridge: dict[str, object] = {
        "type": "bridge",
        "bridge": network.bridge,
        "isGateway": True,
        "hairpinMode": True,
        "ipMasq": False,
        "ipam": ipam,
    }
    if network.mtu:
        bridge["mtu"] = network.mtu
    plugins = [bridge]
    if network.host_ports:
        plugins.append({"type": "portmap", "capabilities": {"portMappings": True}, "snat": True})
    if network.bandwidth:
        plugins.append({"type": "bandwidth", "capabilities": {"bandwidth": True}})
    return json.dumps({"cniVersion": "0.4.0", "name": network.name, "plugins": plugins}, indent=2) + "\n"


CNI_FILE = "10-tiphys.conflist"


def foreign_networks(folder: Path) -> list[str]:
    """The network configurations in a folder that somebody else wrote: a plugin of the user's choice."""
    kinds = (".conf", ".conflist", ".json")
    return sorted(p.name for p in folder.iterdir() if p.suffix in kinds and p.name != CNI_FILE)


def write_network(folder: Path, network: PodNetwork) -> bool:
    """Write our network configuration, unless somebody else's is there: then ours is removed, as only the first by name
    counts. Returns whether the pods' network is ours."""
    ours = folder / CNI_FILE
    if foreign_networks(folder):
        ours.unlink(missing_ok=True)
        return False
    text = network_config(network)
    if not ours.exists() or ours.read_text() != text:
        write_atomically(ours, text)
    return True


def masquerade_rules(network: PodNetwork) -> str:
    """nftables rules: what pods send out of the cluster carries the node's address.

    One rule for all pods, made once, instead of the bridge plugin's rules for each pod, which cost 40 ms a pod.
    """
    table = f"{network.name.replace('-', '_')}_masquerade"
    inside = network.cluster_cidrs or network.pod_cidrs
    return "".join(masquerade_table(table, cidr, inside) for cidr in network.pod_cidrs)


def masquerade_table(table: str, source: str, inside: Iterable[str]) -> str:
    """A table that masks what ``source`` sends, unless it goes to the networks ``inside`` or to a multicast group."""
    family, multicast = ("ip6", "ff00::/8") if ":" in source else ("ip", "224.0.0.0/4")
    kept = ", ".join([*(cidr for cidr in inside if (":" in cidr) == (family == "ip6")), multicast])
    return f"""table {family} {table}
delete table {family} {table}
table {family} {table} {{
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    {family} saddr {source} {family} daddr != {{ {kept} }} masquerade
  }}
}}
"""


def remove_masquerade_rules(network: PodNetwork) -> str:
    table = f"{network.name.replace('-', '_')}_masquerade"
    families = ["ip6" if ":" in cidr else "ip" for cidr in network.pod_cidrs]
    return "".join(f"table {family} {table}\ndelete table {family} {table}\n" for family in families)


def apply_rules(rules: str) -> None:
    """Hand rules to nft as one transaction."""
    done = subprocess.run(["nft", "-f", "-"], input=rules, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise ContainerdError(f"nft refused the masquerade rules: {done.stderr.strip()}")


_PLUGINS = (Path("/usr/lib/cni"), Path("/usr/libexec/cni"), Path("/opt/cni/bin"))


def has_plugin(name: str) -> bool:
    return any((folder / name).exists() for folder in _PLUGINS)


MACHINE_STATE = (Path("/var/lib/cni"), Path("/run/containerd"))
"""Where CNI keeps addresses and results, and shims their sockets; neither has another place."""


def own_state(folders: Sequence[Path] = MACHINE_STATE) -> None:
    """Have such folders: in a user namespace the machine's are not ours.

    Where /run and /var/lib are copies of its own (rootlesskit's ``--copy-up``), the machine's folders are links there.
    Raises ``ContainerdError``.
    """
    for folder in folders:
        if os.access(folder, os.W_OK):
            continue
        try:
            if folder.is_symlink():
                folder.unlink()
            folder.mkdir()
        except OSError as error:
            remedy = f"give the namespace a {folder.parent} of its own (rootlesskit --copy-up={folder.parent})"
            raise ContainerdError(f"nothing can be kept in {folder}: {error.strerror}; {remedy}") from error


def link_plugins(target: Path) -> None:
    """Collect the CNI plugins of the machine in one folder: Debian's, and over them those of /opt/cni/bin."""
    target.mkdir(parents=True, exist_ok=True)
    for source in _PLUGINS:
        if not source.is_dir():
            continue
        for plugin in source.iterdir():
            link = target / plugin.name
            if link.is_symlink() and os.readlink(link) == str(plugin):
                continue
            link.unlink(missing_ok=True)
            link.symlink_to(plugin)
    if missing := [name for name in ("bridge", "host-local", "loopback", "portmap") if not (target / name).exists()]:
        raise ContainerdError(
            f"CNI plugin {missing[0]} not found in /usr/lib/cni or /opt/cni/bin; "
            "install the package containernetworking-plugins"
        )


@dataclass(slots=True)
class Containerd:
    """One containerd process. ``start`` returns when it answers; it runs on until ``stop``."""

    config: ContainerdConfig
    network: PodNetwork | None = None
    log_file: Path | None = None
    process: asyncio.subprocess.Process | None = field(default=None, init=False)

    @property
    def config_file(self) -> Path:
        return self.config.root.parent / "containerd.toml"

    def write_files(self) -> None:
        """Write config.toml, the CNI network and the folders; nothing runs yet."""
        for folder in (self.config.root, self.config.state, self.config.socket.parent, self.config.cni_conf_dir):
            folder.mkdir(parents=True, exist_ok=True)
        self.config.certs_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(self.config_file, render(self.config))
        link_plugins(self.config.cni_bin_dir)
        if is_rootless():
            own_state()
        if self.network is not None:
            write_network(self.config.cni_conf_dir, self.network)

    def install_masquerade(self) -> None:
        """Let pods reach the world outside the cluster. Raises ``ContainerdError``; repeats are no error."""
        if self.network is not None:
            apply_rules(masquerade_rules(self.network))

    def command(self) -> list[str]:
        program = shutil.which("containerd")
        if program is None:
            raise ContainerdError("containerd not found; install the package containerd")
        if shutil.which("runc") is None:
            raise ContainerdError("runc not found; install the package runc")
        return [program, "--config", str(self.config_file)]

    async def start(self, timeout: float = 30) -> None:
        """Start containerd and wait until it takes connections; its CRI may refuse for a moment longer."""
        self.write_files()
        self.install_masquerade()
        log = self.log_file.open("ab") if self.log_file is not None else None
        try:
            self.process = await asyncio.create_subprocess_exec(
                *self.command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log or asyncio.subprocess.DEVNULL,
                stderr=log or asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            if log is not None:
                log.close()
        await self.wait_ready(timeout)

    async def wait_ready(self, timeout: float = 30) -> None:
        """Wait until the socket takes connections. Raises ``ContainerdError`` if containerd ends or stays silent."""
        deadline = asyncio.get_running_loop().time() + timeout
        while not await _accepts(self.config.socket):
            if self.process is not None and self.process.returncode is not None:
                raise ContainerdError(f"containerd ended with status {self.process.returncode}; {self._last_words()}")
            if asyncio.get_running_loop().time() > deadline:
                raise ContainerdError(f"containerd did not answer within {timeout:.0f} s; {self._last_words()}")
            await asyncio.sleep(0.01)

    def _last_words(self) -> str:
        if self.log_file is None or not self.log_file.exists():
            return "it has no log file"
        lines = self.log_file.read_text(errors="replace").splitlines()[-3:]
        return f"the end of {self.log_file}: " + " | ".join(lines)

    async def stop(self, timeout: float = 10) -> None:
        """End containerd itself; containers and their shims run on."""
        if self.process is None or self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), timeout)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


async def _accepts(socket: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(str(socket))
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return True


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step, so that containerd's watcher never sees half of it. Root alone reads it, as the CIS
    benchmark asks (1.1.9)."""
    scratch = path.with_name(f".{path.name}.tmp")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
    scratch.replace(path)


def remove_leftovers(config: ContainerdConfig, network: PodNetwork | None, ours: Traces) -> list[str]:
    """Remove what a stopped containerd leaves on the machine: processes, mounts, namespaces, bridge, rules.

    Returns what could not be removed. Folders are the caller's to delete, once nothing is mounted in them.
    """
    problems: list[str] = []
    problems += [f"process {pid} does not end" for pid in end_processes(ours)]
    problems += remove_files(ours)
    still_mounted = (*unmount_below(config.state), *unmount_below(config.root))
    problems += [f"cannot unmount {mount.path}: {mount.error.strerror}" for mount in still_mounted]
    if network is not None:
        subprocess.run(["ip", "link", "delete", network.bridge], capture_output=True, check=False)
        done = subprocess.run(
            ["nft", "-f", "-"], input=remove_masquerade_rules(network), text=True, capture_output=True, check=False
        )
        if done.returncode != 0:
            problems.append(f"cannot remove the masquerade rules: {done.stderr.strip()}")
        if network.host_ports:
            remove_portmap_chains()
    return problems


_PORTMAP_CHAINS = ("CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-MASQ", "CNI-HOSTPORT-SETMARK")


def remove_portmap_chains() -> None:
    """Remove the chains that the portmap plugin makes for its first host port and never removes.

    They are shared by all CNI networks of the machine: while any pod still has a host port, they stay.
    """
    for program in ("iptables", "ip6tables"):
        if shutil.which(program) is None:
            continue
        listed = subprocess.run([program, "-t", "nat", "-S"], capture_output=True, text=True, check=False)
        rules = listed.stdout.splitlines()
        in_use = any(rule.startswith("-A CNI-HOSTPORT-DNAT ") for rule in rules)
        if in_use or f"-N {_PORTMAP_CHAINS[0]}" not in rules:
            continue
        script = ["*nat"]
        jumps = [r for r in rules if r.startswith("-A ") and any(f"-j {chain}" in r for chain in _PORTMAP_CHAINS)]
        script += ["-D" + rule.removeprefix("-A") for rule in jumps]
        present = [chain for chain in _PORTMAP_CHAINS if f"-N {chain}" in rules]
        script += [f"-F {chain}" for chain in present] + [f"-X {chain}" for chain in present]
        text = "\n".join([*script, "COMMIT", ""])
        subprocess.run([f"{program}-restore", "--noflush"], input=text, text=True, capture_output=True, check=False)
