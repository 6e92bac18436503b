"""Defaults of the core group, v1 (pods and volumes have modules of their own).

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/
"""

from __future__ import annotations

from tiphys.api.defaults import aliases
from tiphys.api.defaults.common import child, if_empty, if_missing, items
from tiphys.api.defaults.pod import pod_template
from tiphys.api.defaults.resourcelist import round_up
from tiphys.api.defaults.volumes import claim_spec, persistent_volume_source
from tiphys.api.object import Object

NAME_LABEL = "kubernetes.io/metadata.name"
_ROUTED_TYPES = ("ClusterIP", "NodePort", "LoadBalancer")


def service(obj: Object) -> None:
    """Default the type, session affinity, port protocols and traffic policies of a Service; in place."""
    spec = child(obj, "spec")
    if_empty(spec, sessionAffinity="None", type="ClusterIP")
    _session_affinity(spec)
    kind = spec["type"]
    for port in items(spec, "ports"):
        if_empty(port, protocol="TCP")
        if not port.get("targetPort") and port.get("port") is not None:
            port["targetPort"] = port["port"]
    external = kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and spec.get("externalIPs"))
    if external:
        if_empty(spec, externalTrafficPolicy="Cluster")
    if kind in _ROUTED_TYPES:
        if_missing(spec, internalTrafficPolicy="Cluster")
    if kind == "LoadBalancer":
        if_missing(spec, allocateLoadBalancerNodePorts=True)
        for ingress in items((obj.get("status") or {}).get("loadBalancer") or {}, "ingress"):
            if ingress.get("ip"):
                if_missing(ingress, ipMode="VIP")


def _session_affinity(spec: Object) -> None:
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
        if client.get("timeoutSeconds") is None:
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": 10800}}


def secret(obj: Object) -> None:
    if_empty(obj, type="Opaque")
    aliases.string_data(obj)


def namespace(obj: Object) -> None:
    metadata = child(obj, "metadata")
    if metadata.get("name"):
        child(metadata, "labels")[NAME_LABEL] = metadata["name"]
    if_empty(child(obj, "status"), phase="Active")


def node(obj: Object) -> None:
    if obj.get("spec"):
        aliases.node_blocks(obj["spec"])
    status = obj.get("status")
    if not status:
        return
    if status.get("allocatable") is None and status.get("capacity") is not None:
        status["allocatable"] = dict(status["capacity"])
    round_up(status, "capacity", "allocatable")


def endpoints(obj: Object) -> None:
    for subset in items(obj, "subsets"):
        for port in items(subset, "ports"):
            if_empty(port, protocol="TCP")


def persistent_volume(obj: Object) -> None:
    if_empty(child(obj, "status"), phase="Pending")
    spec = child(obj, "spec")
    if_empty(spec, persistentVolumeReclaimPolicy="Retain")
    if_missing(spec, volumeMode="Filesystem")
    round_up(spec, "capacity")
    persistent_volume_source(spec)


def persistent_volume_claim(obj: Object) -> None:
    status = child(obj, "status")
    if_empty(status, phase="Pending")
    claim_spec(child(obj, "spec"))
    round_up(status, "capacity", "allocatedResources")


def replication_controller(obj: Object) -> None:
    spec = child(obj, "spec")
    template = spec.get("template")
    labels = ((template or {}).get("metadata") or {}).get("labels")
    if labels is not None:
        if not spec.get("selector"):
            spec["selector"] = dict(labels)
        metadata = child(obj, "metadata")
        if not metadata.get("labels"):
            metadata["labels"] = dict(labels)
    if_missing(spec, replicas=1)
    if template is not None:
        pod_template(template)


def pod_template_object(obj: Object) -> None:
    pod_template(child(obj, "template"))


def resource_quota(obj: Object) -> None:
    round_up(obj.get("spec"), "hard")
    round_up(obj.get("status"), "hard", "used")


def limit_range(obj: Object) -> None:
    for item in items(obj.get("spec") or {}, "limits"):
        if item.get("type") == "Container":
            _container_limits(item)
        round_up(item, "max", "min", "default", "defaultRequest", "maxLimitRequestRatio")


def _container_limits(item: Object) -> None:
    """The default limit is the maximum; the default request is the default limit, or else the minimum."""
    default = {**(item.get("max") or {}), **(item.get("default") or {})}
    request = {**(item.get("min") or {}), **default, **(item.get("defaultRequest") or {})}
    if default:
        item["default"] = default
    if request:
        item["defaultRequest"] = request
