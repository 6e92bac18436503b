"""The checks, one function for each kind: a name, and what is wrong. They look at the machine and change nothing.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/implementation-details/#preflight-checks
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import shutil
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tiphys.cluster.kubeadm import health
from tiphys.cluster.kubeadm.layout import HostRoot
from tiphys.cluster.kubeadm.preflight import proxies
from tiphys.kubelet.node.machine import memory_total
from tiphys.kubelet.runtime.cri import CRIClient
from tiphys.kubelet.runtime.service import RuntimeFailure
from tiphys.wire.tls.contexts import client_context

LEAST_CPUS, LEAST_MEGABYTES = 2, 1700
LEAST_KUBELET, LEAST_ETCD = (1, 33), (3, 4)
"""Upstream asks for etcd 3.5.24; Debian's 3.4 is what our own image has, and what the store is tested with."""
_CGROUP_CONTROLLERS = ("cpu", "memory", "pids")
_NEEDED, _USEFUL = ("mount", "ip"), ("nft", "iptables", "conntrack", "crictl")


@dataclass(slots=True)
class Findings:
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Check:
    """One check. ``name`` is what --ignore-preflight-errors calls it."""

    name: str
    look: Callable[[], Awaitable[Findings]]


def check(name: str, look: Callable[[], Findings]) -> Check:
    """A check that only looks, and waits for nothing."""

    async def run() -> Findings:
        return look()

    return Check(name, run)


def privileged() -> Check:
    def look() -> Findings:
        return Findings() if os.geteuid() == 0 else Findings(errors=["user is not running as root; use sudo"])

    return check("IsPrivilegedUser", look)


def cpus() -> Check:
    def look() -> Findings:
        count = len(os.sched_getaffinity(0))
        few = f"the number of available CPUs {count} is less than the required {LEAST_CPUS}"
        return Findings(errors=[few] if count < LEAST_CPUS else [])

    return check("NumCPU", look)


def memory() -> Check:
    def look() -> Findings:
        megabytes = memory_total() >> 20
        little = f"the system RAM ({megabytes} MB) is less than the minimum {LEAST_MEGABYTES} MB"
        return Findings(errors=[little] if megabytes < LEAST_MEGABYTES else [])

    return check("Mem", look)


def port(number: int, *, expected: bool = False) -> Check:
    """Whether a port is free. ``expected``: what listens there is what an earlier run has started."""

    def look() -> Findings:
        if expected:
            return Findings()
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", number))
            except OSError:
                hint = f"`ss -ltnp 'sport = :{number}'` shows by what; end it, or run `tiphys reset` first"
                return Findings(errors=[f"Port {number} is in use; {hint}"])
        return Findings()

    return check(f"Port-{number}", look)


def file_available(places: HostRoot, path: str, wanted: bytes | None = None) -> Check:
    """Whether a file is not there yet, or is what we would write: then an earlier run wrote it."""

    def look() -> Findings:
        file = places.on_disk(path)
        if file.is_dir():
            return Findings(errors=[f"{path} is a directory, where a file is to be; move it away"])
        if not file.exists() or (wanted is not None and file.read_bytes() == wanted):
            return Findings()
        hint = "it is of another configuration" if wanted is not None else "a node was set up here before"
        return Findings(errors=[f"{path} already exists; {hint}: run `tiphys reset` first, or move it away"])

    return check(f"FileAvailable-{_dashed(path)}", look)


def directory_available(places: HostRoot, path: str, *, expected: bool = False) -> Check:
    def look() -> Findings:
        folder = places.on_disk(path)
        if folder.exists() and not folder.is_dir():
            return Findings(errors=[f"{path} is not a directory; move it away"])
        if expected or not folder.exists() or not any(folder.iterdir()):
            return Findings()
        return Findings(errors=[f"{path} is not empty; run `tiphys reset` and remove what is in it, or move it away"])

    return check(f"DirAvailable-{_dashed(path)}", look)


