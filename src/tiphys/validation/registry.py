"""Which rules each kind has: one row per kind, and one for a version that differs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from tiphys.api.scheme import GroupKind, GroupVersionKind
from tiphys.runtime.lazily import Function, Module
from tiphys.validation.shared.rules import Rules, not_stored

if TYPE_CHECKING:  # as the type checker, editors and search see them
    from tiphys.validation import (
        apiregistration,
        apps,
        authentication,
        authorization,
        autoscaling,
        certificates,
        coordination,
        discovery,
        flowcontrol,
        networking,
        policy,
        rbac,
        runtimeclass,
        scheduling,
        storage,
    )
    from tiphys.validation.admissionregistration import policies, webhooks
    from tiphys.validation.apiextensions import definition
    from tiphys.validation.batch import cronjob, job, jobstatus
    from tiphys.validation.core import (
        configuration,
        endpoints,
        event,
        namespace,
        node,
        persistentvolume,
        persistentvolumeclaim,
        quota,
        replicationcontroller,
        service,
    )
    from tiphys.validation.pods import pod, podstatus, podupdate
    from tiphys.validation.resource import claims, slices
else:
    apiregistration = Module("tiphys.validation.apiregistration")
    apps = Module("tiphys.validation.apps")
    authentication = Module("tiphys.validation.authentication")
    authorization = Module("tiphys.validation.authorization")
    autoscaling = Module("tiphys.validation.autoscaling")
    certificates = Module("tiphys.validation.certificates")
    coordination = Module("tiphys.validation.coordination")
    discovery = Module("tiphys.validation.discovery")
    flowcontrol = Module("tiphys.validation.flowcontrol")
    networking = Module("tiphys.validation.networking")
    policy = Module("tiphys.validation.policy")
    rbac = Module("tiphys.validation.rbac")
    runtimeclass = Module("tiphys.validation.runtimeclass")
    scheduling = Module("tiphys.validation.scheduling")
    storage = Module("tiphys.validation.storage")
    policies = Module("tiphys.validation.admissionregistration.policies")
    webhooks = Module("tiphys.validation.admissionregistration.webhooks")
    definition = Module("tiphys.validation.apiextensions.definition")
    cronjob = Module("tiphys.validation.batch.cronjob")
    job = Module("tiphys.validation.batch.job")
    jobstatus = Module("tiphys.validation.batch.jobstatus")
    configuration = Module("tiphys.validation.core.configuration")
    endpoints = Module("tiphys.validation.core.endpoints")
    event = Module("tiphys.validation.core.event")
    namespace = Module("tiphys.validation.core.namespace")
    node = Module("tiphys.validation.core.node")
    persistentvolume = Module("tiphys.validation.core.persistentvolume")
    persistentvolumeclaim = Module("tiphys.validation.core.persistentvolumeclaim")
    pod = Module("tiphys.validation.pods.pod")
    podstatus = Module("tiphys.validation.pods.podstatus")
    podupdate = Module("tiphys.validation.pods.podupdate")
    quota = Module("tiphys.validation.core.quota")
    replicationcontroller = Module("tiphys.validation.core.replicationcontroller")
    service = Module("tiphys.validation.core.service")
    claims = Module("tiphys.validation.resource.claims")
    slices = Module("tiphys.validation.resource.slices")

RULES: dict[GroupKind, Rules] = {
    GroupKind("", "Binding"): not_stored(replicationcontroller.validate_binding),
    GroupKind("", "ConfigMap"): Rules(configuration.validate_config_map, configuration.validate_config_map_update),
    GroupKind("", "Endpoints"): Rules(endpoints.validate_endpoints, endpoints.validate_endpoints_update),
    GroupKind("", "Event"): Rules(
        event.validate_event, event.validate_event_update, checks_metadata=False, metadata_on_update=False
    ),
    GroupKind("", "LimitRange"): Rules(
        quota.validate_limit_range, quota.validate_limit_range_update, metadata_on_update=False
    ),
    GroupKind("", "Namespace"): Rules(
        namespace.validate_namespace, namespace.validate_namespace_update, namespace.validate_namespace_status_update
    ),
    GroupKind("", "Node"): Rules(node.validate_node, node.validate_node_update, node.validate_node_status_update),
    GroupKind("", "PersistentVolume"): Rules(
        persistentvolume.validate_volume,
        persistentvolume.validate_volume_update,
        persistentvolume.validate_volume_status_update,
        metadata_on_update=False,
    ),
    GroupKind("", "PersistentVolumeClaim"): Rules(
        persistentvolumeclaim.validate_claim,
        persistentvolumeclaim.validate_claim_update,
        persistentvolumeclaim.validate_claim_status_update,
    ),
    GroupKind("", "Pod"): Rules(pod.validate_pod, podupdate.validate_pod_update, podstatus.validate_pod_status_update),
    GroupKind("", "PodTemplate"): Rules(
        replicationcontroller.validate_pod_template, replicationcontroller.validate_pod_template_update
    ),
    GroupKind("", "ReplicationController"): Rules(
        replicationcontroller.validate_controller,
        replicationcontroller.validate_controller_update,
        replicationcontroller.validate_controller_status_update,
    ),
    GroupKind("", "ResourceQuota"): Rules(
        quota.validate_quota, quota.validate_quota_update, quota.validate_quota_status_update
    ),
    GroupKind("", "Secret"): Rules(configuration.validate_secret, configuration.validate_secret_update),
    GroupKind("", "Service"): Rules(
        service.validate_service, service.validate_service_update, service.validate_service_status_update
    ),
    GroupKind("", "ServiceAccount"): Rules(
        configuration.validate_service_account, configuration.validate_service_account_update
    ),
    GroupKind("admissionregistration.k8s.io", "MutatingAdmissionPolicy"): Rules(
        policies.validate_mutating_policy, policies.validate_mutating_policy_update, metadata_on_update=False
    ),
    GroupKind("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"): Rules(
        policies.validate_mutating_binding, policies.validate_mutating_binding_update, metadata_on_update=False
    ),
    GroupKind("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): Rules(
        webhooks.validate_webhooks, webhooks.validate_webhooks_update, metadata_on_update=False
    ),
    GroupKind("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): Rules(
        policies.validate_validating_policy,
        policies.validate_validating_policy_update,
        policies.validate_policy_status_update,
        metadata_on_update=False,
    ),
    GroupKind("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): Rules(
        policies.validate_validating_binding, policies.validate_validating_binding_update, metadata_on_update=False
    ),
    GroupKind("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): Rules(
        webhooks.validate_webhooks, webhooks.validate_webhooks_update, metadata_on_update=False
    ),
    GroupKind("apiextensions.k8s.io", "CustomResourceDefinition"): Rules(
        definition.validate_definition,
        definition.validate_definition_update,
        definition.validate_definition_status_update,
    ),
    GroupKind("apiregistration.k8s.io", "APIService"): Rules(
        apiregistration.validate_api_service,
        apiregistration.validate_api_service_update,
        apiregistration.validate_api_service_status_update,
    ),
    GroupKind("apps", "ControllerRevision"): Rules(
        apps.validate_controller_revision, apps.validate_controller_revision_update
    ),
    GroupKind("apps", "DaemonSet"): Rules(
        apps.validate_daemon_set, apps.validate_daemon_set_update, apps.validate_daemon_set_status_update
    ),
    GroupKind("apps", "Deployment"): Rules(
        apps.validate_deployment, apps.validate_deployment_update, apps.validate_deployment_status_update
    ),
    GroupKind("apps", "ReplicaSet"): Rules(
        apps.validate_replica_set, apps.validate_replica_set_update, apps.validate_replica_set_status_update
    ),
    GroupKind("apps", "StatefulSet"): Rules(
        apps.validate_stateful_set, apps.validate_stateful_set_update, apps.validate_stateful_set_status_update
    ),
    GroupKind("batch", "CronJob"): Rules(
        cronjob.validate_cron_job,
        cronjob.validate_cron_job_update,
        cronjob.validate_cron_job_status_update,
        metadata_on_status=False,
    ),
    GroupKind("batch", "Job"): Rules(job.validate_job, job.validate_job_update, jobstatus.validate_job_status_update),
    GroupKind("authentication.k8s.io", "TokenRequest"): not_stored(authentication.validate_token_request),
    GroupKind("authorization.k8s.io", "LocalSubjectAccessReview"): not_stored(
        authorization.validate_local_access_review
    ),
    GroupKind("authorization.k8s.io", "SelfSubjectAccessReview"): not_stored(authorization.validate_self_access_review),
    GroupKind("authorization.k8s.io", "SubjectAccessReview"): not_stored(authorization.validate_access_review),
    GroupKind("autoscaling", "HorizontalPodAutoscaler"): Rules(
        autoscaling.validate_autoscaler,
        autoscaling.validate_autoscaler_update,
        autoscaling.validate_autoscaler_status_update,
    ),
    GroupKind("autoscaling", "Scale"): not_stored(autoscaling.validate_scale),
    GroupKind("certificates.k8s.io", "CertificateSigningRequest"): Rules(
        certificates.validate_csr,
        certificates.validate_csr_update,
        certificates.validate_csr_status_update,
        checks_metadata=False,
    ),
    GroupKind("coordination.k8s.io", "Lease"): Rules(coordination.validate_lease, coordination.validate_lease_update),
    GroupKind("discovery.k8s.io", "EndpointSlice"): Rules(
        discovery.validate_slice, discovery.validate_slice_update, metadata_on_update=False
    ),
    GroupKind("events.k8s.io", "Event"): Rules(event.validate_new_event, event.validate_new_event_update),
    GroupKind("flowcontrol.apiserver.k8s.io", "FlowSchema"): Rules(
        flowcontrol.validate_flow_schema,
        flowcontrol.validate_flow_schema_update,
        flowcontrol.validate_status_update,
        metadata_on_update=False,
    ),
    GroupKind("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"): Rules(
        flowcontrol.validate_priority_level,
        flowcontrol.validate_priority_level_update,
        flowcontrol.validate_status_update,
        metadata_on_update=False,
    ),
    GroupKind("networking.k8s.io", "IPAddress"): Rules(
        networking.validate_ip_address, networking.validate_ip_address_update
    ),
    GroupKind("networking.k8s.io", "Ingress"): Rules(
        networking.validate_ingress, networking.validate_ingress_update, networking.validate_ingress_status_update
    ),
    GroupKind("networking.k8s.io", "IngressClass"): Rules(
        networking.validate_ingress_class, networking.validate_ingress_class_update
    ),
    GroupKind("networking.k8s.io", "NetworkPolicy"): Rules(
        networking.validate_network_policy, networking.validate_network_policy_update
    ),
    GroupKind("networking.k8s.io", "ServiceCIDR"): Rules(
        networking.validate_service_cidr,
        networking.validate_service_cidr_update,
        networking.validate_service_cidr_status_update,
    ),
    GroupKind("node.k8s.io", "RuntimeClass"): Rules(
        runtimeclass.validate_runtime_class, runtimeclass.validate_runtime_class_update
    ),
    GroupKind("policy", "Eviction"): not_stored(policy.validate_eviction),
    GroupKind("policy", "PodDisruptionBudget"): Rules(
        policy.validate_budget,
        policy.validate_budget_update,
        policy.validate_budget_status_update,
        checks_metadata=False,
        metadata_on_update=False,
    ),
    GroupKind("rbac.authorization.k8s.io", "ClusterRole"): Rules(
        rbac.validate_cluster_role, rbac.validate_cluster_role_update
    ),
    GroupKind("rbac.authorization.k8s.io", "ClusterRoleBinding"): Rules(
        rbac.validate_cluster_role_binding, rbac.validate_cluster_role_binding_update
    ),
    GroupKind("rbac.authorization.k8s.io", "Role"): Rules(rbac.validate_role, rbac.validate_role_update),
    GroupKind("rbac.authorization.k8s.io", "RoleBinding"): Rules(
        rbac.validate_role_binding, rbac.validate_role_binding_update
    ),
    GroupKind("resource.k8s.io", "DeviceClass"): Rules(
        claims.validate_device_class, claims.validate_device_class_update
    ),
    GroupKind("resource.k8s.io", "ResourceClaim"): Rules(
        claims.validate_claim, claims.validate_claim_update, claims.validate_claim_status_update
    ),
    GroupKind("resource.k8s.io", "ResourceClaimTemplate"): Rules(
        claims.validate_claim_template, claims.validate_claim_template_update
    ),
    GroupKind("resource.k8s.io", "ResourceSlice"): Rules(slices.validate_slice, slices.validate_slice_update),
    GroupKind("scheduling.k8s.io", "PriorityClass"): Rules(
        scheduling.validate_priority_class, scheduling.validate_priority_class_update
    ),
    GroupKind("storage.k8s.io", "CSIDriver"): Rules(storage.validate_csi_driver, storage.validate_csi_driver_update),
    GroupKind("storage.k8s.io", "CSINode"): Rules(
        storage.validate_csi_node, storage.validate_csi_node_update, metadata_on_update=False
    ),
    GroupKind("storage.k8s.io", "CSIStorageCapacity"): Rules(
        storage.validate_capacity, storage.validate_capacity_update
    ),
    GroupKind("storage.k8s.io", "StorageClass"): Rules(
        storage.validate_storage_class, storage.validate_storage_class_update
    ),
    GroupKind("storage.k8s.io", "VolumeAttachment"): Rules(
        storage.validate_attachment, storage.validate_attachment_update, metadata_on_update=False
    ),
    GroupKind("storage.k8s.io", "VolumeAttributesClass"): Rules(
        storage.validate_attributes_class, storage.validate_attributes_class_update
    ),
}

RULES_OF_VERSION: dict[GroupVersionKind, Rules] = {
    GroupVersionKind("autoscaling", "v1", "HorizontalPodAutoscaler"): Rules(
        autoscaling.validate_autoscaler_v1,
        autoscaling.validate_autoscaler_v1_update,
        autoscaling.validate_autoscaler_status_update,
    ),
}
"""Of versions whose objects have another shape than those of the others."""


def import_all() -> None:
    """Import the rules of every kind now."""
    for rules in (*RULES.values(), *RULES_OF_VERSION.values()):
        for function in (rules.create, rules.update, rules.status):
            if isinstance(function, Function):
                import_module(function.module)
