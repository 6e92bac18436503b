"""Pods at random, made of what the checks of the Pod Security Standards look at.

``tests/apiserver/data/podsecurity.jsonl`` holds some of them with what v1.36's own checks say of them: each line is a
pod and, by level, a list of [first minor version, [[reason, detail] …]] that changes from version to version.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from tiphys.api.object import Object

SYSCTLS = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_mem",
    "kernel.msgmax",
]
CAPABILITIES = [
    "ALL",
    "NET_BIND_SERVICE",
    "SYS_ADMIN",
    "CHOWN",
    "NET_RAW",
    "SETUID",
    "KILL",
    "CAP_CHOWN",
    "AUDIT_WRITE",
]
PROFILES = ["RuntimeDefault", "Localhost", "Unconfined", "", "x"]
HOSTS = ["", "127.0.0.1", "::1", "localhost", "192.0.2.8", "0.0.0.0"]
SOURCES = [
    "awsElasticBlockStore azureDisk azureFile cephfs cinder configMap csi downwardAPI emptyDir ephemeral fc flexVolume",
    "flocker gcePersistentDisk gitRepo glusterfs hostPath image iscsi nfs persistentVolumeClaim photonPersistentDisk",
    "portworxVolume projected quobyte rbd scaleIO secret storageos vsphereVolume unknown",
]
VOLUMES = [source for line in SOURCES for source in line.split()]
ANNOTATIONS = {
    "container.apparmor.security.beta.kubernetes.io/a": ["", "runtime/default", "localhost/p", "unconfined", "x"],
    "container.apparmor.security.beta.kubernetes.io/b": ["", "runtime/default", "localhost/p", "unconfined", "x"],
    "seccomp.security.alpha.kubernetes.io/pod": ["unconfined", "runtime/default", "docker/default", "localhost/p"],
    "container.seccomp.security.alpha.kubernetes.io/a": ["unconfined", "localhost/p", "x"],
}


class PodMaker:
    def __init__(self, random: Random) -> None:
        self._random = random

    def pod(self) -> Object:
        names = iter("abcdefgh")
        some = self._some
        spec = {
            "containers": [self._container(next(names)) for _ in range(self._random.randint(1, 3))],
            "initContainers": some(0.3, lambda: [self._container(next(names))]),
            "ephemeralContainers": some(0.2, lambda: [self._container(next(names))]),
            "securityContext": some(0.7, lambda: self._context(is_pod=True)),
            "hostNetwork": some(0.2, self._flag),
            "hostPID": some(0.2, self._flag),
            "hostIPC": some(0.2, self._flag),
            "hostUsers": some(0.3, self._flag),
            "os": some(0.3, lambda: {"name": self._one_of(["linux", "windows"])}),
            "volumes": some(0.5, lambda: [self._volume(i) for i in range(self._random.randint(1, 3))]),
        }
        annotations = {key: self._one_of(values) for key, values in ANNOTATIONS.items() if self._random.random() < 0.15}
        return _without_none({"metadata": {"name": "p", "annotations": annotations or None}, "spec": spec})

    def _some(self, chance: float, make: Callable[[], Any]) -> Any:
        return make() if self._random.random() < chance else None

    def _one_of(self, values: list[Any]) -> Any:
        return self._random.choice(values)

    def _flag(self) -> bool:
        return self._random.random() < 0.5

    def _sample(self, values: list[str]) -> list[str]:
        return self._random.sample(values, self._random.randint(0, 3))

    def _volume(self, number: int) -> Object:
        source = self._one_of(VOLUMES)
        return {"name": f"v{number}"} if source == "unknown" else {"name": f"v{number}", source: {}}

    def _container(self, name: str) -> Object:
        some = self._some
        return {
            "name": name,
            "image": "i",
            "securityContext": some(0.8, lambda: self._context(is_pod=False)),
            "ports": some(0.3, lambda: [{"containerPort": 80, "hostPort": self._one_of([None, 80, 443])}]),
            "livenessProbe": some(0.15, self._handler),
            "readinessProbe": some(0.15, self._handler),
            "startupProbe": some(0.1, self._handler),
            "lifecycle": some(0.1, lambda: {self._one_of(["postStart", "preStop"]): self._handler()}),
        }

    def _handler(self) -> Object:
        return {self._one_of(["httpGet", "tcpSocket"]): {"port": 80, "host": self._one_of(HOSTS)}}

    def _context(self, *, is_pod: bool) -> Object:
        some = self._some
        found: Object = {
            "runAsNonRoot": some(0.4, self._flag),
            "runAsUser": some(0.3, lambda: self._one_of([0, 1, 1000])),
            "seLinuxOptions": some(0.3, self._selinux),
            "seccompProfile": some(0.4, lambda: {"type": self._one_of(PROFILES)}),
            "appArmorProfile": some(0.3, lambda: {"type": self._one_of(PROFILES)}),
            "windowsOptions": some(0.15, lambda: {"hostProcess": some(0.7, self._flag)}),
        }
        if is_pod:
            names = self._sample(SYSCTLS) if self._flag() else []
            return {**found, "sysctls": [{"name": name, "value": "1"} for name in names]}
        return {
            **found,
            "privileged": some(0.2, self._flag),
            "allowPrivilegeEscalation": some(0.5, self._flag),
            "capabilities": some(0.6, self._capabilities),
            "procMount": some(0.2, lambda: self._one_of(["Default", "Unmasked"])),
        }

    def _capabilities(self) -> Object:
        dropped = [*self._sample(CAPABILITIES), *(["ALL"] if self._flag() else [])]
        return {"add": self._some(0.5, lambda: self._sample(CAPABILITIES)), "drop": dropped}

    def _selinux(self) -> Object:
        types = ["", "container_t", "container_engine_t", "container_init_t", "container_kvm_t", "other"]
        some = self._some
        return {
            "type": some(0.7, lambda: self._one_of(types)),
            "user": some(0.2, lambda: self._one_of(["", "u"])),
            "role": some(0.2, lambda: self._one_of(["", "r"])),
        }


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value
