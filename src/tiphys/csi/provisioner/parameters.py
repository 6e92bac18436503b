"""Parameters of a StorageClass: those for the driver, and those with the prefix, for whoever calls the driver. Pure.

Source: https://kubernetes-csi.github.io/docs/secrets-and-credentials-storage-class.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tiphys.api.meta.objects import annotations_of, name_of, namespace_of
from tiphys.api.object import Object

PREFIX = "csi.storage.k8s.io/"
FS_TYPE = f"{PREFIX}fstype"
_PURPOSES = ("provisioner", "controller-publish", "node-stage", "node-publish", "controller-expand", "node-expand")
_KNOWN = frozenset(
    {FS_TYPE, "fstype"}
    | {f"{PREFIX}{purpose}-secret-{part}" for purpose in _PURPOSES for part in ("name", "namespace")}
)
_VARIABLE = re.compile(r"\$\{([^}]*)\}")

SecretName = tuple[str, str]
"""(namespace, name)"""


class ParameterError(ValueError):
    """A parameter that cannot be used; the message names it."""


def for_driver(parameters: Mapping[str, str]) -> dict[str, str]:
    """Raises ``ParameterError`` for one that has the prefix and is not known."""
    if unknown := sorted(key for key in parameters if key.startswith(PREFIX) and key not in _KNOWN):
        raise ParameterError(f'found unknown parameter key "{unknown[0]}" with reserved prefix {PREFIX}')
    return {key: value for key, value in parameters.items() if key not in _KNOWN}


def fs_type(parameters: Mapping[str, str], default: str) -> str:
    return parameters.get(FS_TYPE) or parameters.get("fstype") or default


def secret(purpose: str, parameters: Mapping[str, str], volume: str, claim: Object | None) -> SecretName | None:
    """The secret for a purpose, such as ``node-stage``. ``volume`` is the persistent volume's name.

    Raises ``ParameterError`` for half of one, and for a variable that cannot be filled in.
    """
    name = parameters.get(f"{PREFIX}{purpose}-secret-name") or ""
    namespace = parameters.get(f"{PREFIX}{purpose}-secret-namespace") or ""
    if not name and not namespace:
        return None
    if not (name and namespace):
        raise ParameterError(f"either name and namespace for {purpose} secrets specified, both must be specified")
    known = {"pv.name": volume}
    if claim is not None:
        known |= {"pvc.namespace": namespace_of(claim), "pvc.name": name_of(claim)}
    filled_namespace = _fill(namespace, known)
    if claim is not None:
        known |= {f"pvc.annotations['{key}']": text for key, text in annotations_of(claim).items()}
    return filled_namespace, _fill(name, known)


def _fill(template: str, known: Mapping[str, str]) -> str:
    def replace(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise ParameterError(f'error resolving value "{template}": invalid tokens: ["{match[1]}"]')
        return known[match[1]]

    return _VARIABLE.sub(replace, template)
