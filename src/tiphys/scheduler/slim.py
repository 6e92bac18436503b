"""Transforms for informers: of ten thousand pods the scheduler keeps what it decides by, a tenth of their size."""

from __future__ import annotations

from tiphys.api.object import Object

_META = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "labels",
    "creationTimestamp",
    "deletionTimestamp",
    "ownerReferences",
)
_POD_SPEC = (
    "affinity",
    "nodeName",
    "nodeSelector",
    "overhead",
    "preemptionPolicy",
    "priority",
    "resourceClaims",
    "resources",
    "schedulerName",
    "schedulingGates",
    "tolerations",
    "topologySpreadConstraints",
)
_POD_STATUS = (
    "phase",
    "conditions",
    "nominatedNodeName",
    "startTime",
    "resourceClaimStatuses",
    "extendedResourceClaimStatus",
)
_CONTAINER = ("name", "image", "resources", "restartPolicy")
_VOLUMES = (
    "awsElasticBlockStore",
    "ephemeral",
    "gcePersistentDisk",
    "image",
    "iscsi",
    "persistentVolumeClaim",
    "rbd",
)


def slim_pod(pod: Object) -> Object:
    """The parts of a pod that scheduling reads, in a new object."""
    spec, status = pod["spec"], pod.get("status") or {}
    kept: Object = {key: spec[key] for key in _POD_SPEC if key in spec}
    for field in ("containers", "initContainers"):
        if field in spec:
            kept[field] = [_container(container) for container in spec[field]]
    volumes = [
        {"name": v["name"], **{key: v[key] for key in _VOLUMES if key in v}}
        for v in spec.get("volumes") or ()
        if any(key in v for key in _VOLUMES)
    ]
    if volumes:
        kept["volumes"] = volumes
    slim_status: Object = {key: status[key] for key in _POD_STATUS if key in status}
    for field in ("containerStatuses", "initContainerStatuses"):
        resized = [_resized(entry) for entry in status.get(field) or () if "resources" in entry]
        if resized:
            slim_status[field] = resized
    return _object(pod, spec=kept, status=slim_status)


def _container(container: Object) -> Object:
    kept = {key: container[key] for key in _CONTAINER if key in container}
    ports = [port for port in container.get("ports") or () if port.get("hostPort")]
    if ports:
        kept["ports"] = ports
    return kept


def _resized(status: Object) -> Object:
    return {key: status[key] for key in ("name", "resources", "allocatedResources") if key in status}


def slim_node(node: Object) -> Object:
    spec, status = node.get("spec") or {}, node.get("status") or {}
    slim = _object(
        node,
        spec={key: spec[key] for key in ("taints", "unschedulable") if key in spec},
        status={key: status[key] for key in ("allocatable", "images") if key in status},
    )
    slim["status"]["conditions"] = [{"type": c["type"], "status": c["status"]} for c in status.get("conditions") or ()]
    if "annotations" in node["metadata"]:
        slim["metadata"]["annotations"] = node["metadata"]["annotations"]
    return slim


def slim_selecting(obj: Object) -> Object:
    """Of Services and controllers only the selector matters."""
    return _object(obj, spec={"selector": (obj.get("spec") or {}).get("selector")})


def slim_namespace(obj: Object) -> Object:
    return _object(obj)


def _object(obj: Object, **parts: Object) -> Object:
    meta = obj["metadata"]
    return {
        "kind": obj.get("kind"),
        "apiVersion": obj.get("apiVersion"),
        "metadata": {key: meta[key] for key in _META if key in meta},
        **parts,
    }
