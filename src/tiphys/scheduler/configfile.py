"""KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1) as ``SchedulerConfig``; what is not supported is refused.

Source: https://kubernetes.io/docs/reference/config-api/kube-scheduler-config.v1/
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from tiphys.api.object import Object
from tiphys.client.options import from_fields
from tiphys.client.throttle import RequestRate
from tiphys.controlkit.leaderelection import LeaderElectionConfig
from tiphys.runtime import durations
from tiphys.runtime.component import ConfigError, parse_document
from tiphys.scheduler.config import DEFAULT_NAME, PluginSet, ProfileConfig, SchedulerConfig
from tiphys.scheduler.plugins.registry import POINTS

LIMITS = RequestRate(50, 100)
"""Upstream's defaults of requests a second, and at once."""
VERSION = "kubescheduler.config.k8s.io/v1"
_IGNORED_DEFAULTS: Mapping[str, Any] = {
    "parallelism": None,
    "percentageOfNodesToScore": None,
    "delayCacheUntilActive": False,
    "enableContentionProfiling": None,
}
"""Fields that make no difference here: every node is scored, in one process without threads. Others' values are refused
where they would."""


def parse(text: str | bytes, source: str) -> tuple[SchedulerConfig, str]:
    """The configuration and the kubeconfig that it names (or an empty string). Raises ``ConfigError``."""
    document = parse_document(text, source, "KubeSchedulerConfiguration", VERSION)
    known = {"profiles", "leaderElection", "clientConnection", "podInitialBackoffSeconds"}
    known |= {"podMaxBackoffSeconds", "enableProfiling", *_IGNORED_DEFAULTS}
    _refuse(document, known, source)
    for name, only in _IGNORED_DEFAULTS.items():
        if only is not None and document.get(name, only) != only:
            raise ConfigError(f"{source}: {name}={document[name]} is not supported by Tiphys")
    client = document.get("clientConnection") or {}
    _refuse(client, {"kubeconfig", "acceptContentTypes", "contentType", "qps", "burst"}, f"{source}: clientConnection")
    described: list[Object] = document.get("profiles") or [{}]
    profiles = tuple(_profile(entry, source) for entry in described)
    names = [profile.name for profile in profiles]
    if len(set(names)) != len(names):
        raise ConfigError(f"{source}: two profiles have the same schedulerName")
    config = SchedulerConfig(
        profiles,
        float(document.get("podInitialBackoffSeconds") or 1),
        float(document.get("podMaxBackoffSeconds") or 10),
        leader_election(document.get("leaderElection") or {}, source),
        client=from_fields(client, LIMITS, source),
        profiling=document.get("enableProfiling") is not False,
    )
    return config, client.get("kubeconfig") or ""


def leader_election(given: Object, source: str) -> LeaderElectionConfig | None:
    """The leader election that a configuration requests, times in seconds; None if off. Raises ``ConfigError``."""
    known = {"leaderElect", "leaseDuration", "renewDeadline", "retryPeriod"}
    _refuse(given, known | {"resourceLock", "resourceName", "resourceNamespace"}, f"{source}: leaderElection")
    if given.get("resourceLock", "leases") != "leases":
        raise ConfigError(f"{source}: leaderElection.resourceLock {given['resourceLock']} is not supported; use leases")
    if not given.get("leaderElect", True):
        return None
    return LeaderElectionConfig(
        f"{socket.gethostname()}_{os.urandom(8).hex()}",
        given.get("resourceName") or "kube-scheduler",
        given.get("resourceNamespace") or "kube-system",
        _seconds(given, "leaseDuration", "15s", source),
        _seconds(given, "renewDeadline", "10s", source),
        _seconds(given, "retryPeriod", "2s", source),
    )


def _seconds(given: Object, name: str, default: str, source: str) -> float:
    try:
        return durations.seconds(str(default if given.get(name) is None else given[name]))
    except durations.DurationError as error:
        raise ConfigError(f"{source}: leaderElection.{name}: {error}") from error


def _profile(entry: Object, source: str) -> ProfileConfig:
    name = entry.get("schedulerName") or DEFAULT_NAME
    where = f"{source}: profile {name}"
    _refuse(entry, {"schedulerName", "plugins", "pluginConfig", "percentageOfNodesToScore"}, where)
    plugins = entry.get("plugins") or {}
    _refuse(plugins, {*POINTS, "multiPoint"}, f"{where}: plugins")
    arguments = {given["name"]: given.get("args") or {} for given in entry.get("pluginConfig") or ()}
    return ProfileConfig(
        name, {point: _plugin_set(point_plugins) for point, point_plugins in plugins.items()}, arguments
    )


def _plugin_set(configured: Object) -> PluginSet:
    return PluginSet(
        tuple((entry["name"], entry.get("weight") or 0) for entry in configured.get("enabled") or ()),
        frozenset(entry["name"] for entry in configured.get("disabled") or ()),
    )


def _refuse(given: Mapping[str, Any], known: set[str], where: str) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"{where}: upstream's field {name} is not supported by Tiphys; remove it")
