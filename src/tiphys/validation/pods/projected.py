"""Files that a volume takes from elsewhere: config maps, secrets, fields of the pod, tokens, certificates.

Source: https://kubernetes.io/docs/concepts/storage/projected-volumes/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.gotext import quote
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.validation.core.paths import file_mode, local_non_reserved
from tiphys.validation.pods.env import field_ref, resource_field_ref
from tiphys.validation.pods.podoptions import PodOptions
from tiphys.validation.shared.common import (
    Errors,
    invalid_all,
    label_selector,
    name_is_subdomain,
)
from tiphys.validation.shared.objectmeta import ANNOTATIONS_MAX

VOLUME_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
KEY_TYPES = ("RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")
_CONFLICT = "conflicting duplicate paths"
_MAX_LIFETIME = 91 * 86400
_MAX_KUBERNETES_LIFETIME = 86400


def key_to_path(errs: Errors, item: Object, path: str) -> None:
    if not item.get("key"):
        errs.append(field.required(f"{path}.key"))
    target = item.get("path") or ""
    if not target:
        errs.append(field.required(f"{path}.path"))
    local_non_reserved(errs, target, f"{path}.path")
    file_mode(errs, item.get("mode"), f"{path}.mode")


def downward_api_file(errs: Errors, item: Object, path: str) -> None:
    """Validate a file of a downward API volume, from a field or a resource; appends to ``errs``."""
    target = item.get("path") or ""
    if not target:
        errs.append(field.required(f"{path}.path"))
    local_non_reserved(errs, target, f"{path}.path")
    ref, resource = item.get("fieldRef"), item.get("resourceFieldRef")
    if ref is not None:
        field_ref(errs, ref, VOLUME_FIELDS, f"{path}.fieldRef")
        if resource is not None:
            text = "fieldRef and resourceFieldRef can not be specified simultaneously"
            errs.append(field.invalid(path, "resource", text))
    elif resource is not None:
        resource_field_ref(errs, resource, f"{path}.resourceFieldRef", volume=True)
    else:
        errs.append(field.required(path, "one of fieldRef and resourceFieldRef is required"))
    file_mode(errs, item.get("mode"), f"{path}.mode")


class _Paths:
    """The paths that sources put files at; no two the same."""

    def __init__(self, errs: Errors, path: str) -> None:
        self._errs, self._path, self._seen = errs, path, set[str]()

    def add(self, target: str, shown: str) -> None:
        if target in self._seen:
            self._errs.append(field.invalid(self._path, shown, _CONFLICT))
        self._seen.add(target)


def projected(errs: Errors, source: Object, path: str, options: PodOptions) -> None:
    """Validate a projected volume: one kind for each source, and no path twice; appends to ``errs``."""
    file_mode(errs, source.get("defaultMode"), f"{path}.defaultMode")
    paths = _Paths(errs, path)
    for i, part in enumerate(source.get("sources") or ()):
        at, count = f"{path}.sources[{i}]", 0
        for kind in ("secret", "configMap"):
            if part.get(kind) is not None:
                count += 1
                _keys(errs, part[kind], f"{at}.{kind}", paths)
        if part.get("downwardAPI") is not None:
            count += 1
            _fields(errs, part["downwardAPI"], f"{at}.downwardAPI", paths)
        if part.get("serviceAccountToken") is not None:
            count += 1
            _token(errs, part["serviceAccountToken"], f"{at}.serviceAccountToken", path, options)
        if part.get("clusterTrustBundle") is not None:
            count += 1
            _trust_bundle(errs, part["clusterTrustBundle"], f"{at}.clusterTrustBundle", paths)
        if part.get("podCertificate") is not None:
            count += 1
            _pod_certificate(errs, part["podCertificate"], f"{at}.podCertificate", paths)
        if count > 1:
            errs.append(field.forbidden(at, "may not specify more than 1 volume type per source"))


def _keys(errs: Errors, source: Object, path: str, paths: _Paths) -> None:
    name = source.get("name") or ""
    if not name:
        errs.append(field.required(f"{path}.name"))
    for i, item in enumerate(source.get("items") or ()):
        key_to_path(errs, item, f"{path}.items[{i}]")
        if item.get("path"):
            paths.add(item["path"], name)


def _fields(errs: Errors, source: Object, path: str, paths: _Paths) -> None:
    for item in source.get("items") or ():
        downward_api_file(errs, item, path)
        if item.get("path"):
            paths.add(item["path"], item["path"])


def _token(errs: Errors, source: Object, path: str, volume: str, options: PodOptions) -> None:
    seconds, target = source.get("expirationSeconds") or 0, source.get("path") or ""
    if seconds < 600:
        text = "may not specify a duration less than 10 minutes"
        errs.append(field.invalid(f"{path}.expirationSeconds", seconds, text))
    if seconds > 1 << 32:
        text = "may not specify a duration larger than 2^32 seconds"
        errs.append(field.invalid(f"{path}.expirationSeconds", seconds, text))
    if not target:
        errs.append(field.required(f"{volume}.path"))
    elif not options.token_path:
        local_non_reserved(errs, target, f"{volume}.path")


def _trust_bundle(errs: Errors, source: Object, path: str, paths: _Paths) -> None:
    """Validate a trust bundle source: by name or by signer. Appends to ``errs``."""
    name, signer, selector = source.get("name"), source.get("signerName"), source.get("labelSelector")
    if name is not None and signer is not None:
        shown = {
            "Name": name,
            "SignerName": signer,
            "LabelSelector": selector,
            "Optional": source.get("optional"),
            "Path": source.get("path") or "",
        }
        errs.append(field.invalid(path, shown, "only one of name and signerName may be used"))
    elif name is not None:
        if not name:
            errs.append(field.required(f"{path}.name", "must be a valid object name"))
        for text in trust_bundle_name(name, signer_of_bundle(name)):
            errs.append(field.invalid(f"{path}.name", name, f"not a valid clustertrustbundlename: {text}"))
        if selector is not None:
            text = "labelSelector must be unset if name is specified"
            errs.append(field.invalid(f"{path}.labelSelector", selector, text))
    elif signer is not None:
        if not signer:
            errs.append(field.required(f"{path}.signerName", "must be a valid signer name"))
        signer_name(errs, signer, f"{path}.signerName")
        label_selector(errs, selector, f"{path}.labelSelector")
    else:
        errs.append(field.required(path, "either name or signerName must be specified"))
    target = source.get("path") or ""
    if not target:
        errs.append(field.required(f"{path}.path"))
    local_non_reserved(errs, target, f"{path}.path")
    paths.add(target, target)


def _pod_certificate(errs: Errors, source: Object, path: str, paths: _Paths) -> None:
    """Validate a pod certificate source: signer, key type, lifetime in seconds, paths. Appends to ``errs``."""
    signer = source.get("signerName") or ""
    signer_name(errs, signer, f"{path}.signerName")
    if source.get("userAnnotations"):
        user_annotations(errs, source["userAnnotations"], f"{path}.userAnnotations")
    kind = source.get("keyType") or ""
    if kind not in KEY_TYPES:
        errs.append(field.not_supported(f"{path}.keyType", kind, KEY_TYPES))
    lifetime = source.get("maxExpirationSeconds")
    if lifetime is not None:
        at = f"{path}.maxExpirationSeconds"
        if lifetime < 3600:
            errs.append(field.invalid(at, lifetime, "if provided, maxExpirationSeconds must be >= 3600"))
        most = _MAX_KUBERNETES_LIFETIME if is_kubernetes_signer(signer) else _MAX_LIFETIME
        if lifetime > most:
            errs.append(field.invalid(at, lifetime, f"if provided, maxExpirationSeconds must be <= {most}"))
    targets = [key for key in ("credentialBundlePath", "keyPath", "certificateChainPath") if source.get(key)]
    for key in targets:
        local_non_reserved(errs, source[key], f"{path}.{key}")
        paths.add(source[key], source[key])
    if not targets:
        text = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"
        errs.append(field.required(path, text))


def user_annotations(errs: Errors, annotations: Mapping[str, Any], path: str) -> None:
    """Annotations for the signer: every key has a domain."""
    total = 0
    for key, value in annotations.items():
        lower = key.lower()
        problems = names.qualified_name(lower) if lower else []
        if not lower:
            errs.append(field.required(path))
        invalid_all(errs, path, lower, problems)
        if lower and not problems and "/" not in lower:
            text = 'must be a domain-prefixed key (such as "acme.io/foo")'
            errs.append(field.invalid(path, lower, text))
        total += names.byte_length(key) + names.byte_length(value)
    if total > ANNOTATIONS_MAX:
        errs.append(field.too_long(path, ANNOTATIONS_MAX))


def is_kubernetes_signer(name: str) -> bool:
    host = name.partition("/")[0]
    return host == "kubernetes.io" or host.endswith(".kubernetes.io")


def signer_name(errs: Errors, name: str, path: str) -> None:
    """A domain of the signer's own, and a path: ``example.com/signer``."""
    if not name:
        errs.append(field.required(path))
        return
    segments = name.split("/")
    if len(segments) != 2:
        text = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        errs.append(field.invalid(path, name, text))
        return
    domain, rest = segments
    if names.byte_length(domain) > 253:
        errs.append(field.too_long(path, 253))
    labels = domain.split(".")
    _first_wrong(errs, labels, domain, path, names.dns1123_label)
    if len(labels) < 2:
        text = "should be a domain with at least two segments separated by dots"
        errs.append(field.invalid(path, domain, text))
    _first_wrong(errs, rest.split("."), rest, path, names.dns1123_subdomain)
    longest = 253 + (253 + 63 + 1) + 1
    if names.byte_length(name) > longest:
        errs.append(field.too_long(path, longest))


def _first_wrong(errs: Errors, parts: list[str], whole: str, path: str, check: Any) -> None:
    for part in parts:
        if problems := check(part):
            for text in problems:
                errs.append(field.invalid(path, whole, f"validating label {quote(part)}: {text}"))
            return


def signer_of_bundle(name: str) -> str:
    """A trust bundle of a signer is named after it: ``example.com:signer:name``."""
    head, colon, _ = name.rpartition(":")
    return head.replace(":", "/") if colon else ""


def trust_bundle_name(name: str, signer: str, *, prefix: bool = False) -> list[str]:
    if not signer:
        if ":" in name:
            return ['ClusterTrustBundle without signer name must not have ":" in its name']
        return name_is_subdomain(name, prefix=prefix)
    start = signer.replace("/", ":") + ":"
    if not name.startswith(start):
        return [f"ClusterTrustBundle for signerName {signer} must be named with prefix {start}"]
    return name_is_subdomain(name.removeprefix(start), prefix=prefix)
