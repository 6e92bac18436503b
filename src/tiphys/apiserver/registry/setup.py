"""The strategies that are more than facts, for the kinds that need one."""

from __future__ import annotations

from collections.abc import Callable

from tiphys.api.scheme import GroupKind, GroupVersionKind
from tiphys.apiserver.config import Config
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.services.services import ServiceStrategy
from tiphys.apiserver.registry.strategies.apiservices import APIServiceStrategy
from tiphys.apiserver.registry.strategies.certificates import SigningRequestStrategy
from tiphys.apiserver.registry.strategies.definitions import DefinitionStrategy
from tiphys.apiserver.registry.strategies.events import EventStrategy
from tiphys.apiserver.registry.strategies.jobs import JobStrategy
from tiphys.apiserver.registry.strategies.limitranges import LimitRangeStrategy
from tiphys.apiserver.registry.strategies.namespaces import NamespaceStrategy
from tiphys.apiserver.registry.strategies.nodes import NodeStrategy
from tiphys.apiserver.registry.strategies.persistentvolumeclaims import PersistentVolumeClaimStrategy
from tiphys.apiserver.registry.strategies.persistentvolumes import PersistentVolumeStrategy
from tiphys.apiserver.registry.strategies.pods import PodStrategy
from tiphys.apiserver.registry.strategies.priorityclasses import PriorityClassStrategy
from tiphys.apiserver.registry.strategies.sealed import SealedStrategy
from tiphys.apiserver.registry.strategies.serviceaccounts import ServiceAccountStrategy
from tiphys.apiserver.registry.strategies.workloads import DaemonSetStrategy, DeploymentStrategy, EndpointSliceStrategy
from tiphys.apiserver.registry.strategy import Strategy

STRATEGIES: dict[GroupKind, Callable[[GroupVersionKind], Strategy]] = {
    GroupKind("", "ConfigMap"): SealedStrategy,
    GroupKind("", "LimitRange"): LimitRangeStrategy,
    GroupKind("", "Namespace"): NamespaceStrategy,
    GroupKind("", "Node"): NodeStrategy,
    GroupKind("", "PersistentVolumeClaim"): PersistentVolumeClaimStrategy,
    GroupKind("", "PersistentVolume"): PersistentVolumeStrategy,
    GroupKind("", "Pod"): PodStrategy,
    GroupKind("", "Secret"): SealedStrategy,
    GroupKind("", "ServiceAccount"): ServiceAccountStrategy,
    GroupKind("apiextensions.k8s.io", "CustomResourceDefinition"): DefinitionStrategy,
    GroupKind("apiregistration.k8s.io", "APIService"): APIServiceStrategy,
    GroupKind("apps", "DaemonSet"): DaemonSetStrategy,
    GroupKind("apps", "Deployment"): DeploymentStrategy,
    GroupKind("batch", "Job"): JobStrategy,
    GroupKind("certificates.k8s.io", "CertificateSigningRequest"): SigningRequestStrategy,
    GroupKind("discovery.k8s.io", "EndpointSlice"): EndpointSliceStrategy,
    GroupKind("scheduling.k8s.io", "PriorityClass"): PriorityClassStrategy,
}
"""Those that need nothing but their kind."""


def make_strategies(registries: Registries, config: Config) -> None:
    """Put the strategies of a server into its registries."""

    strategies = {kind: make(kind.in_version("v1")) for kind, make in STRATEGIES.items()}
    events = EventStrategy(GroupVersionKind("", "v1", "Event"))
    events.ttl = config.event_ttl
    strategies[GroupKind("", "Event")] = strategies[GroupKind("events.k8s.io", "Event")] = events
    service = GroupVersionKind("", "v1", "Service")
    strategies[service.group_kind] = ServiceStrategy(service, config, registries)
    registries.strategies.update(strategies)
