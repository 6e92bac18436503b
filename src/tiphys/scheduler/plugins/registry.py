"""All plugins by name, the default set with its order and weights, and a profile made from it.

Source: https://kubernetes.io/docs/reference/scheduling/config/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tiphys.api.object import Object
from tiphys.api.scheduling.nodeselector import NodeTerm, RequiredNodes, node_term
from tiphys.runtime import extensions
from tiphys.runtime.component import ConfigError
from tiphys.scheduler.config import PluginSet, ProfileConfig
from tiphys.scheduler.framework.resources import CPU, MEMORY
from tiphys.scheduler.framework.runtime import Framework, Profile
from tiphys.scheduler.handle import Handle
from tiphys.scheduler.plugins.balanced_allocation import NodeResourcesBalancedAllocation
from tiphys.scheduler.plugins.default_binder import DefaultBinder
from tiphys.scheduler.plugins.default_preemption import DefaultPreemption
from tiphys.scheduler.plugins.dynamic_resources import DynamicResources
from tiphys.scheduler.plugins.image_locality import ImageLocality
from tiphys.scheduler.plugins.inter_pod_affinity import InterPodAffinity
from tiphys.scheduler.plugins.node_affinity import NodeAffinity
from tiphys.scheduler.plugins.node_name import NodeName
from tiphys.scheduler.plugins.node_ports import NodePorts
from tiphys.scheduler.plugins.node_resources_fit import FitArgs, NodeResourcesFit
from tiphys.scheduler.plugins.node_unschedulable import NodeUnschedulable
from tiphys.scheduler.plugins.pod_topology_spread import PodTopologySpread
from tiphys.scheduler.plugins.priority_sort import PrioritySort
from tiphys.scheduler.plugins.scheduling_gates import SchedulingGates
from tiphys.scheduler.plugins.taint_toleration import TaintToleration
from tiphys.scheduler.plugins.volumes.node_volume_limits import NodeVolumeLimits
from tiphys.scheduler.plugins.volumes.volume_binding import VolumeBinding
from tiphys.scheduler.plugins.volumes.volume_restrictions import VolumeRestrictions
from tiphys.scheduler.plugins.volumes.volume_zone import VolumeZone

Factory = Callable[[Handle, Object], Any]


def _arguments(given: Object, plugin: str, *known: str) -> Object:
    unknown = given.keys() - {"apiVersion", "kind", *known}
    if unknown:
        raise ConfigError(f"pluginConfig of {plugin}: {sorted(unknown)[0]} is not supported by Tiphys")
    return given


def _fit(handle: Handle, given: Object) -> NodeResourcesFit:
    arguments = _arguments(given, "NodeResourcesFit", "ignoredResources", "ignoredResourceGroups", "scoringStrategy")
    strategy = arguments.get("scoringStrategy") or {}
    kind = strategy.get("type", "LeastAllocated")
    if kind not in ("LeastAllocated", "MostAllocated"):
        raise ConfigError(f"pluginConfig of NodeResourcesFit: scoringStrategy {kind} is not supported by Tiphys")
    weights = {entry["name"]: entry.get("weight") or 1 for entry in strategy.get("resources") or ()}
    return NodeResourcesFit(
        handle,
        FitArgs(
            frozenset(arguments.get("ignoredResources") or ()),
            frozenset(arguments.get("ignoredResourceGroups") or ()),
            kind,
            weights or {CPU: 1, MEMORY: 1},
        ),
    )


def _balanced(handle: Handle, given: Object) -> NodeResourcesBalancedAllocation:
    resources = _arguments(given, "NodeResourcesBalancedAllocation", "resources").get("resources")
    names = tuple(entry["name"] for entry in resources or ()) or (CPU, MEMORY)
    return NodeResourcesBalancedAllocation(handle, names)


def _node_affinity(handle: Handle, given: Object) -> NodeAffinity:
    added = _arguments(given, "NodeAffinity", "addedAffinity").get("addedAffinity") or {}
    required = added.get("requiredDuringSchedulingIgnoredDuringExecution")
    terms = RequiredNodes((), tuple(map(node_term, required["nodeSelectorTerms"]))) if required else None
    preferred: tuple[tuple[NodeTerm, int], ...] = tuple(
        (node_term(entry["preference"]), entry["weight"])
        for entry in added.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    )
    return NodeAffinity(handle, terms, preferred)


def _spread(handle: Handle, given: Object) -> PodTopologySpread:
    arguments = _arguments(given, "PodTopologySpread", "defaultConstraints", "defaultingType")
    constraints = arguments.get("defaultConstraints") or []
    if constraints or arguments.get("defaultingType") == "List":
        return PodTopologySpread(handle, tuple(constraints))
    return PodTopologySpread(handle)


def _inter_pod(handle: Handle, given: Object) -> InterPodAffinity:
    known = ("hardPodAffinityWeight", "ignorePreferredTermsOfExistingPods")
    arguments = _arguments(given, "InterPodAffinity", *known)
    return InterPodAffinity(
        handle,
        arguments.get("hardPodAffinityWeight", 1),
        ignore_preferred_of_existing=arguments.get("ignorePreferredTermsOfExistingPods", False),
    )


def _preemption(handle: Handle, given: Object) -> DefaultPreemption:
    known = ("minCandidateNodesPercentage", "minCandidateNodesAbsolute")
    arguments = _arguments(given, "DefaultPreemption", *known)
    return DefaultPreemption(
        handle, arguments.get("minCandidateNodesPercentage", 10), arguments.get("minCandidateNodesAbsolute", 100)
    )


def _volume_binding(handle: Handle, given: Object) -> VolumeBinding:
    seconds = _arguments(given, "VolumeBinding", "bindTimeoutSeconds").get("bindTimeoutSeconds", 600)
    return VolumeBinding(handle, seconds)


def _plain(make: Callable[[Handle], Any]) -> Factory:
    def factory(handle: Handle, given: Object) -> Any:
        _arguments(given, "this plugin")
        return make(handle)

    return factory


PLUGINS: dict[str, Factory] = {
    "SchedulingGates": _plain(lambda handle: SchedulingGates()),
    "PrioritySort": _plain(lambda handle: PrioritySort()),
    "NodeUnschedulable": _plain(NodeUnschedulable),
    "NodeName": _plain(NodeName),
    "TaintToleration": _plain(TaintToleration),
    "NodeAffinity": _node_affinity,
    "NodePorts": _plain(NodePorts),
    "NodeResourcesFit": _fit,
    "VolumeRestrictions": _plain(VolumeRestrictions),
    "NodeVolumeLimits": _plain(NodeVolumeLimits),
    "VolumeBinding": _volume_binding,
    "VolumeZone": _plain(VolumeZone),
    "PodTopologySpread": _spread,
    "InterPodAffinity": _inter_pod,
    "DynamicResources": _plain(DynamicResources),
    "DefaultPreemption": _preemption,
    "NodeResourcesBalancedAllocation": _balanced,
    "ImageLocality": _plain(ImageLocality),
    "DefaultBinder": _plain(DefaultBinder),
}
"""In the order in which they are called."""

WEIGHTS = {
    "TaintToleration": 3,
    "NodeAffinity": 2,
    "PodTopologySpread": 2,
    "InterPodAffinity": 2,
    "DynamicResources": 2,
}
"""Of scores; 1 if it is not named."""

ENTRY_POINTS = "tiphys.scheduler"
"""The entry-point group of plugins of installed packages: name to factory, ``(handle, arguments) -> plugin``."""

POINTS = {
    "preEnqueue": "pre_enqueue",
    "queueSort": "key",
    "preFilter": "pre_filter",
    "filter": "filter",
    "postFilter": "post_filter",
    "preScore": "pre_score",
    "score": "score",
    "reserve": "reserve",
    "permit": "permit",
    "preBind": "pre_bind",
    "bind": "bind",
    "postBind": "post_bind",
}
"""Extension points as the configuration calls them, and the method that makes a plugin one of theirs."""


def make_framework(config: ProfileConfig, handle: Handle, factories: Mapping[str, Factory] | None = None) -> Framework:
    """A profile's plugins, made and put in order. ``factories`` adds users' own plugins. Raises ``ConfigError``."""
    known = {**PLUGINS, **(factories or {})}
    made: dict[str, Any] = {}
    chosen = {point: _chosen(point, method, config, known, made, handle) for point, method in POINTS.items()}
    sorters = [plugin for plugin, _ in chosen.pop("queueSort")]
    if len(sorters) != 1:
        raise ConfigError(f"profile {config.name}: one queueSort plugin is needed, not {len(sorters)}")
    if not chosen["bind"]:
        raise ConfigError(f"profile {config.name}: at least one bind plugin is needed")
    scores = tuple(chosen.pop("score"))
    rest = {POINTS[point]: tuple(plugin for plugin, _ in pairs) for point, pairs in chosen.items()}
    profile = Profile(config.name, sorters[0], score=scores, **rest)
    framework = Framework(profile, handle.cache, handle.nominator)
    for plugin in made.values():
        if isinstance(plugin, DefaultPreemption):
            plugin.framework = framework
    return framework


def _chosen(
    point: str,
    method: str,
    config: ProfileConfig,
    known: Mapping[str, Factory],
    made: dict[str, Any],
    handle: Handle,
) -> list[tuple[Any, int]]:
    """The plugins of one extension point with their weights: the defaults less what is disabled, then the enabled."""

    def plugin(name: str) -> Any:
        if name not in made:
            factory = known.get(name) or _entry_point(config, name)
            made[name] = factory(handle, dict(config.arguments.get(name) or {}))
        return made[name]

    everywhere = config.plugins.get("multiPoint", PluginSet())
    here = config.plugins.get(point, PluginSet())
    weights: dict[str, int] = {}
    for name in PLUGINS:
        if {name, "*"} & everywhere.disabled or {name, "*"} & here.disabled:
            continue
        weights[name] = WEIGHTS.get(name, 1)
    for name, weight in everywhere.enabled:
        if not {name, "*"} & here.disabled:
            weights[name] = weight or WEIGHTS.get(name, 1)
    for name, weight in here.enabled:
        if not hasattr(plugin(name), method):
            raise ConfigError(f"profile {config.name}: plugin {name} does not extend {point}")
        weights[name] = weight or weights.get(name) or WEIGHTS.get(name, 1)
    return [(plugin(name), weight) for name, weight in weights.items() if hasattr(plugin(name), method)]


def _entry_point(config: ProfileConfig, name: str) -> Factory:
    """A plugin that an installed package offers. Raises ``ConfigError`` if none does."""
    try:
        offered: Factory | None = extensions.entry_point(ENTRY_POINTS, name)
    except extensions.ExtensionError as error:
        raise ConfigError(f"profile {config.name}: plugin {name}: {error}") from error
    if offered is None:
        raise ConfigError(
            f"profile {config.name}: plugin {name} is neither part of Tiphys nor an entry point of {ENTRY_POINTS}"
        )
    return offered
