"""Validation of pods on create, and of the specification that pods and pod templates share.

Source: the API reference of Pod and PodSpec. The order is upstream's, so that a message lists its errors in the same
order.
"""

from __future__ import annotations

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.api.pods.resources import container_sum
from tiphys.validation.pods import placement, security
from tiphys.validation.pods.alike import Unobjectionable
from tiphys.validation.pods.container import (
    PodContext,
    containers,
    ephemeral_containers,
    init_containers,
    only_for_pod,
)
from tiphys.validation.pods.options import bad_deletion_cost
from tiphys.validation.pods.podoptions import POD, TEMPLATE, PodOptions, all_containers
from tiphys.validation.pods.resources import is_huge_page, pod_resource_name, requirements
from tiphys.validation.pods.volumes import volumes
from tiphys.validation.scheduling import preemption_policy
from tiphys.validation.shared.common import (
    MAX_INT32,
    Errors,
    invalid_all,
    label,
    labels,
    name_is_subdomain,
    qualified,
    subdomain,
)
from tiphys.validation.shared.ip import legacy_ip
from tiphys.validation.shared.objectmeta import meta_of, validate_annotations, validate_meta

MIRROR = "kubernetes.io/config.mirror"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_MAX_NAMESERVERS = 3
_MAX_SEARCHES = 32
_MAX_SEARCH_TEXT = 2048
_MAX_HOSTNAME = 64
_sound = Unobjectionable()


def validate_pod(obj: Object) -> Errors:
    """A new pod."""
    errs: Errors = []
    validate_meta(errs, obj, namespaced=True)
    errs += _sound.check(obj, _new_spec)
    return errs


