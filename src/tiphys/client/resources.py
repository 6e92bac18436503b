"""Where the resources that the components use are served: group, version and plural of each.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class ResourcePath:
    """One resource in one version, as a client addresses it."""

    group: str
    version: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path: ``/apis/apps/v1/namespaces/default/deployments/web/scale``."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts += [self.plural, *(quote(part, safe="") for part in (name, *subresource.split("/")) if part)]
        return "/".join(parts)


BINDINGS = ResourcePath("", "v1", "bindings")
CONFIG_MAPS = ResourcePath("", "v1", "configmaps")
ENDPOINTS = ResourcePath("", "v1", "endpoints")
CORE_EVENTS = ResourcePath("", "v1", "events")
NAMESPACES = ResourcePath("", "v1", "namespaces", namespaced=False)
NODES = ResourcePath("", "v1", "nodes", namespaced=False)
PERSISTENT_VOLUME_CLAIMS = ResourcePath("", "v1", "persistentvolumeclaims")
PERSISTENT_VOLUMES = ResourcePath("", "v1", "persistentvolumes", namespaced=False)
PODS = ResourcePath("", "v1", "pods")
REPLICATION_CONTROLLERS = ResourcePath("", "v1", "replicationcontrollers")
RESOURCE_QUOTAS = ResourcePath("", "v1", "resourcequotas")
SECRETS = ResourcePath("", "v1", "secrets")
SERVICE_ACCOUNTS = ResourcePath("", "v1", "serviceaccounts")
SERVICES = ResourcePath("", "v1", "services")

CONTROLLER_REVISIONS = ResourcePath("apps", "v1", "controllerrevisions")
DAEMON_SETS = ResourcePath("apps", "v1", "daemonsets")
DEPLOYMENTS = ResourcePath("apps", "v1", "deployments")
REPLICA_SETS = ResourcePath("apps", "v1", "replicasets")
STATEFUL_SETS = ResourcePath("apps", "v1", "statefulsets")

SUBJECT_ACCESS_REVIEWS = ResourcePath("authorization.k8s.io", "v1", "subjectaccessreviews", namespaced=False)
TOKEN_REVIEWS = ResourcePath("authentication.k8s.io", "v1", "tokenreviews", namespaced=False)
HORIZONTAL_POD_AUTOSCALERS = ResourcePath("autoscaling", "v2", "horizontalpodautoscalers")
CRON_JOBS = ResourcePath("batch", "v1", "cronjobs")
JOBS = ResourcePath("batch", "v1", "jobs")
CERTIFICATE_SIGNING_REQUESTS = ResourcePath("certificates.k8s.io", "v1", "certificatesigningrequests", namespaced=False)
LEASES = ResourcePath("coordination.k8s.io", "v1", "leases")
API_SERVICES = ResourcePath("apiregistration.k8s.io", "v1", "apiservices", namespaced=False)
ENDPOINT_SLICES = ResourcePath("discovery.k8s.io", "v1", "endpointslices")
EVENTS = ResourcePath("events.k8s.io", "v1", "events")
IP_ADDRESSES = ResourcePath("networking.k8s.io", "v1", "ipaddresses", namespaced=False)
INGRESS_CLASSES = ResourcePath("networking.k8s.io", "v1", "ingressclasses", namespaced=False)
INGRESSES = ResourcePath("networking.k8s.io", "v1", "ingresses")
NETWORK_POLICIES = ResourcePath("networking.k8s.io", "v1", "networkpolicies")
SERVICE_CIDRS = ResourcePath("networking.k8s.io", "v1", "servicecidrs", namespaced=False)
GATEWAY_CLASSES = ResourcePath("gateway.networking.k8s.io", "v1", "gatewayclasses", namespaced=False)
GATEWAYS = ResourcePath("gateway.networking.k8s.io", "v1", "gateways")
HTTP_ROUTES = ResourcePath("gateway.networking.k8s.io", "v1", "httproutes")
RUNTIME_CLASSES = ResourcePath("node.k8s.io", "v1", "runtimeclasses", namespaced=False)
POD_DISRUPTION_BUDGETS = ResourcePath("policy", "v1", "poddisruptionbudgets")
CLUSTER_ROLE_BINDINGS = ResourcePath("rbac.authorization.k8s.io", "v1", "clusterrolebindings", namespaced=False)
VALIDATING_ADMISSION_POLICIES = ResourcePath(
    "admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", namespaced=False
)
CLUSTER_ROLES = ResourcePath("rbac.authorization.k8s.io", "v1", "clusterroles", namespaced=False)
ROLE_BINDINGS = ResourcePath("rbac.authorization.k8s.io", "v1", "rolebindings")
ROLES = ResourcePath("rbac.authorization.k8s.io", "v1", "roles")
DEVICE_CLASSES = ResourcePath("resource.k8s.io", "v1", "deviceclasses", namespaced=False)
RESOURCE_SLICES = ResourcePath("resource.k8s.io", "v1", "resourceslices", namespaced=False)
RESOURCE_CLAIM_TEMPLATES = ResourcePath("resource.k8s.io", "v1", "resourceclaimtemplates")
RESOURCE_SLICES = ResourcePath("resource.k8s.io", "v1", "resourceslices", namespaced=False)
RESOURCE_CLAIMS = ResourcePath("resource.k8s.io", "v1", "resourceclaims")
CSI_DRIVERS = ResourcePath("storage.k8s.io", "v1", "csidrivers", namespaced=False)
CSI_STORAGE_CAPACITIES = ResourcePath("storage.k8s.io", "v1", "csistoragecapacities")
CSI_NODES = ResourcePath("storage.k8s.io", "v1", "csinodes", namespaced=False)
STORAGE_CLASSES = ResourcePath("storage.k8s.io", "v1", "storageclasses", namespaced=False)
VOLUME_ATTRIBUTES_CLASSES = ResourcePath("storage.k8s.io", "v1", "volumeattributesclasses", namespaced=False)
VOLUME_ATTACHMENTS = ResourcePath("storage.k8s.io", "v1", "volumeattachments", namespaced=False)
