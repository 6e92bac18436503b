"""The labels of a node that it may set itself.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction
"""

from __future__ import annotations

_RESTRICTED = "node-restriction.kubernetes.io"
_KUBELET_LABELS = frozenset(
    (
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/instance-type",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "node.kubernetes.io/windows-build",
    )
)
_KUBELET_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")


def forbidden_labels(new: dict[str, str], old: dict[str, str]) -> list[str]:
    """The labels that changed and that are not a node's to change."""
    changed = {key for key in new.keys() | old.keys() if new.get(key) != old.get(key)}
    return sorted(key for key in changed if _is_forbidden(key))


def _is_forbidden(key: str) -> bool:
    namespace = key.rpartition("/")[0]
    if _in_domain(namespace, _RESTRICTED):
        return True
    if not (_in_domain(namespace, "kubernetes.io") or _in_domain(namespace, "k8s.io")):
        return False
    return key not in _KUBELET_LABELS and not any(_in_domain(namespace, prefix) for prefix in _KUBELET_PREFIXES)


def _in_domain(namespace: str, domain: str) -> bool:
    return namespace == domain or namespace.endswith(f".{domain}")
