"""The table of controllers.

A row has the name by which ``--controllers`` knows the controller, the service account in kube-system that it acts as
(RBAC grants each no more than it needs), and its class. The names are those of kube-controller-manager v1.36. Classes
are imported when their controller is made, as nobody needs all.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from tiphys.controllers.config import ControllerManagerConfig
from tiphys.controllers.context import ControllerContext, Runnable


def _always(config: ControllerManagerConfig) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Row:
    """``needed`` says whether the configuration gives the controller anything to do.

    A row without service account works with the manager's own identity.
    """

    name: str
    service_account: str
    module: str
    class_name: str
    needed: Callable[[ControllerManagerConfig], bool] = _always
    off_by_default: bool = False

    def make(self, context: ControllerContext) -> Runnable:
        controller: Runnable = getattr(importlib.import_module(self.module), self.class_name)(context)
        return controller


def _row(
    name: str,
    place: str,
    account: str | None = None,
    needed: Callable[[ControllerManagerConfig], bool] = _always,
    off_by_default: bool = False,
) -> Row:
    module, _, class_name = place.partition(":")
    return Row(
        name, name if account is None else account, f"tiphys.controllers.{module}", class_name, needed, off_by_default
    )


def _has_signing_key(config: ControllerManagerConfig) -> bool:
    return bool(config.service_account_signing_key)


def _can_sign(config: ControllerManagerConfig) -> bool:
    return config.cluster_signing is not None


def _allocates_cidrs(config: ControllerManagerConfig) -> bool:
    return config.allocate_node_cidrs and bool(config.cluster_cidrs)


ROWS = (
    _row("serviceaccount-token-controller", "access.tokens:TokensController", "", _has_signing_key),
    _row(
        "legacy-serviceaccount-token-cleaner-controller",
        "access.legacytokens:LegacyTokenCleaner",
        "legacy-service-account-token-cleaner",
    ),
    _row("endpoints-controller", "network.endpoints:EndpointsController", "endpoint-controller"),
    _row("endpointslice-controller", "network.endpointslice.controller:EndpointSliceController"),
    _row("replicationcontroller-controller", "replicaset:ReplicationController", "replication-controller"),
    _row("pod-garbage-collector-controller", "podgc:PodGCController", "pod-garbage-collector"),
    _row("namespace-controller", "namespace.controller:NamespaceController"),
    _row("serviceaccount-controller", "access.serviceaccounts:ServiceAccountController", "service-account-controller"),
    _row("garbage-collector-controller", "garbagecollector.collector:GarbageCollector", "generic-garbage-collector"),
    _row("daemonset-controller", "daemonset.controller:DaemonSetController", "daemon-set-controller"),
    _row("job-controller", "job.controller:JobController"),
    _row("deployment-controller", "deployment.controller:DeploymentController"),
    _row("replicaset-controller", "replicaset:ReplicaSetController"),
    _row("statefulset-controller", "statefulset.controller:StatefulSetController"),
    _row(
        "horizontal-pod-autoscaler-controller",
        "podautoscaler.autoscaler:HorizontalPodAutoscalerController",
        "horizontal-pod-autoscaler",
    ),
    _row("cronjob-controller", "cronjob.controller:CronJobController"),
    _row("node-ipam-controller", "nodes.ipam:NodeIPAMController", "node-controller", _allocates_cidrs),
    _row("node-lifecycle-controller", "nodes.lifecycle.controller:NodeLifecycleController", "node-controller"),
    _row("taint-eviction-controller", "nodes.tainteviction:TaintEvictionController", "node-controller"),
    _row("ttl-after-finished-controller", "ttlafterfinished:TTLAfterFinishedController"),
    _row("root-ca-certificate-publisher-controller", "access.rootca:RootCAPublisher", "root-ca-cert-publisher"),
    _row("resourcequota-controller", "resourcequota:ResourceQuotaController"),
    _row("disruption-controller", "disruption:DisruptionController"),
    _row("ttl-controller", "nodes.ttl:NodeTTLController"),
    _row(
        "validatingadmissionpolicy-status-controller",
        "admissionpolicies.status:PolicyStatusController",
    ),
    _row("clusterrole-aggregation-controller", "access.clusterroleaggregation:ClusterRoleAggregationController"),
    _row(
        "persistentvolumeclaim-protection-controller",
        "volumes.protection:ClaimProtectionController",
        "pvc-protection-controller",
    ),
    _row(
        "persistentvolume-protection-controller",
        "volumes.protection:VolumeProtectionController",
        "pv-protection-controller",
    ),
    _row("volumeattributesclass-protection-controller", "volumes.protection:AttributesClassProtectionController"),
    _row(
        "endpointslice-mirroring-controller",
        "network.endpointslicemirroring:EndpointSliceMirroringController",
        "endpointslicemirroring-controller",
    ),
    _row(
        "certificatesigningrequest-approving-controller",
        "access.certificates.approving:CertificateApprovingController",
        "certificate-controller",
    ),
    _row(
        "certificatesigningrequest-signing-controller",
        "access.certificates.signing:CertificateSigningController",
        "certificate-controller",
        _can_sign,
    ),
    _row(
        "certificatesigningrequest-cleaner-controller",
        "access.certificates.cleaning:CertificateCleaner",
        "certificate-controller",
    ),
    _row(
        "bootstrap-signer-controller",
        "access.bootstrap.signer:BootstrapSigner",
        "bootstrap-signer",
        off_by_default=True,
    ),
    _row("token-cleaner-controller", "access.bootstrap.cleaner:TokenCleaner", "token-cleaner", off_by_default=True),
    _row(
        "persistentvolume-binder-controller",
        "volumes.persistentvolumes.binder:PersistentVolumeBinder",
        "persistent-volume-binder",
    ),
    _row("ephemeral-volume-controller", "volumes.ephemeralvolumes:EphemeralVolumeController"),
    _row("resourceclaim-controller", "resourceclaim.controller:ResourceClaimController", "resource-claim-controller"),
    _row("service-cidr-controller", "network.servicecidrs:ServiceCIDRController", "service-cidrs-controller"),
)

CONTROLLERS = {row.name: row for row in ROWS}

DISABLED_BY_DEFAULT = frozenset(row.name for row in ROWS if row.off_by_default)

_MISSING = """
    cloud-node-controller cloud-node-lifecycle-controller device-taint-eviction-controller
    kube-apiserver-serving-clustertrustbundle-publisher-controller
    node-route-controller persistentvolume-attach-detach-controller persistentvolume-expander-controller
    podcertificaterequest-cleaner-controller podgroup-protection-controller resourcepoolstatusrequest-controller
    selinux-warning-controller service-ca-certificate-publisher-controller service-lb-controller
    storage-version-migrator-controller storageversion-garbage-collector-controller