def _new_spec(obj: Object) -> Errors:
    """All that is checked of a new pod but the rest of its metadata."""
    errs: Errors = []
    annotations_and_spec(errs, obj, POD)
    spec = obj.get("spec") or {}
    if spec.get("ephemeralContainers"):
        errs.append(field.forbidden("spec.ephemeralContainers", "cannot be set on create"))
    if spec.get("nodeName") and spec.get("schedulingGates"):
        errs.append(field.forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared"))
    annotations = meta_of(obj).get("annotations")
    if annotations:
        security.annotations_match_fields(errs, annotations, spec, "spec")
    return errs


def pod_metadata_and_spec(errs: Errors, obj: Object, options: PodOptions) -> None:
    validate_meta(errs, obj, namespaced=True)
    annotations_and_spec(errs, obj, options)


def annotations_and_spec(errs: Errors, obj: Object, options: PodOptions) -> None:
    """Appends to ``errs``. Of the metadata the name counts, too, for claims that are made with the pod."""
    meta, spec = meta_of(obj), obj.get("spec") or {}
    if meta.get("annotations"):
        pod_annotations(errs, meta["annotations"], spec, "metadata.annotations", options)
    pod_spec(errs, spec, meta, "spec", options)
    if not spec.get("serviceAccountName"):
        _no_tokens(errs, spec)
    for key in ("containers", "initContainers"):
        for i, container in enumerate(spec.get(key) or ()):
            only_for_pod(errs, container, f"spec.{key}[{i}]")


def _no_tokens(errs: Errors, spec: Object) -> None:
    for i, volume in enumerate(spec.get("volumes") or ()):
        for j, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
            if source.get("serviceAccountToken") is not None:
                at = f"spec.volumes[{i}].projected.sources[{j}].serviceAccountToken"
                errs.append(field.forbidden(at, "must not be specified when serviceAccountName is not set"))


def pod_annotations(errs: Errors, annotations: dict[str, str], spec: Object, path: str, options: PodOptions) -> None:
    """Annotations that mean something to the server."""
    if MIRROR in annotations and not spec.get("nodeName"):
        text = "must set spec.nodeName if mirror pod annotation is set"
        errs.append(field.invalid(f"{path}[{MIRROR}]", annotations[MIRROR], text))
    if DELETION_COST in annotations and not options.deletion_cost and bad_deletion_cost(annotations):
        errs.append(field.invalid(f"{path}[{DELETION_COST}]", annotations[DELETION_COST], "must be a 32bit integer"))
    security.profile_annotations(errs, annotations, spec, path)


def pod_template_spec(errs: Errors, template: Object, path: str, options: PodOptions = TEMPLATE) -> None:
    meta, spec = template.get("metadata") or {}, template.get("spec") or {}
    labels(errs, meta.get("labels"), f"{path}.labels")
    annotations = meta.get("annotations")
    if annotations:
        validate_annotations(errs, annotations, f"{path}.annotations")
        pod_annotations(errs, annotations, spec, f"{path}.annotations", options)
    pod_spec(errs, spec, None, f"{path}.spec", options)
    if annotations:
        security.annotations_match_fields(errs, annotations, spec, f"{path}.spec")
    if spec.get("ephemeralContainers"):
        text = "ephemeral containers not allowed in pod template"
        errs.append(field.forbidden(f"{path}.spec.ephemeralContainers", text))


def pod_spec(errs: Errors, spec: Object, meta: Object | None, path: str, options: PodOptions) -> None:
    """Validate what pods and pod templates share; ``meta`` is the pod's metadata, None in a template.

    Appends to ``errs``.
    """
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is None:
        errs.append(field.required(f"{path}.terminationGracePeriodSeconds"))
    found_volumes = spec.get("volumes")
    good = volumes(errs, found_volumes, meta, f"{path}.volumes", options) if found_volumes else {}
    context = PodContext(
        options=options,
        volumes=good,
        claims={c["name"] for c in spec.get("resourceClaims") or () if c.get("name")},
        restart_policy=spec.get("restartPolicy") or "",
        host_users=spec.get("hostUsers") is not False,
        grace=grace,
        os=spec.get("os"),
    )
    if spec.get("resourceClaims"):
        _resource_claims(errs, spec["resourceClaims"], meta, f"{path}.resourceClaims")
    regular = spec.get("containers") or []
    containers(errs, regular, f"{path}.containers", context)
    if spec.get("initContainers"):
        init_containers(errs, spec["initContainers"], regular, f"{path}.initContainers", context)
    if spec.get("ephemeralContainers"):
        ephemeral_containers(errs, spec, f"{path}.ephemeralContainers", context)
    if spec.get("resources") is not None:
        _pod_resources(errs, spec, path, context)
    if spec.get("hostNetwork"):
        _host_network_ports(errs, regular, f"{path}.containers", options)
    _policies(errs, spec, path)
    labels(errs, spec.get("nodeSelector"), f"{path}.nodeSelector")
    security.pod_context(errs, spec, path, options)
    if spec.get("affinity"):
        placement.affinity(errs, spec["affinity"], f"{path}.affinity", options)
    _dns_config(errs, spec, f"{path}.dnsConfig")
    for i, gate in enumerate(spec.get("readinessGates") or ()):
        qualified(errs, gate.get("conditionType") or "", f"{path}.readinessGates[{i}].conditionType")
    if spec.get("schedulingGates"):
        placement.scheduling_gates(errs, spec["schedulingGates"], f"{path}.schedulingGates")
    if spec.get("topologySpreadConstraints"):
        constraints = spec["topologySpreadConstraints"]
        placement.spread_constraints(errs, constraints, f"{path}.topologySpreadConstraints", options)
    security.host_process(errs, spec, path)
    security.host_users(errs, spec, path, options)
    _host_name_override(errs, spec, path)
    _names(errs, spec, path)
    _scheduling(errs, spec, path, options)
    if spec.get("os") is not None:
        security.operating_system(errs, spec, path)
    if spec.get("schedulingGroup") is not None:
        _scheduling_group(errs, spec["schedulingGroup"], f"{path}.schedulingGroup.podGroupName")
    _file_key_volumes(errs, spec, path)


def _policies(errs: Errors, spec: Object, path: str) -> None:
    restart, dns = spec.get("restartPolicy"), spec.get("dnsPolicy")
    if restart not in _RESTART_POLICIES:
        at = f"{path}.restartPolicy"
        errs.append(field.not_supported(at, restart, _RESTART_POLICIES) if restart else field.required(at))
    if dns not in _DNS_POLICIES:
        at = f"{path}.dnsPolicy"
        errs.append(field.not_supported(at, dns, _DNS_POLICIES) if dns else field.required(at))


def _names(errs: Errors, spec: Object, path: str) -> None:
    """Fields that hold names of other objects or of the pod itself."""
    for key in ("serviceAccountName", "nodeName"):
        if name := spec.get(key):
            invalid_all(errs, f"{path}.{key}", name, name_is_subdomain(name))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= MAX_INT32:
        errs.append(field.invalid(f"{path}.activeDeadlineSeconds", deadline, names.range_error(1, MAX_INT32)))
    for key in ("hostname", "subdomain"):
        if name := spec.get(key):
            label(errs, name, f"{path}.{key}")


def _scheduling(errs: Errors, spec: Object, path: str, options: PodOptions) -> None:
    if spec.get("tolerations"):
        placement.tolerations(errs, spec["tolerations"], f"{path}.tolerations", options)
    for i, alias in enumerate(spec.get("hostAliases") or ()):
        at = f"{path}.hostAliases[{i}]"
        legacy_ip(errs, alias.get("ip") or "", f"{at}.ip")
        for j, name in enumerate(alias.get("hostnames") or ()):
            subdomain(errs, name, f"{at}.hostnames[{j}]")
    if name := spec.get("priorityClassName"):
        invalid_all(errs, f"{path}.priorityClassName", name, name_is_subdomain(name))
    if spec.get("runtimeClassName") is not None:
        subdomain(errs, spec["runtimeClassName"], f"{path}.runtimeClassName")
    policy = spec.get("preemptionPolicy")
    if policy is not None:
        preemption_policy(errs, policy, f"{path}.preemptionPolicy")
    if spec.get("overhead"):
        allow = options.indivisible_huge_pages
        requirements(errs, {"limits": spec["overhead"]}, f"{path}.overhead", allow_indivisible=allow)


def _scheduling_group(errs: Errors, group: Object, path: str) -> None:
    name = group.get("podGroupName")
    if name is None:
        errs.append(field.invalid(path, None, "must specify one of: `podGroupName`"))
    else:
        invalid_all(errs, path, name, name_is_subdomain(name))


def _resource_claims(errs: Errors, claims: list[Object], meta: Object | None, path: str) -> None:
    mirror = MIRROR in ((meta or {}).get("annotations") or {})
    seen: set[str] = set()
    for i, claim in enumerate(claims):
        at, name = f"{path}[{i}]", claim.get("name") or ""
        if mirror:
            errs.append(field.forbidden("[]", "static pods do not support resource claims"))
            continue
        if not name:
            errs.append(field.required(f"{at}.name"))
        elif name in seen:
            errs.append(field.duplicate(f"{at}.name", name))
        else:
            label(errs, name, f"{at}.name")
            seen.add(name)
        _claim_source(errs, claim, at)


def _claim_source(errs: Errors, claim: Object, path: str) -> None:
    source, template = claim.get("resourceClaimName"), claim.get("resourceClaimTemplateName")
    if (source is None) == (template is None):
        shown = {"Name": claim.get("name") or "", "ResourceClaimName": source, "ResourceClaimTemplateName": template}
        text = (
            "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            if source is None
            else "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
        )
        errs.append(field.invalid(path, shown, text))
    for key, name in (("resourceClaimName", source), ("resourceClaimTemplateName", template)):
        if name is not None:
            invalid_all(errs, f"{path}.{key}", name, name_is_subdomain(name))


def _pod_resources(errs: Errors, spec: Object, path: str, context: PodContext) -> None:
    """Resources of the pod as a whole: what its containers ask for must fit in."""
    resources, at = spec["resources"], f"{path}.resources"
    if (spec.get("os") or {}).get("name") == "windows":
        errs.append(field.forbidden(at, "may not be set for a windows pod"))
        return
    if resources.get("claims"):
        errs.append(field.forbidden(f"{at}.claims", "claims may not be set for Resources at pod-level"))
    allow = context.options.indivisible_huge_pages
    requirements(errs, resources, at, pod_resource_name, context.claims, allow_indivisible=allow)
    _pod_resources_fit(errs, spec, resources, at)


def _pod_resources_fit(errs: Errors, spec: Object, resources: Object, path: str) -> None:
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    for name, wanted in container_sum(spec, "requests").items():
        if name in requests and wanted > Quantity(requests[name]):
            text = f"must be greater than or equal to aggregate container requests of {wanted}"
            errs.append(field.invalid(f"{path}.requests[{name}]", str(Quantity(requests[name])), text))
    for name, wanted in container_sum(spec, "limits").items():
        if is_huge_page(name) and name in limits and wanted > Quantity(limits[name]):
            text = f"must be greater than or equal to aggregate container limits of {wanted}"
            errs.append(field.invalid(f"{path}.limits[{name}]", str(Quantity(limits[name])), text))
    for i, container in enumerate(spec.get("containers") or ()):
        for name, limit in ((container.get("resources") or {}).get("limits") or {}).items():
            if name in limits and Quantity(limit) > Quantity(limits[name]):
                text = f"must be less than or equal to pod limits of {Quantity(limits[name])}"
                at = f"{path}.containers[{i}][{name}].limits"
                errs.append(field.invalid(at, str(Quantity(limit)), text))


def _host_network_ports(errs: Errors, regular: list[Object], path: str, options: PodOptions) -> None:
    for i, container in enumerate(regular):
        for j, port in enumerate(container.get("ports") or ()):
            host, own = port.get("hostPort") or 0, port.get("containerPort") or 0
            if (options.is_pod or host) and host != own:
                text = "must match `containerPort` when `hostNetwork` is true"
                errs.append(field.invalid(f"{path}[{i}].ports[{j}].hostPort", host, text))


def _dns_config(errs: Errors, spec: Object, path: str) -> None:
    """Validate DNS servers, search paths and options; appends to ``errs``."""
    config = spec.get("dnsConfig")
    if spec.get("dnsPolicy") == "None":
        if config is None:
            errs.append(field.required(path, "must provide `dnsConfig` when `dnsPolicy` is None"))
            return
        if not config.get("nameservers"):
            text = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            errs.append(field.required(f"{path}.nameservers", text))
            return
    if not config:
        return
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if len(servers) > _MAX_NAMESERVERS:
        text = f"must not have more than {_MAX_NAMESERVERS} nameservers"
        errs.append(field.invalid(f"{path}.nameservers", servers, text))
    for i, server in enumerate(servers):
        legacy_ip(errs, server, f"{path}.nameservers[{i}]")
    if len(searches) > _MAX_SEARCHES:
        text = f"must not have more than {_MAX_SEARCHES} search paths"
        errs.append(field.invalid(f"{path}.searches", searches, text))
    if names.byte_length(" ".join(searches)) > _MAX_SEARCH_TEXT:
        text = f"must not have more than {_MAX_SEARCH_TEXT} characters (including spaces) in the search list"
        errs.append(field.invalid(f"{path}.searches", searches, text))
    for i, search in enumerate(searches):
        if search != ".":
            plain = search.removesuffix(".")
            problems = names.dns1123_subdomain_with_underscore(plain)
            invalid_all(errs, f"{path}.searches[{i}]", plain, problems)
    for i, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            errs.append(field.required(f"{path}.options[{i}]", "must not be empty"))


def _host_name_override(errs: Errors, spec: Object, path: str) -> None:
    name = spec.get("hostnameOverride")
    if name is None:
        return
    at = f"{path}.hostnameOverride"
    if spec.get("setHostnameAsFQDN"):
        errs.append(field.forbidden(at, "may not be specified when setHostnameAsFQDN is true"))
    if spec.get("hostNetwork"):
        errs.append(field.forbidden(at, "may not be specified when hostNetwork is true"))
    if names.byte_length(name) > _MAX_HOSTNAME:
        errs.append(field.too_long(at, _MAX_HOSTNAME))
    subdomain(errs, name, at)


def _file_key_volumes(errs: Errors, spec: Object, path: str) -> None:
    """A file of variables is in an emptyDir of the pod."""
    for container, at in all_containers(spec):
        for i, variable in enumerate(container.get("env") or ()):
            ref = (variable.get("valueFrom") or {}).get("fileKeyRef")
            if ref is None:
                continue
            name = ref.get("volumeName") or ""
            where = f"{path}.{at}.env[{i}].valueFrom.fileKeyRef.volumeName"
            volume = next((v for v in spec.get("volumes") or () if v.get("name") == name), None)
            if volume is None:
                errs.append(field.not_found(where, name))
            elif volume.get("emptyDir") is None:
                errs.append(field.invalid(where, name, "referenced volume must be of type emptyDir"))
