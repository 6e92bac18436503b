"""The strategies that are more than facts, for the kinds that need one."""

from __future__ import annotations

from tiphys.api.scheme import GroupVersionKind
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


def make_strategies(registries: Registries, config: Config) -> None:
    """Put the strategies of a server into its registries."""

    def gvk(group: str, kind: str) -> GroupVersionKind:
        return GroupVersionKind(group, "v1", kind)

    events = EventStrategy(gvk("", "Event"))
    events.ttl = config.event_ttl
    strategies: dict[tuple[str, str], Strategy] = {
        ("", "configmaps"): SealedStrategy(gvk("", "ConfigMap")),
        ("", "events"): events,
        ("", "limitranges"): LimitRangeStrategy(gvk("", "LimitRange")),
        ("events.k8s.io", "events"): events,
        ("", "namespaces"): NamespaceStrategy(gvk("", "Namespace")),
        ("", "nodes"): NodeStrategy(gvk("", "Node")),
        ("", "persistentvolumeclaims"): PersistentVolumeClaimStrategy(gvk("", "PersistentVolumeClaim")),
        ("", "persistentvolumes"): PersistentVolumeStrategy(gvk("", "PersistentVolume")),
        ("", "pods"): PodStrategy(gvk("", "Pod")),
        ("", "secrets"): SealedStrategy(gvk("", "Secret")),
        ("", "serviceaccounts"): ServiceAccountStrategy(gvk("", "ServiceAccount")),
        ("", "services"): ServiceStrategy(gvk("", "Service"), config, registries),
        ("apiextensions.k8s.io", "customresourcedefinitions"): DefinitionStrategy(
            gvk("apiextensions.k8s.io", "CustomResourceDefinition")
        ),
        ("apiregistration.k8s.io", "apiservices"): APIServiceStrategy(gvk("apiregistration.k8s.io", "APIService")),
        ("apps", "daemonsets"): DaemonSetStrategy(gvk("apps", "DaemonSet")),
        ("apps", "deployments"): DeploymentStrategy(gvk("apps", "Deployment")),
        ("batch", "jobs"): JobStrategy(gvk("batch", "Job")),
        ("certificates.k8s.io", "certificatesigningrequests"): SigningRequestStrategy(
            gvk("certificates.k8s.io", "CertificateSigningRequest")
        ),
        ("discovery.k8s.io", "endpointslices"): EndpointSliceStrategy(gvk("discovery.k8s.io", "EndpointSlice")),
        ("scheduling.k8s.io", "priorityclasses"): PriorityClassStrategy(gvk("scheduling.k8s.io", "PriorityClass")),
    }
    registries.strategies.update(strategies)
