"""Defaults: what an object gets before anything else looks at it, in the version it was written in.

Source: the API reference ("Defaults to …") of Kubernetes v1.36. Only defaults that depend on nothing but the object are
here, with what upstream's conversions make of an object when it is read (``aliases``). Not made here are those
that are added later:

- by the registry on create: generated names, uid, creationTimestamp, generation; a pod's ``status.phase`` Pending and
  its QoS class; a Service's cluster IPs, IP families and policy, node ports, health check port; a Job's selector and
  labels (``batch.kubernetes.io/controller-uid`` and friends); a namespace's ``spec.finalizers``; a certificate
  request's user, groups and extra; a claim's ``dataSource``/``dataSourceRef`` counterpart; the label of a namespace
  that was created by generateName; a token secret's data;
- by admission: service account and its token volume, tolerations for not-ready and unreachable, priority and preemption
  policy, LimitRanger's requests and limits, the default storage class, the default ingress class, the runtime class'
  overhead, the finalizers that protect storage objects in use;
- by conversion: an autoscaling/v1 autoscaler's CPU target;
- by a custom resource's own schema: see the apiextensions part of the API server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiphys.api.defaults import (
    admissionregistration,
    apiextensions,
    apiregistration,
    apps,
    authentication,
    autoscaling,
    batch,
    core,
    discovery,
    flowcontrol,
    networking,
    pod,
    rbac,
    resource,
    scheduling,
    storage,
)
from tiphys.api.scheme import GroupKind, GroupVersionKind

Defaulter = Callable[[dict[str, Any]], None]

DEFAULTERS: dict[GroupKind, Defaulter] = {
    GroupKind("", "Endpoints"): core.endpoints,
    GroupKind("", "LimitRange"): core.limit_range,
    GroupKind("", "Namespace"): core.namespace,
    GroupKind("", "Node"): core.node,
    GroupKind("", "PersistentVolume"): core.persistent_volume,
    GroupKind("", "PersistentVolumeClaim"): core.persistent_volume_claim,
    GroupKind("", "Pod"): pod.pod,
    GroupKind("", "PodTemplate"): core.pod_template_object,
    GroupKind("", "ReplicationController"): core.replication_controller,
    GroupKind("", "ResourceQuota"): core.resource_quota,
    GroupKind("", "Secret"): core.secret,
    GroupKind("", "Service"): core.service,
    GroupKind("admissionregistration.k8s.io", "MutatingAdmissionPolicy"): admissionregistration.admission_policy,
    GroupKind("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"): (
        admissionregistration.admission_policy_binding
    ),
    GroupKind("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): (
        admissionregistration.mutating_webhook_configuration
    ),
    GroupKind("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): admissionregistration.admission_policy,
    GroupKind("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): (
        admissionregistration.admission_policy_binding
    ),
    GroupKind("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): (
        admissionregistration.validating_webhook_configuration
    ),
    GroupKind("apiextensions.k8s.io", "CustomResourceDefinition"): apiextensions.custom_resource_definition,
    GroupKind("apiregistration.k8s.io", "APIService"): apiregistration.api_service,
    GroupKind("apps", "DaemonSet"): apps.daemon_set,
    GroupKind("apps", "Deployment"): apps.deployment,
    GroupKind("apps", "ReplicaSet"): apps.replica_set,
    GroupKind("apps", "StatefulSet"): apps.stateful_set,
    GroupKind("authentication.k8s.io", "TokenRequest"): authentication.token_request,
    GroupKind("batch", "CronJob"): batch.cron_job,
    GroupKind("batch", "Job"): batch.job,
    GroupKind("discovery.k8s.io", "EndpointSlice"): discovery.endpoint_slice,
    GroupKind("flowcontrol.apiserver.k8s.io", "FlowSchema"): flowcontrol.flow_schema,
    GroupKind("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"): flowcontrol.priority_level_configuration,
    GroupKind("networking.k8s.io", "IngressClass"): networking.ingress_class,
    GroupKind("networking.k8s.io", "NetworkPolicy"): networking.network_policy,
    GroupKind("rbac.authorization.k8s.io", "ClusterRoleBinding"): rbac.role_binding,
    GroupKind("rbac.authorization.k8s.io", "RoleBinding"): rbac.role_binding,
    GroupKind("resource.k8s.io", "ResourceClaim"): resource.resource_claim,
    GroupKind("resource.k8s.io", "ResourceClaimTemplate"): resource.resource_claim_template,
    GroupKind("scheduling.k8s.io", "PriorityClass"): scheduling.priority_class,
    GroupKind("storage.k8s.io", "CSIDriver"): storage.csi_driver,
    GroupKind("storage.k8s.io", "StorageClass"): storage.storage_class,
    GroupKind("storage.k8s.io", "VolumeAttachment"): storage.volume_attachment,
}

DEFAULTERS_OF_VERSION: dict[GroupVersionKind, Defaulter] = {
    GroupVersionKind("autoscaling", "v1", "HorizontalPodAutoscaler"): autoscaling.horizontal_pod_autoscaler_v1,
    GroupVersionKind("autoscaling", "v2", "HorizontalPodAutoscaler"): autoscaling.horizontal_pod_autoscaler_v2,
}
"""Of kinds whose versions differ in their defaults."""


def apply_defaults(obj: dict[str, Any], gvk: GroupVersionKind, now: str = "") -> None:
    """Set the defaults of ``gvk`` in place. ``now`` (RFC 3339) is the time at which a device taint is added."""
    if gvk.kind == "ResourceSlice" and gvk.group == "resource.k8s.io":
        resource.resource_slice(obj, now)
        return
    defaulter = DEFAULTERS.get(gvk.group_kind) or DEFAULTERS_OF_VERSION.get(gvk)
    if defaulter is not None:
        defaulter(obj)
