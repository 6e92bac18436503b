"""``SchedulerConfig``: what kube-scheduler's flags and its configuration file say, once read.

Source: https://kubernetes.io/docs/reference/scheduling/config/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tiphys.api.object import Object
from tiphys.client.options import ClientOptions
from tiphys.controlkit.leaderelection import LeaderElectionConfig
from tiphys.controlkit.serving.settings import PortSettings

DEFAULT_NAME = "default-scheduler"


@dataclass(frozen=True, slots=True)
class PluginSet:
    """Changes to the defaults at one extension point: ``disabled`` may be ``*``; ``enabled`` are name and weight (0:
    the plugin's own)."""

    enabled: tuple[tuple[str, int], ...] = ()
    disabled: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ProfileConfig:
    name: str = DEFAULT_NAME
    plugins: Mapping[str, PluginSet] = field(default_factory=dict)
    """By extension point, as the file calls it (``preFilter``, ``score``, ``multiPoint``, …)."""
    arguments: Mapping[str, Object] = field(default_factory=dict)
    """By plugin, as in ``pluginConfig``."""


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Times in seconds."""

    profiles: tuple[ProfileConfig, ...] = (ProfileConfig(),)
    initial_backoff: float = 1.0
    max_backoff: float = 10.0
    leader_election: LeaderElectionConfig | None = None
    """None: this is the only scheduler."""
    serving: PortSettings | None = None
    """Where health, metrics and pages are served; None: nowhere."""
    leftover_after: float = 300.0
    """A pod that found no node is tried again after so long, though nothing has changed."""
    profiling: bool = True
    """Whether ``serving`` has the pages of ``pprof``."""
    client: ClientOptions = field(default_factory=ClientOptions)
    """What is said about the client beside the kubeconfig."""
    concurrent_bindings: int = 256