def file_content(path: str, wanted: str, remedy: str) -> Check:
    def look() -> Findings:
        try:
            content = Path(path).read_text()
        except OSError:
            return Findings(errors=[f"{path} does not exist; {remedy}"])
        bad = f"{path} contents are not set to {wanted}; {remedy}"
        return Findings(errors=[] if content.startswith(wanted) else [bad])

    return check(f"FileContent-{_dashed(path)}", look)


def programs() -> list[Check]:
    """Those that a node cannot do without, and those that an administrator will miss."""

    def needed(name: str) -> Findings:
        missing = f"{name} not found in system path; install the package that has it"
        return Findings(errors=[] if shutil.which(name) else [missing])

    def useful(name: str) -> Findings:
        return Findings(warnings=[] if shutil.which(name) else [f"{name} not found in system path"])

    return [
        *(check(f"FileExisting-{name}", lambda name=name: needed(name)) for name in _NEEDED),  # type: ignore[misc]
        *(check(f"FileExisting-{name}", lambda name=name: useful(name)) for name in _USEFUL),  # type: ignore[misc]
    ]


def swap() -> Check:
    def look() -> Findings:
        try:
            used = len(Path("/proc/swaps").read_text().splitlines()) > 1
        except OSError:
            used = False
        words = "swap is on, which the kubelet does not account for: `swapoff -a`, and take it out of /etc/fstab"
        return Findings(warnings=[words] if used else [])

    return check("Swap", look)


def hostname(name: str) -> Check:
    def look() -> Findings:
        try:
            socket.getaddrinfo(name, None)
        except OSError as error:
            hint = "add it to /etc/hosts or to the DNS"
            return Findings(warnings=[f'hostname "{name}" could not be reached', f'hostname "{name}": {error}; {hint}'])
        return Findings()

    return check("Hostname", look)


def system() -> Check:
    """Cgroups with the controllers that a kubelet needs."""

    def look() -> Findings:
        listed = Path("/sys/fs/cgroup/cgroup.controllers")
        if listed.exists():
            present = listed.read_text().split()
        else:
            lines = Path("/proc/cgroups").read_text().splitlines()[1:]
            present = [line.split()[0] for line in lines if line.split()[3] == "1"]
        missing = [name for name in _CGROUP_CONTROLLERS if name not in present]
        words = (
            f"missing required cgroups: {' '.join(missing)}; boot with cgroup_enable={' cgroup_enable='.join(missing)}"
        )
        return Findings(errors=[words] if missing else [])

    return check("SystemVerification", look)


def proxy(host: str, environment: Mapping[str, str]) -> Check:
    """Whether what goes to the API server would go by a proxy."""

    def look() -> Findings:
        given = proxies.proxy_for(host, environment)
        words = (
            f'Connection to "https://{host}" uses proxy "{given}". If that is not intended, adjust your proxy settings'
        )
        return Findings(warnings=[words] if given else [])

    return check("HTTPProxy", look)


def proxy_range(cidr: str, environment: Mapping[str, str]) -> Check:
    """Whether what goes to pods or Services would go by a proxy: the first address of their range is looked at."""

    def look() -> Findings:
        network = ipaddress.ip_network(cidr.strip(), strict=False)
        given = proxies.proxy_for(str(network[1]), environment)
        words = (
            f'connection to "{cidr}" uses proxy "{given}". This may lead to malfunctional cluster setup. Make sure that'
            " Pod and Services IP ranges specified correctly as exceptions in proxy configuration"
        )
        return Findings(warnings=[words] if given else [])

    return check("HTTPProxyCIDR", look)


def firewall(ports: Sequence[int], active: Callable[[str], bool]) -> Check:
    """Whether firewalld runs, which closes what nodes need of each other. ``active`` says whether a service runs."""

    def look() -> Findings:
        words = (
            f"firewalld is active, please ensure ports [{' '.join(map(str, ports))}] are open or your cluster may not"
            " function correctly"
        )
        return Findings(warnings=[words] if active("firewalld") else [])

    return check("Firewalld", look)


