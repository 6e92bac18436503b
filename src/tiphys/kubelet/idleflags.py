"""Why flags of upstream's kubelet steer nothing here, and what they may say beside upstream's default.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kubelet/
"""

from __future__ import annotations

_CADVISOR = "what containers use is read from their groups when it is asked for, and kept nowhere"
_GROUPS = "programs of the system stay in the groups in which they were started"
_LOCK = "no lock keeps a second kubelet out"
_SWEEP = "dead containers go when their pods do, or by --maximum-dead-containers-per-container"

WHY: dict[str, str] = {
    "cpu-manager-reconcile-period": "containers are given their processors every 10 seconds",
    "enable-controller-attach-detach": "volumes are attached by kube-controller-manager",
    "event-burst": "events are counted together when they repeat, and each source is limited",
    "event-qps": "events are counted together when they repeat, and each source is limited",
    "experimental-allocatable-ignore-eviction": "thresholds always count for what pods can have",
    "experimental-mounter-path": "volumes are mounted by the node's own mount",
    "hairpin-mode": "it is up to the CNI plugin whether a pod reaches itself by its Service",
    "kernel-memcg-notification": "memory is looked at every 10 seconds",
    "local-storage-capacity-isolation": "what pods have on disk is always limited",
    "make-iptables-util-chains": "the kubelet makes no chains of iptables",
    "protect-kernel-defaults": "the kernel's parameters are left as they are",
    "qos-reserved": "no memory is kept for guaranteed pods, which is an alpha feature",
    "read-only-port": "every caller is authenticated: there is no port without",
    "runonce": "pods are run until they are deleted",
    "streaming-connection-idle-timeout": "connections to containers end when one side ends them",
    "volume-plugin-dir": "FlexVolume drivers are not run",
    "volume-stats-agg-period": "what volumes hold is measured when it is asked for, and kept for a minute",
    **dict.fromkeys(
        (
            "application-metrics-count-limit",
            "container-hints",
            "containerd",
            "containerd-namespace",
            "enable-load-reader",
            "event-storage-age-limit",
            "event-storage-event-limit",
            "global-housekeeping-interval",
            "housekeeping-interval",
            "log-cadvisor-usage",
            "max-housekeeping-interval",
            "storage-driver-buffer-duration",
            "storage-driver-db",
            "storage-driver-host",
            "storage-driver-password",
            "storage-driver-secure",
            "storage-driver-table",
            "storage-driver-user",
        ),
        _CADVISOR,
    ),
    **dict.fromkeys(
        ("kubelet-cgroups", "runtime-cgroups", "system-cgroups"),
        _GROUPS,
    ),
    **dict.fromkeys(("exit-on-lock-contention", "lock-file"), _LOCK),
    **dict.fromkeys(("maximum-dead-containers", "minimum-container-ttl-duration"), _SWEEP),
}
"""Beside those that several components have."""
SAME: dict[str, tuple[str, ...]] = {
    "kube-api-content-type": ("application/json", ""),
    "make-iptables-util-chains": ("false",),
    "read-only-port": ("0",),
}
