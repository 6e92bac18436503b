"""systemd units: the whole node as one service, or each component as one of its own. Pure.

A component's unit takes its flags from /etc/default/NAME, as Debian's services do; the kubelet's is kubeadm's, with the
files that `tiphys init` and `join` write. Stopping a unit kills no shim of a pod (``KillMode=process``).

Sources: systemd.service(5), systemd.exec(5) and kubeadm's 10-kubeadm.conf.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MARK = "# Written by `tiphys install`: a second run writes it again."
NODE = "tiphys"


@dataclass(frozen=True, slots=True)
class Unit:
    """What a unit says beside what all of ours say."""

    description: str
    arguments: str
    after: tuple[str, ...] = ("network-online.target",)
    service: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    """Files with environment variables; a ``-`` before one that may be missing."""
    conditions: tuple[str, ...] = ()
    """Files without which the unit is not started."""


_CONTAINERS = {"KillMode": "process", "Delegate": "yes", "TasksMax": "infinity", "OOMScoreAdjust": "-999"}


def _component(name: str, description: str, *after: str, **service: str) -> Unit:
    variable = f"{name.upper().replace('-', '_')}_ARGS"
    return Unit(
        description,
        f"{name} ${variable}",
        ("network-online.target", *after),
        service,
        files=(f"/etc/default/{name}",),
        conditions=(f"/etc/default/{name}",),
    )


UNITS: dict[str, Unit] = {
    NODE: Unit(
        "Tiphys: a Kubernetes node with its control plane", "up --foreground --no-kubeconfig", service=_CONTAINERS
    ),
    "kubelet": Unit(
        "kubelet: the node's agent",
        "kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS",
        ("network-online.target", "containerd.service"),
        _CONTAINERS,
        environment={
            "KUBELET_KUBECONFIG_ARGS": "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf"
            " --kubeconfig=/etc/kubernetes/kubelet.conf",
            "KUBELET_CONFIG_ARGS": "--config=/var/lib/kubelet/config.yaml",
        },
        files=("-/var/lib/kubelet/kubeadm-flags.env", "-/etc/default/kubelet"),
        conditions=("/var/lib/kubelet/config.yaml",),
    ),
    "etcd": _component("etcd", "etcd: the cluster's store", OOMScoreAdjust="-999"),
    "kube-apiserver": _component("kube-apiserver", "kube-apiserver: the cluster's API", "etcd.service"),
    "kube-controller-manager": _component(
        "kube-controller-manager", "kube-controller-manager: the controllers", "kube-apiserver.service"
    ),
    "kube-scheduler": _component("kube-scheduler", "kube-scheduler: the scheduler", "kube-apiserver.service"),
    "kube-proxy": _component("kube-proxy", "kube-proxy: the service proxy"),
}


def render(name: str, program: str) -> str:
    """The text of ``NAME.service``, which runs ``program``, the path of `tiphys`."""
    unit = UNITS[name]
    service = {
        "ExecStart": f"{program} {unit.arguments}",
        "Restart": "always",
        "RestartSec": "5",
        "LimitNOFILE": "1048576",
        **unit.service,
    }
    lines = [
        MARK,
        "[Unit]",
        f"Description={unit.description}",
        "Documentation=https://kubernetes.io/docs/",
        "Wants=network-online.target",
        f"After={' '.join(unit.after)}",
        "StartLimitIntervalSec=0",
        *(f"ConditionPathExists={path}" for path in unit.conditions),
        "",
        "[Service]",
        *(f'Environment="{key}={value}"' for key, value in unit.environment.items()),
        *(f"EnvironmentFile={path}" for path in unit.files),
        *(f"{key}={value}" for key, value in service.items()),
        "",
        "[Install]",
        "WantedBy=multi-user.target",
        "",
    ]
    return "\n".join(lines)