def kubelet_version(asked: Callable[[], str], control_plane: str) -> Check:
    """Whether the kubelet that the node's service runs fits. ``asked`` returns its version, and raises OSError if it
    cannot be asked; ``control_plane`` is the version to install, empty if it is not known yet."""

    def look() -> Findings:
        try:
            text = asked()
        except OSError as error:
            return Findings(
                errors=[f"couldn't get kubelet version: {error}; install the kubelet that its service runs"]
            )
        if (version := minor_version(text)) is None:
            return Findings(errors=[f"couldn't get kubelet version: {text!r} is none; install the kubelet again"])
        if version < LEAST_KUBELET:
            return Findings(
                errors=[f'Kubelet version "{text}" is lower than kubeadm can support. Please upgrade kubelet']
            )
        wanted = minor_version(control_plane)
        words = (
            "the kubelet version is higher than the control plane version. This is not a supported version skew and may"
            f' lead to a malfunctional cluster. Kubelet version: "{text}" Control plane version: "{control_plane}"'
        )
        return Findings(errors=[words] if wanted is not None and version > wanted else [])

    return check("KubeletVersion", look)


def minor_version(text: str) -> tuple[int, int] | None:
    """Major and minor of ``v1.36.0``; None if it is no version."""
    if (made := re.match(r"v?(\d+)\.(\d+)", text)) is None:
        return None
    return int(made[1]), int(made[2])


def files_exist(label: str, places: HostRoot, paths: Iterable[str]) -> Iterator[Check]:
    """One check for each file that the user's configuration names."""

    def look(path: str) -> Findings:
        there = places.on_disk(path).exists()
        return Findings(errors=[] if there else [f"{path} doesn't exist; put it there, or name another file"])

    for path in paths:
        yield check(label, lambda path=path: look(path))  # type: ignore[misc]


def external_etcd(external: Mapping[str, Any], places: HostRoot) -> Check:
    """Whether each member of an etcd elsewhere answers, and is new enough."""

    def look() -> Findings:
        files = [external.get(name) for name in ("caFile", "certFile", "keyFile")]
        ca, cert, key = (places.on_disk(file) if file else None for file in files)
        findings = Findings()
        try:
            context = client_context(ca, cert, key)
        except OSError as error:  # ssl.SSLError is one
            return Findings(errors=[f"couldn't load external etcd's certificates: {error}; see etcd.external"])
        for endpoint in external.get("httpEndpoints") or external["endpoints"]:
            url = f"{endpoint.rstrip('/')}/version"
            try:
                answer = health.get_json(url, context)
                version = str(answer.get("etcdserver", ""))
            except (OSError, ValueError) as error:
                findings.errors.append(
                    f"external etcd at {url} does not say its version: {getattr(error, 'reason', error)}; start it, or"
                    " mend etcd.external.endpoints"
                )
                continue
            if (minor_version(version) or (0, 0)) < LEAST_ETCD:
                least = ".".join(map(str, LEAST_ETCD))
                findings.errors.append(
                    f"only external etcd version >= {least} is supported. Current version: {version}"
                )
        return findings

    async def run() -> Findings:
        return await asyncio.to_thread(look)

    return Check("ExternalEtcdVersion", run)


def runtime(url: str) -> Check:
    """Whether the container runtime answers."""

    async def look() -> Findings:
        client = CRIClient(urlsplit(url).path)
        try:
            await client.version()
        except RuntimeFailure as error:
            hint = "start it (`systemctl start containerd`), or name its socket: --cri-socket"
            return Findings(errors=[f"could not connect to the container runtime at {url}: {error}; {hint}"])
        finally:
            await client.close()
        return Findings()

    return Check("CRI", look)


def _dashed(path: str) -> str:
    return path.replace("/", "-")
