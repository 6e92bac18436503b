"""Warnings: what is accepted, but should not be written. They go out in ``Warning`` headers.

``warnings`` is called for a create (``old`` is None) and for an update, after validation found no error, with the
generation already set: most kinds that hold a pod template are only looked at when it changed. ``deprecated_api`` is
about the kind itself, and is sent with every answer. Source: KEP-1693
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator

from tiphys.api.gotext import quote
from tiphys.api.meta import names
from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.api.scheme import GroupVersionKind
from tiphys.validation.apiextensions.structural import all_schemas
from tiphys.validation.pods.alike import Unobjectionable
from tiphys.validation.podwarnings import (
    NODE_LABELS,
    claim_spec_warnings,
    node_term_warnings,
    pod_warnings,
)
from tiphys.validation.shared.common import equal
from tiphys.validation.shared.ip import warn_cidr, warn_ip
from tiphys.validation.shared.keypair import key_pair_problem

Warnings = list[str]

_MANY_COMPLETIONS, _MANY_AT_ONCE = 100_000, 10_000
_MANAGED_BY, _ENDPOINTS_MANAGED_BY = "endpointslice.kubernetes.io/managed-by", "endpoints.kubernetes.io/managed-by"
_SLICE_CONTROLLERS = ("endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io")
_ENFORCE_MOUNTABLE = "kubernetes.io/enforce-mountable-secrets"
_quiet = Unobjectionable()
_DEPRECATED = {
    ("", "v1", "ComponentStatus"): "v1 ComponentStatus is deprecated in v1.19+",
    ("", "v1", "ComponentStatusList"): "v1 ComponentStatus is deprecated in v1.19+",
    ("", "v1", "Endpoints"): "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    ("", "v1", "EndpointsList"): "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
}


def deprecated_api(gvk: GroupVersionKind) -> str:
    """The warning about a version of a kind that will not be served for ever; empty for all others."""
    return _DEPRECATED.get((gvk.group, gvk.version, gvk.kind), "")


def warnings(obj: Object, old: Object | None, gvk: GroupVersionKind, subresource: str = "") -> list[str]:
    if subresource:
        status = _STATUS.get((gvk.group, gvk.kind)) if subresource == "status" else None
        return status(obj.get("status") or {}) if status else []
    check = _CHECKS.get((gvk.group, gvk.kind))
    return check(obj, old) if check else []


def _spec(obj: Object) -> Object:
    return obj.get("spec") or {}


def _annotations(obj: Object) -> Object:
    return (obj.get("metadata") or {}).get("annotations") or {}


def _label(obj: Object, key: str) -> str:
    value: str = ((obj.get("metadata") or {}).get("labels") or {}).get(key) or ""
    return value


def _regenerated(obj: Object, old: Object | None) -> bool:
    new = obj.get("metadata") or {}
    return old is None or new.get("generation") != (old.get("metadata") or {}).get("generation")


def _name(obj: Object, old: Object | None, used: str = "in Pod names and hostnames") -> Warnings:
    problems = names.dns1123_label((obj.get("metadata") or {}).get("name") or "") if old is None else []
    if not problems:
        return []
    text = f"this is used {used}, which can result in surprising behavior; a DNS label is recommended"
    return [f"metadata.name: {text}: [{' '.join(problems)}]"]


def _pod(obj: Object, old: Object | None) -> Warnings:
    return [*_name(obj, old, "in the Pod's hostname"), *_quiet.check(obj, pod_warnings)] if old is None else []


def _template(obj: Object, old: Object | None) -> Warnings:
    if not _regenerated(obj, old):
        return []
    return pod_warnings(_spec(obj).get("template") or {}, "spec.template")


def _named_template(obj: Object, old: Object | None) -> Warnings:
    return _name(obj, old) + _template(obj, old)


def _daemon_set(obj: Object, old: Object | None) -> Warnings:
    template = _spec(obj).get("template") or {}
    if old is not None and equal(template, _spec(old).get("template") or {}):
        return []
    return pod_warnings(template, "spec.template")


def _pod_template(obj: Object, old: Object | None) -> Warnings:
    return pod_warnings(obj.get("template") or {}, "template") if _regenerated(obj, old) else []


def _replication_controller(obj: Object, old: Object | None) -> Warnings:
    """On update upstream looks at the old template."""
    return _name(obj, old) + (_template(obj if old is None else old, None) if _regenerated(obj, old) else [])


def _stateful_set(obj: Object, old: Object | None) -> Warnings:
    warnings, end = _template(obj, old), "" if old is None else ".Spec"
    for i, claim in enumerate(_spec(obj).get("volumeClaimTemplates") or ()):
        warnings += claim_spec_warnings(claim.get("spec") or {}, f"spec.volumeClaimTemplates[{i}]{end}")
    if (_spec(obj).get("revisionHistoryLimit") or 0) < 0:
        text = "a negative value retains all historical revisions; a value >= 0 is recommended"
        warnings.append(f"spec.revisionHistoryLimit: {text}")
    return warnings


def _job_spec(spec: Object, path: str) -> Warnings:
    warnings = []
    completions, parallelism = spec.get("completions") or 0, spec.get("parallelism") or 0
    many = completions > _MANY_COMPLETIONS and parallelism > _MANY_AT_ONCE
    if spec.get("completionMode") == "Indexed" and many:
        text = (
            "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, "
            "Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        )
        warnings.append(f"{path}: {text}")
    return warnings + pod_warnings(spec.get("template") or {}, f"{path}.template")


def _job(obj: Object, old: Object | None) -> Warnings:
    return _name(obj, old) + (_job_spec(_spec(obj), "spec") if _regenerated(obj, old) else [])


def _cron_job(obj: Object, old: Object | None) -> Warnings:
    warnings = _name(obj, old)
    if _regenerated(obj, old):
        warnings += _job_spec(_spec(_spec(obj).get("jobTemplate") or {}), "spec.jobTemplate.spec")
    if old is not None and "TZ" in (_spec(obj).get("schedule") or ""):
        see = "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/"
        text = f"cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see {see} for more details"
        warnings.append(text)
    return warnings


def _service(obj: Object, old: Object | None) -> Warnings:
    """The warnings about a Service: ignored and deprecated fields, non-canonical addresses."""
    spec, warnings = _spec(obj), list[str]()
    kind, external = spec.get("type"), spec.get("externalIPs") or ()
    headless = kind == "ClusterIP" and spec.get("clusterIP") == "None"
    hints = "service.kubernetes.io/topology-aware-hints"
    if hints in _annotations(obj):
        use = "service.kubernetes.io/topology-mode"
        warnings.append(f"annotation {hints} is deprecated, please use {use} instead")
    if spec.get("clusterIP") and spec["clusterIP"] != "None":
        for i, address in enumerate(spec.get("clusterIPs") or ()):
            warnings += warn_ip(f"spec.clusterIPs[{i}]", address)
    if headless:
        if spec.get("loadBalancerIP"):
            warnings.append("spec.loadBalancerIP is ignored for headless services")
        if external:
            warnings.append("spec.externalIPs is ignored for headless services")
        if (spec.get("sessionAffinity") or "") != "None":
            warnings.append("spec.SessionAffinity is ignored for headless services")
    for i, address in enumerate(external):
        warnings += warn_ip(f"spec.externalIPs[{i}]", address)
    if external and not headless and kind != "ExternalName":
        warnings.append("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
    if spec.get("loadBalancerIP"):
        warnings += warn_ip("spec.loadBalancerIP", spec["loadBalancerIP"])
    for i, block in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        warnings += warn_cidr(f"spec.loadBalancerSourceRanges[{i}]", block)
    if kind == "ExternalName" and external:
        warnings.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    if kind != "ExternalName" and spec.get("externalName"):
        warnings.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.get("trafficDistribution") == "PreferClose":
        warnings.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
    return warnings


def _endpoints(obj: Object, old: Object | None) -> Warnings:
    warnings: Warnings = []
    if _label(obj, _ENDPOINTS_MANAGED_BY) == "endpoint-controller":
        return warnings
    for i, subset in enumerate(obj.get("subsets") or ()):
        for key in ("addresses", "notReadyAddresses"):
            for j, address in enumerate(subset.get(key) or ()):
                warnings += warn_ip(f"subsets[{i}].{key}[{j}].ip", address.get("ip") or "")
    return warnings


def _endpoint_slice(obj: Object, old: Object | None) -> Warnings:
    warnings: Warnings = []
    if old is None and obj.get("addressType") == "FQDN":
        warnings.append("spec.addressType: FQDN endpoints are deprecated")
    if _label(obj, _MANAGED_BY) in _SLICE_CONTROLLERS:
        return warnings
    for i, endpoint in enumerate(obj.get("endpoints") or ()):
        for j, address in enumerate(endpoint.get("addresses") or ()):
            warnings += warn_ip(f"endpoints[{i}].addresses[{j}]", address)
    return warnings


def _node(obj: Object, old: Object | None) -> Warnings:
    spec, warnings = _spec(obj), list[str]()
    if spec.get("configSource") is not None:
        warnings.append("spec.configSource: the feature is removed")
    if spec.get("externalID"):
        warnings.append("spec.externalID: this field is deprecated, and is unused by Kubernetes")
    for i, block in enumerate(spec.get("podCIDRs") or ()):
        warnings += warn_cidr(f"spec.podCIDRs[{i}]", block)
    return warnings


_STORAGE_CLASS, _MOUNT_OPTIONS = "volume.beta.kubernetes.io/storage-class", "volume.beta.kubernetes.io/mount-options"
_USE_CLASS_NAME = 'deprecated since v1.8; use "storageClassName" attribute instead'
_VOLUMES = {
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}


def _volume(obj: Object, old: Object | None) -> Warnings:
    spec, annotations, warnings = _spec(obj), _annotations(obj), list[str]()
    if _STORAGE_CLASS in annotations:
        warnings.append(f"metadata.annotations[{_STORAGE_CLASS}]: {_USE_CLASS_NAME}")
    if _MOUNT_OPTIONS in annotations:
        text = 'deprecated since v1.31; use "mountOptions" attribute instead'
        warnings.append(f"metadata.annotations[{_MOUNT_OPTIONS}]: {text}")
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        text = "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic"
        warnings.append(f"spec.persistentVolumeReclaimPolicy: {text} provisioning.")
    required = (spec.get("nodeAffinity") or {}).get("required") or {}
    for i, term in enumerate(required.get("nodeSelectorTerms") or ()):
        warnings += node_term_warnings(term, f"spec.nodeAffinity.required.nodeSelectorTerms[{i}]")
    for key, text in _VOLUMES.items():
        if spec.get(key) is not None:
            warnings.append(f"spec.{'storageOS' if key == 'storageos' else key}: {text}")
    return warnings


def _claim(obj: Object, old: Object | None) -> Warnings:
    warnings = []
    if _STORAGE_CLASS in _annotations(obj):
        warnings.append(f"metadata.annotations[{_STORAGE_CLASS}]: {_USE_CLASS_NAME}")
    return warnings + claim_spec_warnings(_spec(obj), "spec")


def _quota(obj: Object, old: Object | None) -> Warnings:
    hard, warnings = _spec(obj).get("hard") or {}, list[str]()
    if old is not None:
        return warnings
    for name in ("cpu", "memory", "storage", "ephemeral-storage"):
        request, limit = f"requests.{name}", f"limits.{name}"
        if request not in hard and name in ("cpu", "memory"):
            request = name
        if request in hard and limit in hard:
            low, high = Quantity(hard[request]), Quantity(hard[limit])
            if high < low:
                warnings.append(f"ResourceQuota {request} ({low}) should be less than {limit} ({high})")
    return warnings


def _secret(obj: Object, old: Object | None) -> Warnings:
    if obj.get("type") != "kubernetes.io/tls":
        return []
    data = obj.get("data") or {}
    problem = key_pair_problem(_decode(data.get("tls.crt")), _decode(data.get("tls.key")))
    return [problem] if problem else []


def _decode(text: str | None) -> bytes:
    try:
        return base64.b64decode(text or "")
    except (binascii.Error, ValueError):
        return b""


def _service_account(obj: Object, old: Object | None) -> Warnings:
    if _ENFORCE_MOUNTABLE not in _annotations(obj) or (old is not None and _ENFORCE_MOUNTABLE in _annotations(old)):
        return []
    text = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
    return [f"metadata.annotations[{_ENFORCE_MOUNTABLE}]: {text}"]


def _ingress(obj: Object, old: Object | None) -> Warnings:
    key = "kubernetes.io/ingress.class"
    if old is not None or key not in _annotations(obj) or _spec(obj).get("ingressClassName") is not None:
        return []
    return [f"annotation {quote(key)} is deprecated, please use 'spec.ingressClassName' instead"]


def _network_policy(obj: Object, old: Object | None) -> Warnings:
    warnings: Warnings = []
    for way, side in (("ingress", "from"), ("egress", "to")):
        for i, rule in enumerate(_spec(obj).get(way) or ()):
            for j, peer in enumerate(rule.get(side) or ()):
                block, at = peer.get("ipBlock"), f"spec.{way}[{i}].{side}[{j}].ipBlock"
                if block is None:
                    continue
                warnings += warn_cidr(f"{at}.cidr", block.get("cidr") or "")
                for k, excepted in enumerate(block.get("except") or ()):
                    warnings += warn_cidr(f"{at}.except[{k}]", excepted)
    return warnings


def _runtime_class(obj: Object, old: Object | None) -> Warnings:
    selector = (obj.get("scheduling") or {}).get("nodeSelector") or {}
    return [f"scheduling.nodeSelector: {NODE_LABELS[key]}" for key in selector if key in NODE_LABELS]


def _storage_class(obj: Object, old: Object | None) -> Warnings:
    return [
        f"allowedTopologies[{i}].matchLabelExpressions[{j}].key: {NODE_LABELS[expression['key']]}"
        for i, term in enumerate(obj.get("allowedTopologies") or ())
        for j, expression in enumerate(term.get("matchLabelExpressions") or ())
        if expression.get("key") in NODE_LABELS
    ]


def _csi_driver(obj: Object, old: Object | None) -> Warnings:
    spec = _spec(obj)
    requests = spec.get("tokenRequests")
    if not requests or spec.get("serviceAccountTokenInSecrets") is not None:
        return []
    if old is not None and equal(requests, _spec(old).get("tokenRequests")):
        return []
    return [
        "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible "
        "logging of tokens in volume attributes"
    ]


def _csi_capacity(obj: Object, old: Object | None) -> Warnings:
    selector = obj.get("nodeTopology") or {}
    warnings = node_term_warnings(selector, "nodeTopology")
    for key in selector.get("matchLabels") or ():
        if key in NODE_LABELS:
            warnings.append(f"nodeTopology.matchLabels.{key}: {NODE_LABELS[key]}")
    return warnings


def _resource_slice(obj: Object, old: Object | None) -> Warnings:
    driver = _spec(obj).get("driver") or ""
    if driver == driver.lower():
        return []
    return [f"spec.driver: driver names should be lowercase; {quote(driver)} contains uppercase characters"]


_STRING_FORMATS = """
bsonobjectid uri email hostname ipv4 ipv6 cidr mac uuid uuid3 uuid4 uuid5 isbn isbn10 isbn13 creditcard ssn hexcolor
rgbcolor byte password date duration datetime k8sshortname k8slongname
"""
_FORMATS = {
    "string": frozenset(_STRING_FORMATS.split()),
    "integer": frozenset(("int32", "int64")),
    "number": frozenset(("float", "double")),
}


def _unknown_formats(obj: Object) -> Iterator[str]:
    roots: list[Object] = []
    for version in _spec(obj).get("versions") or ():
        root = (version.get("schema") or {}).get("openAPIV3Schema")
        if root is not None and not (roots and equal(root, roots[0])):
            roots.append(root)
    for root in roots:
        for schema in all_schemas(root):
            form, kind = schema.get("format") or "", schema.get("type") or "string"
            normal = form.replace("-", "") if kind == "string" else form
            if form and normal not in _FORMATS.get(kind, ()):
                yield form


def _definition(obj: Object, old: Object | None) -> Warnings:
    known = set(_unknown_formats(old)) if old is not None else set[str]()
    return [f"unrecognized format {quote(form)}" for form in _unknown_formats(obj) if form not in known]


def _static_name(obj: Object, old: Object | None) -> Warnings:
    name = (obj.get("metadata") or {}).get("name") or ""
    if not name.endswith(".static.k8s.io"):
        return []
    text = "are reserved for static manifest-based configurations and cannot be managed via the API"
    return [f'metadata.name: names ending with ".static.k8s.io" {text}']


_Check = Callable[[Object, "Object | None"], Warnings]
_CHECKS: dict[tuple[str, str], _Check] = {
    ("", "Endpoints"): _endpoints,
    ("", "Node"): _node,
    ("", "PersistentVolume"): _volume,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "Pod"): _pod,
    ("", "PodTemplate"): _pod_template,
    ("", "ReplicationController"): _replication_controller,
    ("", "ResourceQuota"): _quota,
    ("", "Secret"): _secret,
    ("", "Service"): _service,
    ("", "ServiceAccount"): _service_account,
    **{
        ("admissionregistration.k8s.io", kind): _static_name
        for kind in (
            "MutatingAdmissionPolicy",
            "MutatingAdmissionPolicyBinding",
            "MutatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "ValidatingWebhookConfiguration",
        )
    },
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "Deployment"): _named_template,
    ("apps", "ReplicaSet"): _named_template,
    ("apps", "StatefulSet"): _stateful_set,
    ("batch", "CronJob"): _cron_job,
    ("batch", "Job"): _job,
    ("discovery.k8s.io", "EndpointSlice"): _endpoint_slice,
    ("networking.k8s.io", "Ingress"): _ingress,
    ("networking.k8s.io", "NetworkPolicy"): _network_policy,
    ("node.k8s.io", "RuntimeClass"): _runtime_class,
    ("resource.k8s.io", "ResourceSlice"): _resource_slice,
    ("storage.k8s.io", "CSIDriver"): _csi_driver,
    ("storage.k8s.io", "CSIStorageCapacity"): _csi_capacity,
    ("storage.k8s.io", "StorageClass"): _storage_class,
}


def _pod_status(status: Object) -> Warnings:
    warnings: Warnings = []
    for key in ("podIPs", "hostIPs"):
        for i, address in enumerate(status.get(key) or ()):
            warnings += warn_ip(f"status.{key}[{i}].ip", address.get("ip") or "")
    return warnings


def _balancer_status(status: Object) -> Warnings:
    warnings: Warnings = []
    for i, ingress in enumerate((status.get("loadBalancer") or {}).get("ingress") or ()):
        if ingress.get("ip"):
            warnings += warn_ip(f"status.loadBalancer.ingress[{i}]", ingress["ip"])
    return warnings


_STATUS: dict[tuple[str, str], Callable[[Object], Warnings]] = {
    ("", "Pod"): _pod_status,
    ("", "Service"): _balancer_status,
    ("networking.k8s.io", "Ingress"): _balancer_status,
}
