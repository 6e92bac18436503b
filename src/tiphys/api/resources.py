"""The rows of the scheme: every resource that Kubernetes v1.36 serves by default.

Groups are in the order in which upstream lists them under ``/apis``. Storage prefixes and storage versions are
upstream's layout in etcd, so that either server can read what the other wrote.
Source: the API reference of v1.36 (https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/) and the
discovery documents of a v1.36 server.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tiphys.api.scheme import GroupVersionKind, Resource, Scheme, Subresource

_REVIEW = ("create",)
_STATUS_VERBS = ("get", "patch", "update")
_PROXY_VERBS = ("create", "delete", "get", "patch", "update")
_SCALE = Subresource("scale", _STATUS_VERBS, GroupVersionKind("autoscaling", "v1", "Scale"))
_STATUS = Subresource("status", _STATUS_VERBS)
_ALL = ("all",)
_EXTENSIONS = ("api-extensions",)

_PACKAGES = {
    "": "io.k8s.api.core",
    "apiregistration.k8s.io": "io.k8s.kube-aggregator.pkg.apis.apiregistration",
    "apiextensions.k8s.io": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
}


def definition_name(gvk: GroupVersionKind) -> str:
    """The name of a built-in kind's published OpenAPI definition: ``io.k8s.api.apps.v1.Deployment``."""
    package = _PACKAGES.get(gvk.group) or f"io.k8s.api.{gvk.group.partition('.')[0]}"
    return f"{package}.{gvk.version}.{gvk.kind}"


def _row(group: str, kind: str, plural: str = "", versions: tuple[str, ...] = ("v1",), **more: Any) -> Resource:
    plural = plural or f"{kind.lower()}s"
    names = {v: definition_name(GroupVersionKind(group, v, kind)) for v in versions}
    more.setdefault("storage_version", versions[0])
    more.setdefault("storage_prefix", plural)
    more.setdefault("singular", kind.lower())
    return Resource(group=group, plural=plural, kind=kind, versions=versions, definitions=names, **more)


def _connect(name: str, kind: str, verbs: tuple[str, ...] = ("create", "get")) -> Subresource:
    return Subresource(name, verbs, GroupVersionKind("", "v1", kind))


def _core() -> Iterable[Resource]:
    """The resources of the core group."""
    yield _row("", "Binding", verbs=_REVIEW)
    yield _row("", "ComponentStatus", "componentstatuses", verbs=("get", "list"), short_names=("cs",), namespaced=False)
    yield _row("", "ConfigMap", short_names=("cm",))
    yield _row("", "Endpoints", "endpoints", short_names=("ep",), storage_prefix="services/endpoints")
    yield _row("", "Event", short_names=("ev",))
    yield _row("", "LimitRange", short_names=("limits",))
    yield _row(
        "",
        "Namespace",
        namespaced=False,
        short_names=("ns",),
        verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
        subresources=(Subresource("finalize", ("update",)), _STATUS),
    )
    yield _row(
        "",
        "Node",
        namespaced=False,
        short_names=("no",),
        storage_prefix="minions",
        subresources=(_connect("proxy", "NodeProxyOptions", _PROXY_VERBS), _STATUS),
    )
    yield _row("", "PersistentVolumeClaim", short_names=("pvc",), subresources=(_STATUS,))
    yield _row("", "PersistentVolume", namespaced=False, short_names=("pv",), subresources=(_STATUS,))
    yield _row("", "Pod", short_names=("po",), categories=_ALL, subresources=_POD_SUBRESOURCES)
    yield _row("", "PodTemplate")
    yield _row(
        "",
        "ReplicationController",
        short_names=("rc",),
        categories=_ALL,
        storage_prefix="controllers",
        subresources=(_SCALE, _STATUS),
    )
    yield _row("", "ResourceQuota", short_names=("quota",), subresources=(_STATUS,))
    yield _row("", "Secret")
    yield _row(
        "",
        "ServiceAccount",
        short_names=("sa",),
        subresources=(Subresource("token", _REVIEW, GroupVersionKind("authentication.k8s.io", "v1", "TokenRequest")),),
    )
    yield _row(
        "",
        "Service",
        short_names=("svc",),
        categories=_ALL,
        storage_prefix="services/specs",
        subresources=(_connect("proxy", "ServiceProxyOptions", _PROXY_VERBS), _STATUS),
    )


_POD_SUBRESOURCES = (
    _connect("attach", "PodAttachOptions"),
    _connect("binding", "Binding", _REVIEW),
    Subresource("ephemeralcontainers", _STATUS_VERBS),
    Subresource("eviction", _REVIEW, GroupVersionKind("policy", "v1", "Eviction")),
    _connect("exec", "PodExecOptions"),
    Subresource("log", ("get",)),
    _connect("portforward", "PodPortForwardOptions"),
    _connect("proxy", "PodProxyOptions", _PROXY_VERBS),
    Subresource("resize", _STATUS_VERBS),
    _STATUS,
)


def _workloads() -> Iterable[Resource]:
    group = "apps"
    scalable = (_SCALE, _STATUS)
    yield _row(group, "ControllerRevision")
    yield _row(group, "DaemonSet", short_names=("ds",), categories=_ALL, subresources=(_STATUS,))
    yield _row(group, "Deployment", short_names=("deploy",), categories=_ALL, subresources=scalable)
    yield _row(group, "ReplicaSet", short_names=("rs",), categories=_ALL, subresources=scalable)
    yield _row(group, "StatefulSet", short_names=("sts",), categories=_ALL, subresources=scalable)


