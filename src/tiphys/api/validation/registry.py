"""Which rules each kind has: one row per kind, by group and version; no version means all of them."""

from __future__ import annotations

from tiphys.api.validation import apps
from tiphys.api.validation.batch import cronjob, job, jobstatus
from tiphys.api.validation.core import (
    configuration,
    endpoints,
    event,
    namespace,
    node,
    persistentvolume,
    persistentvolumeclaim,
    pod,
    podstatus,
    podupdate,
    quota,
    replicationcontroller,
    service,
)
from tiphys.api.validation.rules import Rules, not_stored

RULES: dict[tuple[str, str, str], Rules] = {
    ("", "", "Binding"): not_stored(replicationcontroller.validate_binding),
    ("", "", "ConfigMap"): Rules(configuration.validate_config_map, configuration.validate_config_map_update),
    ("", "", "Endpoints"): Rules(endpoints.validate_endpoints, endpoints.validate_endpoints_update),
    ("", "", "Event"): Rules(event.validate_event, event.validate_event_update),
    ("", "", "LimitRange"): Rules(quota.validate_limit_range, quota.validate_limit_range_update),
    ("", "", "Namespace"): Rules(
        namespace.validate_namespace, namespace.validate_namespace_update, namespace.validate_namespace_status_update
    ),
    ("", "", "Node"): Rules(node.validate_node, node.validate_node_update, node.validate_node_update),
    ("", "", "PersistentVolume"): Rules(
        persistentvolume.validate_volume,
        persistentvolume.validate_volume_update,
        persistentvolume.validate_volume_status_update,
    ),
    ("", "", "PersistentVolumeClaim"): Rules(
        persistentvolumeclaim.validate_claim,
        persistentvolumeclaim.validate_claim_update,
        persistentvolumeclaim.validate_claim_status_update,
    ),
    ("", "", "Pod"): Rules(pod.validate_pod, podupdate.validate_pod_update, podstatus.validate_pod_status_update),
    ("", "", "PodTemplate"): Rules(
        replicationcontroller.validate_pod_template, replicationcontroller.validate_pod_template_update
    ),
    ("", "", "ReplicationController"): Rules(
        replicationcontroller.validate_controller,
        replicationcontroller.validate_controller_update,
        replicationcontroller.validate_controller_status_update,
    ),
    ("", "", "ResourceQuota"): Rules(
        quota.validate_quota, quota.validate_quota_update, quota.validate_quota_status_update
    ),
    ("", "", "Secret"): Rules(configuration.validate_secret, configuration.validate_secret_update),
    ("", "", "Service"): Rules(
        service.validate_service, service.validate_service_update, service.validate_service_status_update
    ),
    ("", "", "ServiceAccount"): Rules(
        configuration.validate_service_account, configuration.validate_service_account_update
    ),
    ("apps", "", "ControllerRevision"): Rules(
        apps.validate_controller_revision, apps.validate_controller_revision_update
    ),
    ("apps", "", "DaemonSet"): Rules(
        apps.validate_daemon_set, apps.validate_daemon_set_update, apps.validate_daemon_set_status_update
    ),
    ("apps", "", "Deployment"): Rules(
        apps.validate_deployment, apps.validate_deployment_update, apps.validate_deployment_status_update
    ),
    ("apps", "", "ReplicaSet"): Rules(
        apps.validate_replica_set, apps.validate_replica_set_update, apps.validate_replica_set_status_update
    ),
    ("apps", "", "StatefulSet"): Rules(
        apps.validate_stateful_set, apps.validate_stateful_set_update, apps.validate_stateful_set_status_update
    ),
    ("batch", "", "CronJob"): Rules(
        cronjob.validate_cron_job, cronjob.validate_cron_job_update, cronjob.validate_cron_job_update
    ),
    ("batch", "", "Job"): Rules(job.validate_job, job.validate_job_update, jobstatus.validate_job_status_update),
    ("events.k8s.io", "", "Event"): Rules(event.validate_new_event, event.validate_new_event_update),
}
