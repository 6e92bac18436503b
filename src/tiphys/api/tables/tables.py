"""Tables of objects, and objects without all but their metadata."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from tiphys.api.meta.timestamps import canonical_time
from tiphys.api.object import Object
from tiphys.api.scheme import GroupVersionKind
from tiphys.api.tables import cluster, network, pods, storage, workloads
from tiphys.api.tables.columns import columns_of
from tiphys.api.tables.formats import (
    Cells,
    Printer,
)

IncludeObject = Literal["None", "Metadata", "Object"]

PRINTERS: dict[str, Printer] = {
    "APIService.apiregistration.k8s.io": cluster.print_api_service,
    "CSIDriver.storage.k8s.io": storage.print_csi_driver,
    "CSINode.storage.k8s.io": storage.print_csi_node,
    "CertificateSigningRequest.certificates.k8s.io": cluster.print_signing_request,
    "ClusterRoleBinding.rbac.authorization.k8s.io": cluster.print_role_binding,
    "ClusterTrustBundle.certificates.k8s.io": cluster.print_trust_bundle,
    "ComponentStatus": cluster.print_component_status,
    "ConfigMap": cluster.print_config_map,
    "ControllerRevision.apps": workloads.print_controller_revision,
    "CronJob.batch": workloads.print_cron_job,
    "DaemonSet.apps": workloads.print_daemon_set,
    "Deployment.apps": workloads.print_deployment,
    "DeviceClass.resource.k8s.io": cluster.print_name_and_age,
    "DeviceTaintRule.resource.k8s.io": storage.print_device_taint,
    "EndpointSlice.discovery.k8s.io": network.print_endpoint_slice,
    "Endpoints": network.print_endpoints,
    "Event": cluster.print_event,
    "Event.events.k8s.io": cluster.print_new_event,
    "FlowSchema.flowcontrol.apiserver.k8s.io": cluster.print_flow_schema,
    "HorizontalPodAutoscaler.autoscaling": workloads.print_autoscaler,
    "IPAddress.networking.k8s.io": network.print_ip_address,
    "Ingress.networking.k8s.io": network.print_ingress,
    "IngressClass.networking.k8s.io": network.print_ingress_class,
    "Job.batch": workloads.print_job,
    "Lease.coordination.k8s.io": cluster.print_lease,
    "LeaseCandidate.coordination.k8s.io": cluster.print_lease_candidate,
    "MutatingAdmissionPolicy.admissionregistration.k8s.io": cluster.print_mutating_policy,
    "MutatingAdmissionPolicyBinding.admissionregistration.k8s.io": cluster.print_policy_binding,
    "MutatingWebhookConfiguration.admissionregistration.k8s.io": cluster.print_webhooks,
    "Namespace": cluster.print_namespace,
    "NetworkPolicy.networking.k8s.io": network.print_network_policy,
    "Node": cluster.print_node,
    "PersistentVolume": storage.print_volume,
    "PersistentVolumeClaim": storage.print_claim,
    "Pod": pods.print_pod,
    "PodCertificateRequest.certificates.k8s.io": cluster.print_pod_certificate_request,
    "PodDisruptionBudget.policy": workloads.print_disruption_budget,
    "PodGroup.scheduling.k8s.io": cluster.print_pod_group,
    "PodTemplate": workloads.print_pod_template,
    "PriorityClass.scheduling.k8s.io": cluster.print_priority_class,
    "PriorityLevelConfiguration.flowcontrol.apiserver.k8s.io": cluster.print_priority_level,
    "ReplicaSet.apps": workloads.print_replica_set,
    "ReplicationController": workloads.print_replication_controller,
    "ResourceClaim.resource.k8s.io": storage.print_resource_claim,
    "ResourceClaimTemplate.resource.k8s.io": cluster.print_name_and_age,
    "ResourcePoolStatusRequest.resource.k8s.io": storage.print_pool_status_request,
    "ResourceQuota": cluster.print_resource_quota,
    "ResourceSlice.resource.k8s.io": storage.print_resource_slice,
    "RoleBinding.rbac.authorization.k8s.io": cluster.print_role_binding,
    "RuntimeClass.node.k8s.io": cluster.print_runtime_class,
    "Scale.autoscaling": workloads.print_scale,
    "Secret": cluster.print_secret,
    "Service": network.print_service,
    "ServiceAccount": cluster.print_name_and_age,
    "ServiceCIDR.networking.k8s.io": network.print_service_cidr,
    "StatefulSet.apps": workloads.print_stateful_set,
    "StorageClass.storage.k8s.io": storage.print_storage_class,
    "StorageVersion.internal.apiserver.k8s.io": cluster.print_storage_version,
    "StorageVersionMigration.storagemigration.k8s.io": cluster.print_migration,
    "ValidatingAdmissionPolicy.admissionregistration.k8s.io": cluster.print_validating_policy,
    "ValidatingAdmissionPolicyBinding.admissionregistration.k8s.io": cluster.print_policy_binding,
    "ValidatingWebhookConfiguration.admissionregistration.k8s.io": cluster.print_webhooks,
    "VolumeAttachment.storage.k8s.io": storage.print_attachment,
    "VolumeAttributesClass.storage.k8s.io": storage.print_attributes_class,
    "Workload.scheduling.k8s.io": cluster.print_workload,
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

    ``printed`` are the same objects in the version that cells are printed from, where that is another one.

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
    printer = PRINTERS.get(f"{kind}.{group}" if group else kind, _print_any)
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