"""
MISSING = frozenset(_MISSING.split())
"""Upstream's controllers that are not here: they may be turned off by name, and are refused if one is asked for."""

ALIASES = {
    "serviceaccount-token": "serviceaccount-token-controller",
    "endpoint": "endpoints-controller",
    "endpointslice": "endpointslice-controller",
    "endpointslicemirroring": "endpointslice-mirroring-controller",
    "replicationcontroller": "replicationcontroller-controller",
    "podgc": "pod-garbage-collector-controller",
    "resourcequota": "resourcequota-controller",
    "namespace": "namespace-controller",
    "serviceaccount": "serviceaccount-controller",
    "garbagecollector": "garbage-collector-controller",
    "daemonset": "daemonset-controller",
    "job": "job-controller",
    "deployment": "deployment-controller",
    "replicaset": "replicaset-controller",
    "disruption": "disruption-controller",
    "statefulset": "statefulset-controller",
    "horizontalpodautoscaling": "horizontal-pod-autoscaler-controller",
    "cronjob": "cronjob-controller",
    "csrsigning": "certificatesigningrequest-signing-controller",
    "csrapproving": "certificatesigningrequest-approving-controller",
    "csrcleaner": "certificatesigningrequest-cleaner-controller",
    "ttl": "ttl-controller",
    "bootstrapsigner": "bootstrap-signer-controller",
    "tokencleaner": "token-cleaner-controller",
    "nodeipam": "node-ipam-controller",
    "nodelifecycle": "node-lifecycle-controller",
    "persistentvolume-binder": "persistentvolume-binder-controller",
    "ephemeral-volume": "ephemeral-volume-controller",
    "clusterrole-aggregation": "clusterrole-aggregation-controller",
    "pvc-protection": "persistentvolumeclaim-protection-controller",
    "pv-protection": "persistentvolume-protection-controller",
    "ttl-after-finished": "ttl-after-finished-controller",
    "root-ca-cert-publisher": "root-ca-certificate-publisher-controller",
    "attachdetach": "persistentvolume-attach-detach-controller",
    "persistentvolume-expander": "persistentvolume-expander-controller",
    "route": "node-route-controller",
    "legacy-service-account-token-cleaner": "legacy-serviceaccount-token-cleaner-controller",
    "storage-version-gc": "storageversion-garbage-collector-controller",
}
"""Older names, which configurations still use: kubeadm writes ``*,bootstrapsigner,tokencleaner``."""
