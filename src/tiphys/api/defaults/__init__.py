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
from tiphys.api.scheme import GroupVersionKind

Defaulter = Callable[[dict[str, Any]], None]

_DEFAULTERS: dict[tuple[str, str, str], Defaulter] = {
    ("", "v1", "Endpoints"): core.endpoints,
    ("", "v1", "LimitRange"): core.limit_range,
    ("", "v1", "Namespace"): core.namespace,
    ("", "v1", "Node"): core.node,
    ("", "v1", "PersistentVolume"): core.persistent_volume,
    ("", "v1", "PersistentVolumeClaim"): core.persistent_volume_claim,
    ("", "v1", "Pod"): pod.pod,
    ("", "v1", "PodTemplate"): core.pod_template_object,
    ("", "v1", "ReplicationController"): core.replication_controller,
    ("", "v1", "ResourceQuota"): core.resource_quota,
    ("", "v1", "Secret"): core.secret,
    ("", "v1", "Service"): core.service,
    ("admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicy"): admissionregistration.admission_policy,
    ("admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicyBinding"): (
        admissionregistration.admission_policy_binding
    ),
    ("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration"): (
        admissionregistration.mutating_webhook_configuration
    ),
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy"): admissionregistration.admission_policy,
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding"): (
        admissionregistration.admission_policy_binding
    ),
    ("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration"): (
        admissionregistration.validating_webhook_configuration
    ),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"): apiextensions.custom_resource_definition,
    ("apiregistration.k8s.io", "v1", "APIService"): apiregistration.api_service,
    ("apps", "v1", "DaemonSet"): apps.daemon_set,
    ("apps", "v1", "Deployment"): apps.deployment,
    ("apps", "v1", "ReplicaSet"): apps.replica_set,
    ("apps", "v1", "StatefulSet"): apps.stateful_set,
    ("authentication.k8s.io", "v1", "TokenRequest"): authentication.token_request,
    ("autoscaling", "v1", "HorizontalPodAutoscaler"): autoscaling.horizontal_pod_autoscaler_v1,
    ("autoscaling", "v2", "HorizontalPodAutoscaler"): autoscaling.horizontal_pod_autoscaler_v2,
    ("batch", "v1", "CronJob"): batch.cron_job,
    ("batch", "v1", "Job"): batch.job,
    ("discovery.k8s.io", "v1", "EndpointSlice"): discovery.endpoint_slice,
    ("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema"): flowcontrol.flow_schema,
    ("flowcontrol.apiserver.k8s.io", "v1", "PriorityLevelConfiguration"): flowcontrol.priority_level_configuration,
    ("networking.k8s.io", "v1", "IngressClass"): networking.ingress_class,
    ("networking.k8s.io", "v1", "NetworkPolicy"): networking.network_policy,
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding"): rbac.role_binding,
    ("rbac.authorization.k8s.io", "v1", "RoleBinding"): rbac.role_binding,
    ("resource.k8s.io", "v1", "ResourceClaim"): resource.resource_claim,
    ("resource.k8s.io", "v1", "ResourceClaimTemplate"): resource.resource_claim_template,
    ("scheduling.k8s.io", "v1", "PriorityClass"): scheduling.priority_class,
    ("storage.k8s.io", "v1", "CSIDriver"): storage.csi_driver,
    ("storage.k8s.io", "v1", "StorageClass"): storage.storage_class,
    ("storage.k8s.io", "v1", "VolumeAttachment"): storage.volume_attachment,
}


def apply_defaults(obj: dict[str, Any], gvk: GroupVersionKind, now: str = "") -> None:
    """Set the defaults of ``gvk`` in place. ``now`` (RFC 3339) is the time at which a device taint is added."""
    if gvk.kind == "ResourceSlice" and gvk.group == "resource.k8s.io":
        resource.resource_slice(obj, now)
        return
    defaulter = _DEFAULTERS.get((gvk.group, gvk.version, gvk.kind))
    if defaulter is not None:
        defaulter(obj)
