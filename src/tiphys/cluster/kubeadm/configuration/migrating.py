"""From kubeadm.k8s.io/v1beta3 to v1beta4: maps of arguments become lists, and two timeouts move. Pure.

Source: https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/#kubeadm-k8s-io-v1beta4-changes
"""

from __future__ import annotations

import copy
from typing import Any

from tiphys.cluster.kubeadm.configuration import documents, schema
from tiphys.cluster.kubeadm.failures import ConfigurationError
from tiphys.runtime import yamltext

OLD = "kubeadm.k8s.io/v1beta3"
_MAPS: dict[str, tuple[tuple[str, ...], ...]] = {
    "InitConfiguration": (("nodeRegistration", "kubeletExtraArgs"),),
    "JoinConfiguration": (("nodeRegistration", "kubeletExtraArgs"),),
    "ClusterConfiguration": (
        ("apiServer", "extraArgs"),
        ("controllerManager", "extraArgs"),
        ("scheduler", "extraArgs"),
        ("etcd", "local", "extraArgs"),
    ),
}
"""Where a document of v1beta3 has a map of arguments."""


def migrate(data: bytes | str, source: str) -> documents.Documents:
    """The documents of a file of either version, in v1beta4 and with their defaults. Raises ``ConfigurationError``."""
    try:
        parts = [part for part in yamltext.load_all(data) if part is not None]
    except yamltext.YAMLError as error:
        raise ConfigurationError(f"{source} is not YAML: {error}") from error
    ours = [part for part in parts if isinstance(part, dict) and part.get("apiVersion") in (OLD, schema.GROUP_VERSION)]
    if not ours:
        raise ConfigurationError(f"{source}: no document of {OLD} or {schema.GROUP_VERSION} is in it")
    made = documents.read_parts(_moved([_as_list(copy.deepcopy(part)) for part in parts]), source)
    return {kind: document for kind, document in made.items() if kind in schema.KINDS}


def _as_list(part: Any) -> Any:
    """A document of v1beta3 with lists of arguments; any other as it is."""
    if not isinstance(part, dict) or part.get("apiVersion") != OLD:
        return part
    for path in _MAPS.get(str(part.get("kind")), ()):
        *above, name = path
        holder: Any = part
        for step in above:
            holder = holder.get(step) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and isinstance(holder.get(name), dict):
            given = holder[name]
            holder[name] = [{"name": key, "value": given[key]} for key in sorted(given)]
    return {**part, "apiVersion": schema.GROUP_VERSION, "was": OLD}


def _moved(parts: list[Any]) -> list[Any]:
    """``timeoutForControlPlane`` and ``discovery.timeout`` as the ``timeouts`` of the documents that have them now."""
    old = {part["kind"]: part for part in parts if isinstance(part, dict) and part.pop("was", None) and "kind" in part}
    server = (old.get("ClusterConfiguration") or {}).get("apiServer")
    if isinstance(server, dict) and (timeout := server.pop("timeoutForControlPlane", None)) is not None:
        init = next(
            (part for part in parts if isinstance(part, dict) and part.get("kind") == "InitConfiguration"), None
        )
        if init is None:
            init = {"apiVersion": schema.GROUP_VERSION, "kind": "InitConfiguration"}
            parts.append(init)
        init.setdefault("timeouts", {}).setdefault("controlPlaneComponentHealthCheck", timeout)
    join = old.get("JoinConfiguration") or {}
    discovery = join.get("discovery")
    if isinstance(discovery, dict) and (timeout := discovery.pop("timeout", None)) is not None:
        join.setdefault("timeouts", {}).setdefault("discovery", timeout)
    return parts
