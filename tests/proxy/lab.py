"""A node, two pods on its bridge and an outside client, as network namespaces, with sockets made inside each.

Sockets stay in the namespace they were made in, so the tests serve and connect from one process.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tiphys.runtime.system import hosttools

T = TypeVar("T")

NODE, OUTSIDE_ROUTER, CLIENT = "10.244.0.1", "192.168.50.1", "192.168.50.2"
PODS = ("10.244.0.2", "10.244.0.3")
NODE_V6, PODS_V6 = "fd00:10:244::1", ("fd00:10:244::2", "fd00:10:244::3")
CLONE_NEWNET = 0x40000000


def inside(namespace: str, work: Callable[[], T]) -> T:
    """Run ``work`` in a thread that is in the namespace."""
    results: list[T] = []
    errors: list[Exception] = []

    def body() -> None:
        with open(f"/run/netns/{namespace}") as handle:
            if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        try:
            results.append(work())
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


class Lab:
    def __init__(self) -> None:
        self._prefix = f"tph{os.getpid()}"
        self.node, self.client = f"{self._prefix}-node", f"{self._prefix}-client"
        self.pods: tuple[str, ...] = ()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._marks = 0

    @property
    def _namespaces(self) -> tuple[str, ...]:
        return (self.node, self.client, *self.pods)

    def build(self) -> None:
        for name in (self.node, self.client):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        node = self.node
        _ip("-n", node, "link", "add", "br0", "type", "bridge")
        _ip("-n", node, "addr", "add", f"{NODE}/24", "dev", "br0")
        _ip("-n", node, "addr", "add", f"{NODE_V6}/64", "dev", "br0", "nodad")
        _ip("-n", node, "link", "set", "br0", "up")
        for address, address_v6 in zip(PODS, PODS_V6, strict=True):
            self.add_pod(address, address_v6)
        _ip("-n", node, "link", "add", "out", "type", "veth", "peer", "name", "eth0", "netns", self.client)
        _ip("-n", node, "addr", "add", f"{OUTSIDE_ROUTER}/24", "dev", "out")
        _ip("-n", node, "link", "set", "out", "up")
        _ip("-n", node, "route", "add", "default", "via", CLIENT)
        _ip("-n", node, "-6", "route", "add", "default", "dev", "out")
        _ip("-n", self.client, "addr", "add", f"{CLIENT}/24", "dev", "eth0")
        _ip("-n", self.client, "link", "set", "eth0", "up")
        _ip("-n", self.client, "route", "add", "default", "via", OUTSIDE_ROUTER)
        for name in (
            "net/ipv4/ip_forward",
            "net/ipv4/conf/all/route_localnet",
            "net/ipv6/conf/all/forwarding",
            "net/bridge/bridge-nf-call-iptables",
            "net/bridge/bridge-nf-call-ip6tables",
        ):
            self.inside(node, lambda name=name: Path("/proc/sys", name).write_text("1"))

    def add_pod(self, address: str, address_v6: str) -> str:
        """Another pod on the node's bridge; returns its namespace."""
        node, number = self.node, len(self.pods)
        pod = f"{self._prefix}-pod{number}"
        self.pods = (*self.pods, pod)
        _ip("netns", "add", pod)
        _ip("-n", pod, "link", "set", "lo", "up")
        _ip("-n", node, "link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", pod)
        _ip("-n", node, "link", "set", f"v{number}", "master", "br0", "up")
        _ip("-n", node, "link", "set", f"v{number}", "type", "bridge_slave", "hairpin", "on")
        _ip("-n", pod, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", pod, "addr", "add", f"{address_v6}/64", "dev", "eth0", "nodad")
        _ip("-n", pod, "link", "set", "eth0", "up")
        _ip("-n", pod, "route", "add", "default", "via", NODE)
        _ip("-n", pod, "route", "add", "default", "via", NODE_V6)
        return pod

    def destroy(self) -> None:
        for sock in self._sockets:
            sock.shutdown(socket.SHUT_RDWR) if sock.type == socket.SOCK_STREAM else None
            sock.close()
        for name in self._namespaces:
            subprocess.run(("ip", "netns", "del", name), check=False, stderr=subprocess.DEVNULL)

    def inside(self, namespace: str, work: Callable[[], T]) -> T:
        return inside(namespace, work)

    async def run(self, arguments: Sequence[str], text: str = "") -> str:
        """How the proxy runs its tools here: on the node."""
        return await hosttools.run(("ip", "netns", "exec", self.node, *arguments), text)

    # -- servers that say who they are and who asked ------------------------------------------------------------------

    def serve_tcp(self, namespace: str, port: int, name: str) -> None:
        listener = self.inside(namespace, lambda: _listener(port))
        self._sockets.append(listener)
        threading.Thread(target=_answer_tcp, args=(listener, name), daemon=True).start()

    def serve_udp(self, namespace: str, port: int, name: str) -> None:
        sock = self.inside(namespace, lambda: _bound_udp(port))
        self._sockets.append(sock)
        threading.Thread(target=_answer_udp, args=(sock, name), daemon=True).start()

    def serve_echo(self, namespace: str, port: int) -> None:
        listener = self.inside(namespace, lambda: _listener(port))
        self._sockets.append(listener)
        threading.Thread(target=_echo, args=(listener,), daemon=True).start()

    # -- clients ------------------------------------------------------------------------------------------------------

    def ask(self, namespace: str, address: str, port: int, timeout: float = 3.0) -> tuple[str, str]:
        """Connect, and return the server's name and the address that it saw."""

        def connect() -> tuple[str, str]:
            with socket.create_connection((address, port), timeout=timeout) as sock:
                name, _, seen = sock.recv(1000).decode().partition(" ")
                return name, seen

        return self.inside(namespace, connect)

    def connect(self, namespace: str, address: str, port: int) -> socket.socket:
        """A connection that stays."""
        return self.inside(namespace, lambda: socket.create_connection((address, port), timeout=3))

    def echoes(self, sock: socket.socket, timeout: float = 0.5) -> bool:
        """Whether an echo server answers on a connection; what it owes from before is read too."""
        sock.settimeout(timeout)
        self._marks += 1
        mark = f"<{self._marks}>"
        sock.sendall(mark.encode())
        seen = ""
        try:
            while not seen.endswith(mark):
                seen += sock.recv(1000).decode()
        except TimeoutError:
            return False
        return True

    def udp_socket(self, namespace: str) -> socket.socket:
        sock = self.inside(namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.settimeout(3)
        return sock


def ask_udp(sock: socket.socket, address: str, port: int) -> str:
    sock.sendto(b"?", (address, port))
    return sock.recv(1000).decode().partition(" ")[0]


def _listener(port: int) -> socket.socket:
    """Of both IP families."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("::", port))
    sock.listen(50)
    return sock


def _bound_udp(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", port))
    sock.settimeout(0.2)
    return sock


def _answer_tcp(listener: socket.socket, name: str) -> None:
    while True:
        try:
            connection, peer = listener.accept()
        except OSError:
            return
        with connection:
            connection.sendall(f"{name} {peer[0].removeprefix('::ffff:')}".encode())


def _echo(listener: socket.socket) -> None:
    """One connection after the other."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            while read := connection.recv(1000):
                connection.sendall(read)


def _answer_udp(sock: socket.socket, name: str) -> None:
    while sock.fileno() != -1:
        try:
            _, peer = sock.recvfrom(1000)
            sock.sendto(f"{name} {peer[0]}".encode(), peer)
        except TimeoutError:
            continue
        except OSError:
            return


def _ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), check=True)


@contextmanager
def lab() -> Iterator[Lab]:
    built = Lab()
    try:
        built.build()
        yield built
    finally:
        built.destroy()
