"""Volumes of a pod, and the sources that pods and persistent volumes share.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#volume-v1-core
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tiphys.api import fielderrors as field
from tiphys.api.gotext import quote
from tiphys.api.meta import names
from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.validation.core.paths import file_mode, no_backsteps
from tiphys.validation.pods.podoptions import PodOptions
from tiphys.validation.pods.projected import downward_api_file, key_to_path, projected
from tiphys.validation.shared.common import (
    Errors,
    invalid_all,
    label,
    name_is_label,
    name_is_subdomain,
)

MORE_THAN_ONE = "may not specify more than 1 volume type"
_HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_IQN_RE = re.compile(r"iqn\.[0-9]{4}-[0-9]{2}\.([A-Za-z0-9.-]+)(:[^,;*&$|\s]+)\Z")
_EUI_RE = re.compile(r"eui.[A-Za-z0-9]{16}")
_NAA_RE = re.compile(r"naa.[A-Za-z0-9]{32}")
ISCSI_TOO_LONG = (
    "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters "
    "if iscsi.initiatorName is specified."
)
_RESERVED_DOMAINS = (".kubernetes.io", ".k8s.io")

Check = Callable[[Errors, Object, str], None]


def volumes(
    errs: Errors, items: list[Object], pod_meta: Object | None, path: str, options: PodOptions
) -> dict[str, Object]:
    """Check each volume; the good ones by name, for the mounts to refer to."""
    pod_name = (pod_meta or {}).get("name")
    created = {f"{pod_name}-{v.get('name') or ''}" for v in items if v.get("ephemeral") is not None} if pod_name else ()
    good: dict[str, Object] = {}
    for i, volume in enumerate(items):
        at, name, before = f"{path}[{i}]", volume.get("name") or "", len(errs)
        _source(errs, volume, at, name, pod_name or "", options)
        if not name:
            errs.append(field.required(f"{at}.name"))
        else:
            label(errs, name, f"{at}.name")
        if name in good:
            errs.append(field.duplicate(f"{at}.name", name))
        if len(errs) == before:
            good[name] = volume
        claim = volume.get("persistentVolumeClaim")
        if claim and created and claim.get("claimName") in created:
            text = "must not reference a PVC that gets created for an ephemeral volume"
            errs.append(field.invalid(f"{at}.persistentVolumeClaim.claimName", claim["claimName"], text))
    return good


def _source(errs: Errors, volume: Object, path: str, name: str, pod_name: str, options: PodOptions) -> None:
    """Exactly one source, each looked at in a fixed order."""
    present = [key for key in _POD_ORDER if volume.get(key) is not None]
    for position, key in enumerate(present):
        source = volume[key]
        if position and key != "emptyDir":
            errs.append(field.forbidden(f"{path}.{_SHOWN_IF_SECOND.get(key, key)}", MORE_THAN_ONE))
        else:
            at = f"{path}.{_SHOWN_AS.get(key, key)}"
            if key == "projected":
                projected(errs, source, at, options)
            elif key == "ephemeral":
                _ephemeral(errs, source, path, name, pod_name)
            elif key == "image":
                _image(errs, source, at, options)
            else:
                _POD_SOURCES[key](errs, source, at)
        if key == "iscsi":
            too_long = names.byte_length(f"{name}:{source.get('targetPortal') or ''}") > 64
            if source.get("initiatorName") is not None and too_long:
                errs.append(field.invalid(f"{path}.name", name, ISCSI_TOO_LONG))
    if not present:
        errs.append(field.required(path, "must specify a volume type"))


def _empty_dir(errs: Errors, source: Object, path: str) -> None:
    limit = source.get("sizeLimit")
    if limit is not None and Quantity(limit).nano < 0:
        errs.append(field.forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity"))


def host_path(errs: Errors, source: Object, path: str) -> None:
    target = source.get("path")
    if not target:
        errs.append(field.required(f"{path}.path"))
        return
    no_backsteps(errs, target, f"{path}.path")
    kind = source.get("type")
    if kind is not None and kind not in _HOST_PATH_TYPES:
        errs.append(field.not_supported(f"{path}.type", kind, _HOST_PATH_TYPES))


def _git_repo(errs: Errors, source: Object, path: str) -> None:
    _needs(errs, source, path, "repository")
    directory = source.get("directory") or ""
    if directory.startswith("/"):
        errs.append(field.invalid(f"{path}.directory", directory, "must be a relative path"))
    no_backsteps(errs, directory, f"{path}.directory")


def _needs(errs: Errors, source: Object, path: str, *keys: str) -> None:
    errs.extend(field.required(f"{path}.{key}") for key in keys if not source.get(key))


def _needing(*keys: str) -> Check:
    return lambda errs, source, path: _needs(errs, source, path, *keys)


def partition(name: str) -> Check:
    """A disk named by ``name``, and a partition of it."""

    def check(errs: Errors, source: Object, path: str) -> None:
        _needs(errs, source, path, name)
        number = source.get("partition") or 0
        if not 0 <= number <= 255:
            errs.append(field.invalid(f"{path}.partition", number, names.range_error(1, 255)))

    return check


def _secret(errs: Errors, source: Object, path: str) -> None:
    _needs(errs, source, path, "secretName")
    _items(errs, source, path)


def _config_map(errs: Errors, source: Object, path: str) -> None:
    _needs(errs, source, path, "name")
    _items(errs, source, path)


def _items(errs: Errors, source: Object, path: str) -> None:
    file_mode(errs, source.get("defaultMode"), f"{path}.defaultMode")
    for i, item in enumerate(source.get("items") or ()):
        key_to_path(errs, item, f"{path}.items[{i}]")


def _downward_api(errs: Errors, source: Object, path: str) -> None:
    file_mode(errs, source.get("defaultMode"), f"{path}.defaultMode")
    for item in source.get("items") or ():
        downward_api_file(errs, item, path)


def nfs(errs: Errors, source: Object, path: str) -> None:
    _needs(errs, source, path, "server", "path")
    target = source.get("path") or ""
    if not target.startswith("/"):
        errs.append(field.invalid(f"{path}.path", target, "must be an absolute path"))


def iscsi_name(errs: Errors, name: str, path: str, prefix_text: str) -> None:
    if not name.startswith(("iqn", "eui", "naa")):
        errs.append(field.invalid(path, name, prefix_text))
    elif name.startswith("iqn"):
        if not _IQN_RE.search(name):
            errs.append(field.invalid(path, name, "must be valid format"))
    elif not (_EUI_RE if name.startswith("eui") else _NAA_RE).fullmatch(name):
        errs.append(field.invalid(path, name, "must be valid format"))


def iscsi_details(errs: Errors, source: Object, path: str, prefix_text: str) -> None:
    """What follows the portal: target, unit, credentials."""
    if not source.get("iqn"):
        errs.append(field.required(f"{path}.iqn"))
    else:
        iscsi_name(errs, source["iqn"], f"{path}.iqn", prefix_text)
    lun = source.get("lun") or 0
    if not 0 <= lun <= 255:
        errs.append(field.invalid(f"{path}.lun", lun, names.range_error(0, 255)))
    if (source.get("chapAuthDiscovery") or source.get("chapAuthSession")) and source.get("secretRef") is None:
        errs.append(field.required(f"{path}.secretRef"))


def _iscsi(errs: Errors, source: Object, path: str) -> None:
    text = "must be valid format starting with iqn, eui, or naa"
    _needs(errs, source, path, "targetPortal")
    iscsi_details(errs, source, path, text)
    if source.get("initiatorName") is not None:
        iscsi_name(errs, source["initiatorName"], f"{path}.initiatorname", text)


def fibre_channel(errs: Errors, source: Object, path: str) -> None:
    worldwide, ids = source.get("targetWWNs"), source.get("wwids")
    at = f"{path}.targetWWNs"
    if not worldwide and not ids:
        errs.append(field.required(at, "must specify either targetWWNs or wwids, but not both"))
    if worldwide and ids:
        errs.append(field.invalid(at, worldwide, "targetWWNs and wwids can not be specified simultaneously"))
    if worldwide:
        lun = source.get("lun")
        if lun is None:
            errs.append(field.required(f"{path}.lun", "lun is required if targetWWNs is specified"))
        elif not 0 <= lun <= 255:
            errs.append(field.invalid(f"{path}.lun", lun, names.range_error(0, 255)))


def quobyte(errs: Errors, source: Object, path: str) -> None:
    registry, text = source.get("registry"), "must be a host:port pair or multiple pairs separated by commas"
    if not registry:
        errs.append(field.required(f"{path}.registry", text))
    elif len(source.get("tenant") or "") >= 65:
        errs.append(field.required(f"{path}.tenant", "must be a UUID and may not exceed a length of 64 characters"))
    else:
        for pair in registry.split(","):
            if pair.rpartition("]")[2].count(":") != 1:
                errs.append(field.invalid(f"{path}.registry", registry, text))
    _needs(errs, source, path, "volume")


def flocker(errs: Errors, source: Object, path: str) -> None:
    name, uuid = source.get("datasetName") or "", source.get("datasetUUID")
    if not name and not uuid:
        errs.append(field.required(path, "one of datasetName and datasetUUID is required"))
    if name and uuid:
        text = "datasetName and datasetUUID can not be specified simultaneously"
        errs.append(field.invalid(path, "resource", text))
    if "/" in name:
        errs.append(field.invalid(f"{path}.datasetName", name, "must not contain '/'"))


def flex_volume(errs: Errors, source: Object, path: str) -> None:
    _needs(errs, source, path, "driver")
    for key in source.get("options") or ():
        if ("." + key.partition("/")[0].lower()).endswith(_RESERVED_DOMAINS):
            text = "kubernetes.io and k8s.io namespaces are reserved"
            errs.append(field.invalid(f"{path}.options[{key}]", key, text))


def _cinder(errs: Errors, source: Object, path: str) -> None:
    _needs(errs, source, path, "volumeID")
    _secret_ref(errs, source, path)


def _secret_ref(errs: Errors, source: Object, path: str) -> None:
    if source.get("secretRef") is not None:
        _needs(errs, source["secretRef"], f"{path}.secretRef", "name")


def azure_disk(errs: Errors, source: Object, path: str) -> None:
    """Validate an Azure disk: its caching mode, kind, and the URI that fits the kind. Appends to ``errs``."""
    _needs(errs, source, path, "diskName", "diskURI")
    caching, kind, uri = source.get("cachingMode"), source.get("kind"), source.get("diskURI") or ""
    if caching is not None and caching not in ("None", "ReadOnly", "ReadWrite"):
        errs.append(field.not_supported(f"{path}.cachingMode", caching, ("None", "ReadOnly", "ReadWrite")))
    if kind is None:
        return
    if kind not in ("Dedicated", "Managed", "Shared"):
        errs.append(field.not_supported(f"{path}.kind", kind, ("Dedicated", "Managed", "Shared")))
    if kind == "Managed" and not uri.startswith("/subscriptions/"):
        form = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
        errs.append(field.not_supported(f"{path}.diskURI", uri, (form,)))
    if kind != "Managed" and not uri.startswith("https://"):
        form = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
        errs.append(field.not_supported(f"{path}.diskURI", uri, (form,)))


def storage_os(errs: Errors, source: Object, path: str) -> None:
    name, namespace = source.get("volumeName"), source.get("volumeNamespace")
    if not name:
        errs.append(field.required(f"{path}.volumeName"))
    else:
        label(errs, name, f"{path}.volumeName")
    if namespace:
        label(errs, namespace, f"{path}.volumeNamespace")
    _secret_ref(errs, source, path)


def csi_driver_name(errs: Errors, name: str, path: str) -> None:
    if not name:
        errs.append(field.required(path))
        return
    if names.byte_length(name) > 63:
        errs.append(field.too_long(path, 63))
    invalid_all(errs, path, name, names.dns1123_subdomain(name.lower()))


def _csi(errs: Errors, source: Object, path: str) -> None:
    csi_driver_name(errs, source.get("driver") or "", f"{path}.driver")
    secret = source.get("nodePublishSecretRef")
    if secret is not None:
        name = secret.get("name")
        if not name:
            errs.append(field.required(f"{path}.nodePublishSecretRef.name"))
        else:
            invalid_all(errs, f"{path}.name", name, name_is_subdomain(name))


def _ephemeral(errs: Errors, source: Object, path: str, name: str, pod_name: str) -> None:
    # Persistent volume claims import the shared sources from here.
    from tiphys.validation.core.persistentvolumeclaim import claim_template

    template = source.get("volumeClaimTemplate")
    if template is None:
        errs.append(field.required(f"{path}.ephemeral.volumeClaimTemplate"))
    else:
        claim_template(errs, template, f"{path}.ephemeral.volumeClaimTemplate")
    if pod_name and name:
        claim = f"{pod_name}-{name}"
        for text in name_is_subdomain(claim):
            errs.append(field.invalid(f"{path}.name", name, f"PVC name {quote(claim)}: {text}"))


def _image(errs: Errors, source: Object, path: str, options: PodOptions) -> None:
    from tiphys.validation.pods.container import pull_policy

    if options.is_pod:
        _needs(errs, source, path, "reference")
    pull_policy(errs, source.get("pullPolicy"), f"{path}.pullPolicy")


def glusterfs_persistent(errs: Errors, source: Object, path: str) -> None:
    _needs(errs, source, path, "endpoints", "path")
    namespace = source.get("endpointsNamespace")
    if namespace is None:
        return
    at = f"{path}.endpointsNamespace"
    if not namespace:
        text = "if the endpointnamespace is set, it must be a valid namespace name"
        errs.append(field.invalid(at, namespace, text))
    else:
        invalid_all(errs, at, namespace, name_is_label(namespace))


_POD_SOURCES: dict[str, Check] = {
    "emptyDir": _empty_dir,
    "hostPath": host_path,
    "gitRepo": _git_repo,
    "gcePersistentDisk": partition("pdName"),
    "awsElasticBlockStore": partition("volumeID"),
    "secret": _secret,
    "nfs": nfs,
    "iscsi": _iscsi,
    "glusterfs": _needing("endpoints", "path"),
    "flocker": flocker,
    "persistentVolumeClaim": _needing("claimName"),
    "rbd": _needing("monitors", "image"),
    "cinder": _cinder,
    "cephfs": _needing("monitors"),
    "quobyte": quobyte,
    "downwardAPI": _downward_api,
    "fc": fibre_channel,
    "flexVolume": flex_volume,
    "configMap": _config_map,
    "azureFile": _needing("secretName", "shareName"),
    "vsphereVolume": _needing("volumePath"),
    "photonPersistentDisk": _needing("pdID"),
    "portworxVolume": _needing("volumeID"),
    "azureDisk": azure_disk,
    "storageos": storage_os,
    "scaleIO": _needing("gateway", "system", "volumeName"),
    "csi": _csi,
}
_POD_ORDER = (
    *(key for key in _POD_SOURCES if key not in ("scaleIO", "csi")),
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
)
# Two paths are not the field's name, and have stayed so for compatibility.
_SHOWN_AS = {"gcePersistentDisk": "persistentDisk"}
_SHOWN_IF_SECOND = {"cephfs": "cephFS", "downwardAPI": "downwarAPI"}
SHARED: dict[str, Check] = {
    key: _POD_SOURCES[key]
    for key in (
        "gcePersistentDisk",
        "awsElasticBlockStore",
        "rbd",
        "cephfs",
        "vsphereVolume",
        "photonPersistentDisk",
        "portworxVolume",
        "scaleIO",
    )
}
