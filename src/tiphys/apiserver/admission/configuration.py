"""The file ``--admission-control-config-file``: what admission plugins are set to, each inline or in its own file.

Source: https://kubernetes.io/docs/reference/config-api/apiserver-config.v1/#apiserver-config-k8s-io-v1-AdmissionConfiguration
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiphys.apiserver import configfile
from tiphys.apiserver.configfile import ANY, ConfigFileError

_SHAPE = {"plugins": [{"name": str, "path": str, "configuration": ANY}]}
_KINDS = {
    ("apiserver.config.k8s.io/v1", "AdmissionConfiguration"): _SHAPE,
    ("apiserver.k8s.io/v1alpha1", "AdmissionConfiguration"): _SHAPE,
}
_WITHOUT_KIND = {"ImagePolicyWebhook": "imagePolicy", "PodNodeSelector": "podNodeSelectorPluginConfig"}
"""Plugins whose configuration may be the whole file, by the field that says so."""


def read_admission_configuration(path: Path) -> Mapping[str, Any]:
    """The documents that configure plugins, by the plugin's name. Raises ``ConfigFileError``."""
    document = configfile.read(path, configfile.parsed)
    if isinstance(document, dict) and "kind" not in document and any(f in document for f in _WITHOUT_KIND.values()):
        return {name: document for name, field in _WITHOUT_KIND.items() if field in document}
    try:
        plugins = configfile.typed(document, _KINDS).get("plugins") or ()
    except ConfigFileError as error:
        raise ConfigFileError(f"{path}: {error}") from None
    documents: dict[str, Any] = {}
    for plugin in plugins:
        settings = plugin.get("configuration")
        if settings is None and plugin.get("path"):
            settings = configfile.read(path.parent / plugin["path"], configfile.parsed)
        if settings is not None:
            documents.setdefault(plugin.get("name", ""), settings)  # of two with one name, the first counts
    return documents
