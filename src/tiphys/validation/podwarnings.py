"""Warnings about pods and pod templates: fields that do nothing any more, and definitions that hide one another.

Source: KEP-1693
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tiphys.api.gotext import quote
from tiphys.api.meta import names
from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.api.pods.apparmor import ANNOTATION, profile_of
from tiphys.validation.overlaps import KnownPaths, Path, Ports
from tiphys.validation.shared.common import (
    equal,
)
from tiphys.validation.shared.ip import warn_ip

NODE_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
    "app.kubernetes.io/created-by": "deprecated since v1.9",
    "scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
    "node-role.kubernetes.io/master": 'use "node-role.kubernetes.io/control-plane" instead',
}
_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
_VOLUMES = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "ephemeral": "",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
_SECCOMP = "seccomp.security.alpha.kubernetes.io/pod"
_CONTAINER_SECCOMP = "container.seccomp.security.alpha.kubernetes.io/"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_NO_SELECTOR = "a null labelSelector results in matching no pod"


def pod_warnings(pod: Object, path: str = "") -> list[str]:
    """``path`` is that of the template; empty for a pod itself."""
    meta, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    annotations = meta.get("annotations") or {}
    at = f"{path}.spec" if path else "spec"
    meta_at = f"{path}.metadata.annotations" if path else "metadata.annotations"
    selector = spec.get("nodeSelector") or ()
    warnings = [f"{at}.nodeSelector[{key}]: {NODE_LABELS[key]}" for key in selector if key in NODE_LABELS]
    affinity = spec.get("affinity")
    if affinity:
        _node_affinity(warnings, affinity.get("nodeAffinity") or {}, f"{at}.affinity.nodeAffinity")
    if spec.get("topologySpreadConstraints"):
        _spread(warnings, spec["topologySpreadConstraints"], f"{at}.topologySpreadConstraints")
    for key, text in _ANNOTATIONS.items():
        if key in annotations:
            warnings.append(f"{meta_at}[{key}]: {text}")
    if spec.get("volumes"):
        _volumes(warnings, spec["volumes"], f"{at}.volumes")
    _duplicates(warnings, spec.get("hostAliases") or (), "ip", f"{at}.hostAliases")
    secrets = spec.get("imagePullSecrets") or ()
    _duplicates(warnings, secrets, "name", f"{at}.imagePullSecrets")
    for i, secret in enumerate(secrets):
        if not secret.get("name"):
            warnings.append(f'{at}.imagePullSecrets[{i}].name: invalid empty name ""')
    if spec.get("overhead"):
        _fractions(warnings, spec["overhead"], f"{at}.overhead", ("memory", "ephemeral-storage"))
    security = spec.get("securityContext") or {}
    if annotations and _SECCOMP in annotations and security.get("seccompProfile") is None:
        warnings.append(f'{meta_at}[{_SECCOMP}]: non-functional in v1.27+; use the "seccompProfile" field instead')
    for container, where in _containers(spec, at):
        if annotations:
            _annotations(
                warnings,
                container,
                annotations,
                meta_at,
                is_template=bool(path),
                pod_profile=security.get("appArmorProfile"),
            )
        if container.get("resources"):
            _resources(warnings, container["resources"], f"{where}.resources")
        if len(container.get("env") or ()) > 1:
            _env(warnings, container["env"], f"{where}.env")
    if any(container.get("ports") for container, _ in _containers(spec, at)):
        _ports(warnings, spec, at)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        text = "must be >= 0; negative values are invalid and will be treated as 1"
        warnings.append(f"{at}.terminationGracePeriodSeconds: {text}")
    if affinity:
        for key in ("podAffinity", "podAntiAffinity"):
            _pod_affinity(warnings, affinity.get(key) or {}, f"{at}.affinity.{key}")
    for i, server in enumerate((spec.get("dnsConfig") or {}).get("nameservers") or ()):
        warnings += warn_ip(f"{at}.dnsConfig.nameservers[{i}]", server)
    for i, alias in enumerate(spec.get("hostAliases") or ()):
        warnings += warn_ip(f"{at}.hostAliases[{i}].ip", alias.get("ip") or "")
    return warnings


def _containers(spec: Object, path: str) -> Iterator[tuple[Object, str]]:
    for key in ("initContainers", "containers", "ephemeralContainers"):
        for i, container in enumerate(spec.get(key) or ()):
            yield container, f"{path}.{key}[{i}]"


def _node_affinity(warnings: list[str], affinity: Object, path: str) -> None:
    for i, term in enumerate((affinity.get(_REQUIRED) or {}).get("nodeSelectorTerms") or ()):
        warnings += node_term_warnings(term, f"{path}.{_REQUIRED}.nodeSelectorTerms[{i}]")
    for i, preferred in enumerate(affinity.get(_PREFERRED) or ()):
        term, at = preferred.get("preference") or {}, f"{path}.{_PREFERRED}[{i}].preference"
        warnings += node_term_warnings(term, at, check_values=True)


def node_term_warnings(term: Object, path: str, *, check_values: bool = False) -> list[str]:
    warnings = []
    for i, expression in enumerate(term.get("matchExpressions") or ()):
        at, key = f"{path}.matchExpressions[{i}]", expression.get("key") or ""
        if key in NODE_LABELS:
            warnings.append(f"{at}.key: {key} is {NODE_LABELS[key]}")
        if check_values:
            for j, value in enumerate(expression.get("values") or ()):
                warnings += [f"{at}.values[{j}]: {value} is invalid, {text}" for text in names.label_value(value)]
    return warnings


def _spread(warnings: list[str], constraints: Sequence[Object], path: str) -> None:
    for i, constraint in enumerate(constraints):
        key = constraint.get("topologyKey") or ""
        if key in NODE_LABELS:
            warnings.append(f"{path}[{i}].topologyKey: {key} is {NODE_LABELS[key]}")
        if constraint.get("labelSelector") is None:
            warnings.append(f"{path}[{i}].labelSelector: {_NO_SELECTOR}")


def _pod_affinity(warnings: list[str], affinity: Object, path: str) -> None:
    for i, term in enumerate(affinity.get(_REQUIRED) or ()):
        if term.get("labelSelector") is None:
            warnings.append(f"{path}.{_REQUIRED}[{i}].labelSelector: {_NO_SELECTOR}")
    for i, weighted in enumerate(affinity.get(_PREFERRED) or ()):
        if (weighted.get("podAffinityTerm") or {}).get("labelSelector") is None:
            warnings.append(f"{path}.{_PREFERRED}[{i}].podAffinityTerm.labelSelector: {_NO_SELECTOR}")


def _volumes(warnings: list[str], volumes: Sequence[Object], path: str) -> None:
    for i, volume in enumerate(volumes):
        for key, text in _VOLUMES.items():
            source = volume.get(key)
            if source is None:
                continue
            if key == "ephemeral":
                template = source.get("volumeClaimTemplate") or {}
                at = f"{path}[{i}].ephemeral.volumeClaimTemplate.spec"
                warnings += claim_spec_warnings(template.get("spec") or {}, at)
            else:
                name = "storageOS" if key == "storageos" else key
                warnings.append(f"{path}[{i}].{name}: {text}")
    for volume in volumes:
        _overlaps(warnings, volume)


def _overlaps(warnings: list[str], volume: Object) -> None:
    name = quote(volume.get("name") or "")
    config_map, secret, downward = volume.get("configMap"), volume.get("secret"), volume.get("downwardAPI")
    for source, shown in (
        (config_map, f"ConfigMap {quote((config_map or {}).get('name') or '')}"),
        (secret, f"Secret {quote((secret or {}).get('secretName') or '')}"),
        (downward, "DownwardAPI"),
    ):
        if source and source.get("items"):
            texts = KnownPaths().overlaps(_paths(source, ""))
            warnings += [f"volume {name} ({shown}): overlapping paths: {text}" for text in texts]
    known = KnownPaths()
    for projection in (volume.get("projected") or {}).get("sources") or ():
        if not any(value is not None for value in projection.values()):
            warnings.append(f"volume {name} (Projected) has no sources provided")
            continue
        texts = known.overlaps(_projected(projection))
        warnings += [f"volume {name} (Projected): overlapping paths: {text}" for text in texts]


def _paths(source: Object, shown: str) -> list[Path]:
    return [(item.get("path") or "", shown) for item in source.get("items") or ()]


def _projected(projection: Object) -> list[Path]:
    for key, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
        source = projection.get(key)
        if source is not None and source.get("items"):
            return _paths(source, f"{kind} {quote(source.get('name') or '')}")
    downward, token = projection.get("downwardAPI"), projection.get("serviceAccountToken")
    if downward is not None and downward.get("items"):
        return _paths(downward, "DownwardAPI")
    if token is not None:
        return [(token.get("path") or "", "ServiceAccountToken")]
    bundle, certificate = projection.get("clusterTrustBundle"), projection.get("podCertificate")
    if bundle is not None:
        name = bundle["name"] if bundle.get("name") is not None else bundle.get("signerName") or ""
        return [(bundle.get("path") or "", f"ClusterTrustBundle {quote(name)}")]
    parts = (
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    )
    return [(certificate[key], shown) for key, shown in parts if certificate.get(key)] if certificate else []


def _duplicates(warnings: list[str], items: Sequence[Object], key: str, path: str) -> None:
    seen: set[str] = set()
    for i, item in enumerate(items):
        value = item.get(key) or ""
        if value in seen:
            warnings.append(f"{path}[{i}].{key}: duplicate {key} {quote(value)}")
        seen.add(value)


def _fractions(warnings: list[str], amounts: Mapping[str, str], path: str, resources: Sequence[str]) -> None:
    for name in resources:
        text = amounts.get(name)
        if text is None or (isinstance(text, str) and text.isalnum() and text[-1] not in "mun"):
            continue
        amount = Quantity(text)
        if amount.milli_value() % 1000:
            shown = quote(str(amount))
            warnings.append(f"{path}[{name}]: fractional byte value {shown} is invalid, must be an integer")


def _resources(warnings: list[str], resources: Object, path: str) -> None:
    for name in ("memory", "ephemeral-storage"):
        for key in ("limits", "requests"):
            amounts = resources.get(key)
            if amounts:
                _fractions(warnings, amounts, f"{path}.{key}", (name,))


def claim_spec_warnings(spec: Object, path: str) -> list[str]:
    warnings: list[str] = []
    resources = spec.get("resources") or {}
    for key in ("requests", "limits"):
        _fractions(warnings, resources.get(key) or {}, f"{path}.resources.{key}", ("storage",))
    return warnings


def _annotations(
    warnings: list[str],
    container: Object,
    annotations: Mapping[str, str],
    path: str,
    pod_profile: Object | None,
    *,
    is_template: bool,
) -> None:
    security, name = container.get("securityContext") or {}, container.get("name") or ""
    key = _CONTAINER_SECCOMP + name
    if key in annotations and security.get("seccompProfile") is None:
        warnings.append(f'{path}[{key}]: non-functional in v1.27+; use the "seccompProfile" field instead')
    key = ANNOTATION + name
    if not is_template or key not in annotations or security.get("appArmorProfile") is not None:
        return
    if pod_profile is None or not equal(pod_profile, profile_of(annotations[key])):
        warnings.append(f'{path}[{key}]: deprecated since v1.30; use the "appArmorProfile" field instead')


def _env(warnings: list[str], env: Sequence[Object], path: str) -> None:
    seen: set[str] = set()
    for i, variable in enumerate(env):
        name, value = variable.get("name") or "", variable.get("value") or ""
        if name in seen:
            ref = f"$({name})"
            if variable.get("valueFrom") is not None or value == ref or ref not in value:
                text = f"hides previous definition of {quote(name)}, which may be dropped when using apply"
                warnings.append(f"{path}[{i}]: {text}")
        seen.add(name)


def _ports(warnings: list[str], spec: Object, path: str) -> None:
    """Warn of host addresses without port, clashing ports, and repeated names."""
    ports = [
        (port, f"{at}.ports[{i}]")
        for container, at in _containers(spec, path)
        for i, port in enumerate(container.get("ports") or ())
    ]
    known = Ports()
    for port, at in ports:
        host_ip, host_port = port.get("hostIP") or "", port.get("hostPort") or 0
        if host_ip and not host_port:
            warnings.append(f"{at}: hostIP set without hostPort: {_port_text(port)}")
        warnings.extend(known.clashes(port, at))
    named: dict[str, str] = {}
    for port, at in ports:
        name = port.get("name")
        if not name:
            continue
        if name in named:
            first = named[name]
            text = f"services and probes that select ports by name will use {first}"
            warnings.append(f"{at}: duplicate port name {quote(name)} with {first}, {text}")
        else:
            named[name] = at


def _port_text(port: Object) -> str:
    return (
        f"{{Name:{port.get('name') or ''} HostPort:{port.get('hostPort') or 0} "
        f"ContainerPort:{port.get('containerPort') or 0} Protocol:{port.get('protocol') or ''} "
        f"HostIP:{port.get('hostIP') or ''}}}"
    )
