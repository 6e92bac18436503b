"""What the static pods have in common: the pod around one container, its probes, its volumes. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.runtime import durations

PROBE_PORT = "probe-port"


@dataclass(frozen=True, slots=True)
class HostPath:
    """A file or folder of the node's in the container."""

    name: str
    path: str
    kind: str = "DirectoryOrCreate"
    read_only: bool = True
    mounted_at: str = ""
    """Empty: at the same path."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a component answers probes."""

    host: str
    port: int
    scheme: str = "HTTPS"

    def get(self, path: str) -> Object:
        address = {"host": self.host} if self.host else {}
        return {**address, "path": path, "port": PROBE_PORT, "scheme": self.scheme}


def static_pod(container: Object, paths: Iterable[HostPath], annotations: dict[str, str]) -> Object:
    """A pod of the control plane around its container."""
    name = container["name"]
    metadata: Object = {
        "labels": {"component": name, "tier": "control-plane"},
        "name": name,
        "namespace": "kube-system",
    }
    if annotations:
        metadata = {"annotations": annotations, **metadata}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "containers": [container],
            "hostNetwork": True,
            "priority": 2000001000,
            "priorityClassName": "system-node-critical",
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": volumes(paths),
        },
        "status": {},
    }


def container(
    name: str, image: str, command: list[str], paths: Iterable[HostPath], requests: dict[str, str], port: int
) -> Object:
    return {
        "command": command,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "name": name,
        "ports": [{"containerPort": port, "name": PROBE_PORT, "protocol": "TCP"}],
        "resources": {"requests": requests},
        "volumeMounts": mounts(paths),
    }


def volumes(paths: Iterable[HostPath]) -> list[Object]:
    return [{"hostPath": _host_path(path), "name": path.name} for path in _in_order(paths)]


def mounts(paths: Iterable[HostPath]) -> list[Object]:
    made = []
    for path in _in_order(paths):
        mount: Object = {"mountPath": path.mounted_at or path.path, "name": path.name}
        made.append({**mount, "readOnly": True} if path.read_only else mount)
    return made


def liveness(endpoint: Endpoint, path: str) -> Object:
    return _probe(endpoint, path, delay=10, period=10, failures=8)


def readiness(endpoint: Endpoint, path: str) -> Object:
    return _probe(endpoint, path, delay=0, period=1, failures=3)


def startup(endpoint: Endpoint, path: str, timeout: str) -> Object:
    """``timeout`` is the time that a component has to come up, as ``4m0s``."""
    return _probe(endpoint, path, delay=10, period=10, failures=math.ceil(durations.seconds(timeout) / 10))


def probe_host(address: str) -> str:
    """Empty for the unspecified address: then it is the pod's own."""
    return "" if address in ("0.0.0.0", "::") else address


def _probe(endpoint: Endpoint, path: str, *, delay: int, period: int, failures: int) -> Object:
    probe = {"failureThreshold": failures, "httpGet": endpoint.get(path), "periodSeconds": period, "timeoutSeconds": 15}
    return {**probe, "initialDelaySeconds": delay} if delay else probe


def _host_path(path: HostPath) -> Object:
    return {"path": path.path, "type": path.kind} if path.kind else {"path": path.path}


def _in_order(paths: Iterable[HostPath]) -> list[HostPath]:
    """By the name of the volume; what comes later under the same name wins, as the user's do."""
    return [path for _, path in sorted({path.name: path for path in paths}.items())]
