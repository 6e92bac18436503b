"""The table of controllers.

A row has the name by which ``--controllers`` knows the controller, the service account in kube-system that it acts as
(RBAC grants each no more than it needs), and its class. The names are those of kube-controller-manager v1.36. Classes
are imported when their controller is made, as nobody needs all.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiphys.controlkit.manager import Runnable
from tiphys.controllers.config import ControllerManagerConfig
from tiphys.controllers.context import ControllerContext
from tiphys.runtime.lazily import Module

if TYPE_CHECKING:  # as the type checker, editors and search see them
    from tiphys.controllers import disruption, podgc, replicaset, resourcequota, ttlafterfinished
    from tiphys.controllers.access import clusterroleaggregation, legacytokens, rootca, serviceaccounts, tokens
    from tiphys.controllers.access.bootstrap import cleaner, signer
    from tiphys.controllers.access.certificates import approving, cleaning, signing
    from tiphys.controllers.admissionpolicies import status
    from tiphys.controllers.cronjob import controller as cronjob
    from tiphys.controllers.daemonset import controller as daemonset
    from tiphys.controllers.deployment import controller as deployment
    from tiphys.controllers.garbagecollector import collector
    from tiphys.controllers.job import controller as job
    from tiphys.controllers.namespace import controller as namespace
    from tiphys.controllers.network import endpoints, endpointslicemirroring, servicecidrs
    from tiphys.controllers.network.endpointslice import controller as endpointslice
    from tiphys.controllers.nodes import ipam, tainteviction, ttl
    from tiphys.controllers.nodes.lifecycle import controller as lifecycle
    from tiphys.controllers.podautoscaler import autoscaler
    from tiphys.controllers.resourceclaim import controller as resourceclaim
    from tiphys.controllers.resourceclaim import devicetaints
    from tiphys.controllers.statefulset import controller as statefulset
    from tiphys.controllers.volumes import ephemeralvolumes, expansion, protection
    from tiphys.controllers.volumes.attachdetach import controller as attachdetach
    from tiphys.controllers.volumes.persistentvolumes import binder
else:
    approving = Module("tiphys.controllers.access.certificates.approving")
    attachdetach = Module("tiphys.controllers.volumes.attachdetach.controller")
    autoscaler = Module("tiphys.controllers.podautoscaler.autoscaler")
    binder = Module("tiphys.controllers.volumes.persistentvolumes.binder")
    cleaner = Module("tiphys.controllers.access.bootstrap.cleaner")
    cleaning = Module("tiphys.controllers.access.certificates.cleaning")
    clusterroleaggregation = Module("tiphys.controllers.access.clusterroleaggregation")
    collector = Module("tiphys.controllers.garbagecollector.collector")
    cronjob = Module("tiphys.controllers.cronjob.controller")
    daemonset = Module("tiphys.controllers.daemonset.controller")
    deployment = Module("tiphys.controllers.deployment.controller")
    devicetaints = Module("tiphys.controllers.resourceclaim.devicetaints")
    disruption = Module("tiphys.controllers.disruption")
    endpoints = Module("tiphys.controllers.network.endpoints")
    endpointslice = Module("tiphys.controllers.network.endpointslice.controller")
    endpointslicemirroring = Module("tiphys.controllers.network.endpointslicemirroring")
    ephemeralvolumes = Module("tiphys.controllers.volumes.ephemeralvolumes")
    expansion = Module("tiphys.controllers.volumes.expansion")
    ipam = Module("tiphys.controllers.nodes.ipam")
    job = Module("tiphys.controllers.job.controller")
    legacytokens = Module("tiphys.controllers.access.legacytokens")
    lifecycle = Module("tiphys.controllers.nodes.lifecycle.controller")
    namespace = Module("tiphys.controllers.namespace.controller")
    podgc = Module("tiphys.controllers.podgc")
    protection = Module("tiphys.controllers.volumes.protection")
    replicaset = Module("tiphys.controllers.replicaset")
    resourceclaim = Module("tiphys.controllers.resourceclaim.controller")
    resourcequota = Module("tiphys.controllers.resourcequota")
    rootca = Module("tiphys.controllers.access.rootca")
    serviceaccounts = Module("tiphys.controllers.access.serviceaccounts")
    servicecidrs = Module("tiphys.controllers.network.servicecidrs")
    signer = Module("tiphys.controllers.access.bootstrap.signer")
    signing = Module("tiphys.controllers.access.certificates.signing")
    statefulset = Module("tiphys.controllers.statefulset.controller")
    status = Module("tiphys.controllers.admissionpolicies.status")
    tainteviction = Module("tiphys.controllers.nodes.tainteviction")
    tokens = Module("tiphys.controllers.access.tokens")
    ttl = Module("tiphys.controllers.nodes.ttl")
    ttlafterfinished = Module("tiphys.controllers.ttlafterfinished")


def _always(config: ControllerManagerConfig) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Row:
    """``needed`` says whether the configuration gives the controller anything to do.

    A row without service account works with the manager's own identity.
    """

    name: str
    service_account: str
    make: Callable[[ControllerContext], Runnable]
    needed: Callable[[ControllerManagerConfig], bool] = _always
    off_by_default: bool = False


def _row(
    name: str,
    make: Callable[[ControllerContext], Runnable],
    account: str | None = None,
    needed: Callable[[ControllerManagerConfig], bool] = _always,
    *,
    off_by_default: bool = False,
) -> Row:
    return Row(name, name if account is None else account, make, needed, off_by_default)


def _has_signing_key(config: ControllerManagerConfig) -> bool:
    return bool(config.service_account_signing_key)


def _can_sign(config: ControllerManagerConfig) -> bool:
    return bool(config.signers)


def _collects_garbage(config: ControllerManagerConfig) -> bool:
    return config.enable_garbage_collector


def _allocates_cidrs(config: ControllerManagerConfig) -> bool:
    return config.allocate_node_cidrs and bool(config.cluster_cidrs)


ROWS = (
    _row("serviceaccount-token-controller", tokens.TokensController, "", _has_signing_key),
    _row(
        "legacy-serviceaccount-token-cleaner-controller",
        legacytokens.LegacyTokenCleaner,
        "legacy-service-account-token-cleaner",
    ),
    _row("endpoints-controller", endpoints.EndpointsController, "endpoint-controller"),
    _row("endpointslice-controller", endpointslice.EndpointSliceController),
    _row("replicationcontroller-controller", replicaset.ReplicationController, "replication-controller"),
    _row("pod-garbage-collector-controller", podgc.PodGCController, "pod-garbage-collector"),
    _row("namespace-controller", namespace.NamespaceController),
    _row("serviceaccount-controller", serviceaccounts.ServiceAccountController, "service-account-controller"),
    _row("garbage-collector-controller", collector.GarbageCollector, "generic-garbage-collector", _collects_garbage),
    _row("daemonset-controller", daemonset.DaemonSetController, "daemon-set-controller"),
    _row("job-controller", job.JobController),
    _row("deployment-controller", deployment.DeploymentController),
    _row("replicaset-controller", replicaset.ReplicaSetController),
    _row("statefulset-controller", statefulset.StatefulSetController),
    _row(
        "horizontal-pod-autoscaler-controller",
        autoscaler.HorizontalPodAutoscalerController,
        "horizontal-pod-autoscaler",
    ),
    _row("cronjob-controller", cronjob.CronJobController),
    _row("node-ipam-controller", ipam.NodeIPAMController, "node-controller", _allocates_cidrs),
    _row("node-lifecycle-controller", lifecycle.NodeLifecycleController, "node-controller"),
    _row("taint-eviction-controller", tainteviction.TaintEvictionController, "node-controller"),
    _row("ttl-after-finished-controller", ttlafterfinished.TTLAfterFinishedController),
    _row("root-ca-certificate-publisher-controller", rootca.RootCAPublisher, "root-ca-cert-publisher"),
    _row("resourcequota-controller", resourcequota.ResourceQuotaController),
    _row("disruption-controller", disruption.DisruptionController),
    _row("ttl-controller", ttl.NodeTTLController),
    _row(
        "validatingadmissionpolicy-status-controller",
        status.PolicyStatusController,
    ),
    _row("clusterrole-aggregation-controller", clusterroleaggregation.ClusterRoleAggregationController),
    _row(
        "persistentvolumeclaim-protection-controller",
        protection.ClaimProtectionController,
        "pvc-protection-controller",
    ),
    _row(
        "persistentvolume-protection-controller",
        protection.VolumeProtectionController,
        "pv-protection-controller",
    ),
    _row("volumeattributesclass-protection-controller", protection.AttributesClassProtectionController),
    _row(
        "endpointslice-mirroring-controller",
        endpointslicemirroring.EndpointSliceMirroringController,
        "endpointslicemirroring-controller",
    ),
    _row(
        "certificatesigningrequest-approving-controller",
        approving.CertificateApprovingController,
        "certificate-controller",
    ),
    _row(
        "certificatesigningrequest-signing-controller",
        signing.CertificateSigningController,
        "certificate-controller",
        _can_sign,
    ),
    _row(
        "certificatesigningrequest-cleaner-controller",
        cleaning.CertificateCleaner,
        "certificate-controller",
    ),
    _row(
        "bootstrap-signer-controller",
        signer.BootstrapSigner,
        "bootstrap-signer",
        off_by_default=True,
    ),
    _row("token-cleaner-controller", cleaner.TokenCleaner, "token-cleaner", off_by_default=True),
    _row(
        "persistentvolume-binder-controller",
        binder.PersistentVolumeBinder,
        "persistent-volume-binder",
    ),
    _row(
        "persistentvolume-attach-detach-controller",
        attachdetach.AttachDetachController,
        "attachdetach-controller",
    ),
    _row("persistentvolume-expander-controller", expansion.ExpandController, "expand-controller"),
    _row("ephemeral-volume-controller", ephemeralvolumes.EphemeralVolumeController),
    _row("resourceclaim-controller", resourceclaim.ResourceClaimController, "resource-claim-controller"),
    _row("device-taint-eviction-controller", devicetaints.DeviceTaintEvictionController),
    _row("service-cidr-controller", servicecidrs.ServiceCIDRController, "service-cidrs-controller"),
)

CONTROLLERS = {row.name: row for row in ROWS}

DISABLED_BY_DEFAULT = frozenset(row.name for row in ROWS if row.off_by_default)

_MISSING = """
    cloud-node-controller cloud-node-lifecycle-controller
    kube-apiserver-serving-clustertrustbundle-publisher-controller
    node-route-controller
    podcertificaterequest-cleaner-controller podgroup-protection-controller resourcepoolstatusrequest-controller
    selinux-warning-controller service-ca-certificate-publisher-controller service-lb-controller
    storage-version-migrator-controller storageversion-garbage-collector-controller
"""
MISSING = frozenset(_MISSING.split())
"""Upstream's controllers that are not here: they may be turned off by name, and are refused by name if requested."""

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
