"""Tables of objects, and objects without all but their metadata.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from tiphys.api.meta.timestamps import canonical_time
from tiphys.api.object import Object
from tiphys.api.scheme import GroupKind, GroupVersionKind
from tiphys.api.tables import cluster, network, pods, storage, workloads
from tiphys.api.tables.columns import columns_of
from tiphys.api.tables.formats import (
    Cells,
    Printer,
)

IncludeObject = Literal["None", "Metadata", "Object"]

PRINTERS: dict[GroupKind, Printer] = {
    GroupKind("apiregistration.k8s.io", "APIService"): cluster.print_api_service,
    GroupKind("storage.k8s.io", "CSIDriver"): storage.print_csi_driver,
    GroupKind("storage.k8s.io", "CSINode"): storage.print_csi_node,
    GroupKind("certificates.k8s.io", "CertificateSigningRequest"): cluster.print_signing_request,
    GroupKind("rbac.authorization.k8s.io", "ClusterRoleBinding"): cluster.print_role_binding,
    GroupKind("certificates.k8s.io", "ClusterTrustBundle"): cluster.print_trust_bundle,
    GroupKind("", "ComponentStatus"): cluster.print_component_status,
    GroupKind("", "ConfigMap"): cluster.print_config_map,
    GroupKind("apps", "ControllerRevision"): workloads.print_controller_revision,
    GroupKind("batch", "CronJob"): workloads.print_cron_job,
    GroupKind("apps", "DaemonSet"): workloads.print_daemon_set,
    GroupKind("apps", "Deployment"): workloads.print_deployment,
    GroupKind("resource.k8s.io", "DeviceClass"): cluster.print_name_and_age,
    GroupKind("resource.k8s.io", "DeviceTaintRule"): storage.print_device_taint,
    GroupKind("discovery.k8s.io", "EndpointSlice"): network.print_endpoint_slice,
    GroupKind("", "Endpoints"): network.print_endpoints,
    GroupKind("", "Event"): cluster.print_event,
    GroupKind("events.k8s.io", "Event"): cluster.print_new_event,
    GroupKind("flowcontrol.apiserver.k8s.io", "FlowSchema"): cluster.print_flow_schema,
    GroupKind("autoscaling", "HorizontalPodAutoscaler"): workloads.print_autoscaler,
    GroupKind("networking.k8s.io", "IPAddress"): network.print_ip_address,
    GroupKind("networking.k8s.io", "Ingress"): network.print_ingress,
    GroupKind("networking.k8s.io", "IngressClass"): network.print_ingress_class,
    GroupKind("batch", "Job"): workloads.print_job,
    GroupKind("coordination.k8s.io", "Lease"): cluster.print_lease,
    GroupKind("coordination.k8s.io", "LeaseCandidate"): cluster.print_lease_candidate,
    GroupKind("admissionregistration.k8s.io", "MutatingAdmissionPolicy"): cluster.print_mutating_policy,
    GroupKind("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"): cluster.print_policy_binding,
    GroupKind("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): cluster.print_webhooks,
    GroupKind("", "Namespace"): cluster.print_namespace,
    GroupKind("networking.k8s.io", "NetworkPolicy"): network.print_network_policy,
    GroupKind("", "Node"): cluster.print_node,
    GroupKind("", "PersistentVolume"): storage.print_volume,
    GroupKind("", "PersistentVolumeClaim"): storage.print_claim,
    GroupKind("", "Pod"): pods.print_pod,
    GroupKind("certificates.k8s.io", "PodCertificateRequest"): cluster.print_pod_certificate_request,
    GroupKind("policy", "PodDisruptionBudget"): workloads.print_disruption_budget,
    GroupKind("scheduling.k8s.io", "PodGroup"): cluster.print_pod_group,
    GroupKind("", "PodTemplate"): workloads.print_pod_template,
    GroupKind("scheduling.k8s.io", "PriorityClass"): cluster.print_priority_class,
    GroupKind("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"): cluster.print_priority_level,
    GroupKind("apps", "ReplicaSet"): workloads.print_replica_set,
    GroupKind("", "ReplicationController"): workloads.print_replication_controller,
    GroupKind("resource.k8s.io", "ResourceClaim"): storage.print_resource_claim,
    GroupKind("resource.k8s.io", "ResourceClaimTemplate"): cluster.print_name_and_age,
    GroupKind("resource.k8s.io", "ResourcePoolStatusRequest"): storage.print_pool_status_request,
    GroupKind("", "ResourceQuota"): cluster.print_resource_quota,
    GroupKind("resource.k8s.io", "ResourceSlice"): storage.print_resource_slice,
    GroupKind("rbac.authorization.k8s.io", "RoleBinding"): cluster.print_role_binding,
    GroupKind("node.k8s.io", "RuntimeClass"): cluster.print_runtime_class,
    GroupKind("autoscaling", "Scale"): workloads.print_scale,
    GroupKind("", "Secret"): cluster.print_secret,
    GroupKind("", "Service"): network.print_service,
    GroupKind("", "ServiceAccount"): cluster.print_name_and_age,
    GroupKind("networking.k8s.io", "ServiceCIDR"): network.print_service_cidr,
    GroupKind("apps", "StatefulSet"): workloads.print_stateful_set,
    GroupKind("storage.k8s.io", "StorageClass"): storage.print_storage_class,
    GroupKind("internal.apiserver.k8s.io", "StorageVersion"): cluster.print_storage_version,
    GroupKind("storagemigration.k8s.io", "StorageVersionMigration"): cluster.print_migration,
    GroupKind("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): cluster.print_validating_policy,
    GroupKind("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): cluster.print_policy_binding,
    GroupKind("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): cluster.print_webhooks,
    GroupKind("storage.k8s.io", "VolumeAttachment"): storage.print_attachment,
    GroupKind("storage.k8s.io", "VolumeAttributesClass"): storage.print_attributes_class,
    GroupKind("scheduling.k8s.io", "Workload"): cluster.print_workload,
}


def table_for(
    kind: GroupVersionKind,
    objects: Iterable[Object],
    now: float,
    *,
    list_meta: dict[str, Any] | None = None,
    include: IncludeObject = "Metadata",
    headers: bool = True,
    printed: Iterable[Object] | None = None,
) -> dict[str, Any]:
    """A meta.k8s.io/v1 Table of objects of one kind; ``now`` in Unix seconds.

    ``printed`` are the same objects in the version that cells are printed from, if that is another one.

    ``list_meta`` is the metadata of the list (resourceVersion, continue, remainingItemCount); without ``headers``, as
    in every event of a watch but the first, the columns are left out.
    """
    objects = list(objects)
    columns = [column.definition() for column in columns_of(kind.group, kind.kind)] if headers else None
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_meta or {},
        "columnDefinitions": columns,
        "rows": [
            row_of(kind.group, kind.kind, obj, now, include, shown)
            for obj, shown in zip(objects, objects if printed is None else printed, strict=True)
        ],
    }


def row_of(
    group: str,
    kind: str,
    obj: Object,
    now: float,
    include: IncludeObject = "Metadata",
    printed: Object | None = None,
) -> dict[str, Any]:
    """One TableRow; ``printed`` is the object in the version that its cells are printed from."""
    printer = PRINTERS.get(GroupKind(group, kind), _print_any)
    row: dict[str, Any] = {"cells": printer(obj if printed is None else printed, now)}
    if kind == "Pod" and not group and (conditions := pods.row_conditions(obj)):
        row["conditions"] = conditions
    row["object"] = {"None": None, "Metadata": partial_metadata(obj), "Object": obj}[include]
    return row


def partial_metadata(obj: Object, version: str = "v1") -> dict[str, Any]:
    """A meta.k8s.io PartialObjectMetadata."""
    meta = obj["metadata"]
    if (hidden := _FIELDS_IN_ANNOTATIONS.get(obj.get("kind", ""))) and "annotations" in meta:
        shown = {name: value for name, value in meta["annotations"].items() if name not in hidden}
        meta = {name: value for name, value in meta.items() if name != "annotations"}
        if shown:
            meta["annotations"] = shown
    return {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}", "metadata": meta}


_FIELDS_IN_ANNOTATIONS = {
    "DaemonSet": {"deprecated.daemonset.template.generation"},
    "Deployment": {"deprecated.deployment.rollback.to"},
    "HorizontalPodAutoscaler": {
        f"autoscaling.alpha.kubernetes.io/{name}" for name in ("behavior", "conditions", "current-metrics", "metrics")
    },
}
"""What one version keeps in annotations and others in fields: upstream takes the metadata of none of them, but of
its internal form, where it is a field."""


def _print_any(obj: Object, now: float) -> Cells:
    meta = obj["metadata"]
    stamp = meta.get("creationTimestamp")
    return [meta.get("name", ""), canonical_time(stamp) if stamp else None]
