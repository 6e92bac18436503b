"""From a configuration file to complete documents, one of each kind: read, checked for unknown fields, given defaults.

Every problem of a file is reported at once, with the file, the kind and the field. Source:
https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/kubeadm-init/#config-file
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tiphys.cluster.kubeadm.configuration import schema
from tiphys.cluster.kubeadm.configuration.defaults import DEFAULTS
from tiphys.cluster.kubeadm.configuration.fields import Problems, record
from tiphys.cluster.kubeadm.failures import ConfigurationError
from tiphys.runtime import yamltext

Document = dict[str, Any]
Documents = dict[str, Document]
"""By kind; kubeadm's own are complete, those of components as they were written."""

COMPONENTS = {
    "KubeletConfiguration": "kubelet.config.k8s.io/v1beta1",
    "KubeProxyConfiguration": "kubeproxy.config.k8s.io/v1alpha1",
}
_OLD = ("kubeadm.k8s.io/v1beta3", "kubeadm.k8s.io/v1beta2", "kubeadm.k8s.io/v1beta1")


def read_file(path: Path) -> Documents:
    """The documents of a file. Raises ``ConfigurationError``."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f'unable to read config from "{path}": {error.strerror}') from error
    return read_text(data, str(path))


def read_text(data: str | bytes, source: str) -> Documents:
    """The documents of a text, which messages call ``source``. Raises ``ConfigurationError``."""
    try:
        parts = [part for part in yamltext.load_all(data) if part is not None]
    except yamltext.YAMLError as error:
        raise ConfigurationError(f"{source} is not YAML: {error}") from error
    return read_parts(parts, source)


def read_parts(parts: Iterable[Any], source: str) -> Documents:
    """The documents of a file that is parsed. Raises ``ConfigurationError``."""
    documents: Documents = {}
    for part in parts:
        kind = _kind(part, source)
        if kind in documents:
            raise ConfigurationError(f'{source}: invalid configuration: kind "{kind}" is specified twice in YAML file')
        documents[kind] = _component(part, kind) if kind in COMPONENTS else complete(part, kind, source)
    return documents


def complete(part: Document, kind: str, source: str) -> Document:
    """A document of kubeadm's with its defaults. Raises ``ConfigurationError`` with everything that is wrong in it."""
    problems: Problems = []
    body = {name: value for name, value in part.items() if name not in ("apiVersion", "kind")}
    document = record(schema.KINDS[kind])(body, "", problems)
    if problems:
        raise ConfigurationError(f"{source}: {kind} of {schema.GROUP_VERSION}: strict decoding error: {_all(problems)}")
    DEFAULTS[kind](document)
    return dict(document)


def wanted(documents: Documents, *kinds: str) -> None:
    """Raises ``ConfigurationError`` unless one of the kinds is there."""
    if not documents.keys() & set(kinds):
        words = " or ".join(kinds)
        raise ConfigurationError(f"no {words} kind was found in the configuration file")


def typed(document: Document, kind: str) -> Document:
    """A document as it is written to files: with its kind, names in order."""
    version = COMPONENTS.get(kind, schema.GROUP_VERSION)
    return dict(sorted({**document, "apiVersion": version, "kind": kind}.items()))


def _kind(part: Any, source: str) -> str:
    if not isinstance(part, dict) or not isinstance(part.get("kind"), str) or not part.get("apiVersion"):
        raise ConfigurationError(f"{source}: invalid configuration: kind and apiVersion is mandatory information")
    version, kind = part["apiVersion"], part["kind"]
    if version == COMPONENTS.get(kind) or (version == schema.GROUP_VERSION and kind in schema.KINDS):
        return str(kind)
    if version in _OLD:
        raise ConfigurationError(
            f"{source}: {version} {kind} is a deprecated API version, which init and join do not read; use "
            f"{schema.GROUP_VERSION}: `tiphys config migrate --old-config {source} --new-config FILE` writes it"
        )
    known = ", ".join([*schema.KINDS, *COMPONENTS])
    raise ConfigurationError(f"{source}: unknown configuration API {version} {kind}; known kinds: {known}")


def _component(part: Document, kind: str) -> Document:
    return {name: value for name, value in part.items() if name not in ("apiVersion", "kind")}


def _all(problems: Iterable[str]) -> str:
    return ", ".join(problems)