def _reviews() -> Iterable[Resource]:
    authentication, authorization = "authentication.k8s.io", "authorization.k8s.io"
    yield _row(authentication, "SelfSubjectReview", namespaced=False, verbs=_REVIEW)
    yield _row(authentication, "TokenReview", namespaced=False, verbs=_REVIEW)
    yield _row(authorization, "LocalSubjectAccessReview", verbs=_REVIEW)
    yield _row(authorization, "SelfSubjectAccessReview", namespaced=False, verbs=_REVIEW)
    yield _row(authorization, "SelfSubjectRulesReview", namespaced=False, verbs=_REVIEW)
    yield _row(authorization, "SubjectAccessReview", namespaced=False, verbs=_REVIEW)


def _networking() -> Iterable[Resource]:
    group = "networking.k8s.io"
    yield _row(group, "IngressClass", "ingressclasses", namespaced=False)
    yield _row(group, "Ingress", "ingresses", short_names=("ing",), storage_prefix="ingress", subresources=(_STATUS,))
    yield _row(group, "IPAddress", "ipaddresses", namespaced=False, short_names=("ip",))
    yield _row(group, "NetworkPolicy", "networkpolicies", short_names=("netpol",))
    yield _row(group, "ServiceCIDR", namespaced=False, subresources=(_STATUS,))


def _rbac() -> Iterable[Resource]:
    group = "rbac.authorization.k8s.io"
    yield _row(group, "ClusterRoleBinding", namespaced=False)
    yield _row(group, "ClusterRole", namespaced=False)
    yield _row(group, "RoleBinding")
    yield _row(group, "Role")


def _storage() -> Iterable[Resource]:
    group = "storage.k8s.io"
    yield _row(group, "CSIDriver", namespaced=False)
    yield _row(group, "CSINode", namespaced=False)
    yield _row(group, "CSIStorageCapacity", "csistoragecapacities")
    yield _row(group, "StorageClass", "storageclasses", namespaced=False, short_names=("sc",))
    yield _row(group, "VolumeAttachment", namespaced=False, subresources=(_STATUS,))
    yield _row(group, "VolumeAttributesClass", "volumeattributesclasses", namespaced=False, short_names=("vac",))


def _admission() -> Iterable[Resource]:
    group = "admissionregistration.k8s.io"
    cluster: dict[str, Any] = {"namespaced": False, "categories": _EXTENSIONS}
    yield _row(group, "MutatingAdmissionPolicy", "mutatingadmissionpolicies", **cluster)
    yield _row(group, "MutatingAdmissionPolicyBinding", **cluster)
    yield _row(group, "MutatingWebhookConfiguration", **cluster)
    yield _row(group, "ValidatingAdmissionPolicy", "validatingadmissionpolicies", subresources=(_STATUS,), **cluster)
    yield _row(group, "ValidatingAdmissionPolicyBinding", **cluster)
    yield _row(group, "ValidatingWebhookConfiguration", **cluster)


def _dynamic_resources() -> Iterable[Resource]:
    group = "resource.k8s.io"
    yield _row(group, "DeviceClass", "deviceclasses", namespaced=False)
    yield _row(group, "ResourceClaim", subresources=(_STATUS,))
    yield _row(group, "ResourceClaimTemplate")
    yield _row(group, "ResourceSlice", namespaced=False)


def _flow_control() -> Iterable[Resource]:
    group = "flowcontrol.apiserver.k8s.io"
    yield _row(group, "FlowSchema", namespaced=False, subresources=(_STATUS,))
    yield _row(group, "PriorityLevelConfiguration", namespaced=False, subresources=(_STATUS,))


def _all() -> Iterable[Resource]:
    """Every group, in the order of discovery."""
    yield from _core()
    yield _row(
        "apiregistration.k8s.io",
        "APIService",
        namespaced=False,
        categories=_EXTENSIONS,
        storage_prefix="apiregistration.k8s.io/apiservices",
        subresources=(_STATUS,),
    )
    yield from _workloads()
    yield _row("events.k8s.io", "Event", short_names=("ev",))
    yield from _reviews()
    yield _row(
        "autoscaling",
        "HorizontalPodAutoscaler",
        versions=("v2", "v1"),
        short_names=("hpa",),
        categories=_ALL,
        subresources=(_STATUS,),
    )
    yield _row("batch", "CronJob", short_names=("cj",), categories=_ALL, subresources=(_STATUS,))
    yield _row("batch", "Job", categories=_ALL, subresources=(_STATUS,))
    yield _row(
        "certificates.k8s.io",
        "CertificateSigningRequest",
        namespaced=False,
        short_names=("csr",),
        subresources=(Subresource("approval", _STATUS_VERBS), _STATUS),
    )
    yield from _networking()
    yield _row("policy", "PodDisruptionBudget", short_names=("pdb",), subresources=(_STATUS,))
    yield from _rbac()
    yield from _storage()
    yield from _admission()
    yield _row(
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        namespaced=False,
        short_names=("crd", "crds"),
        categories=_EXTENSIONS,
        storage_prefix="apiextensions.k8s.io/customresourcedefinitions",
        subresources=(_STATUS,),
    )
    yield _row("scheduling.k8s.io", "PriorityClass", "priorityclasses", namespaced=False, short_names=("pc",))
    yield _row("coordination.k8s.io", "Lease")
    yield _row("node.k8s.io", "RuntimeClass", "runtimeclasses", namespaced=False)
    yield _row("discovery.k8s.io", "EndpointSlice")
    yield from _dynamic_resources()
    yield from _flow_control()


def builtin_scheme() -> Scheme:
    return Scheme(_all())
