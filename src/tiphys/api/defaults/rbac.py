"""Defaults of the rbac.authorization.k8s.io group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#rolebinding-v1-rbac-authorization-k8s-io
"""

from __future__ import annotations

from tiphys.api.defaults.common import child, if_empty, items
from tiphys.api.object import Object

GROUP = "rbac.authorization.k8s.io"


def role_binding(obj: Object) -> None:
    """For both RoleBinding and ClusterRoleBinding; service accounts are in the core group, whose name is empty."""
    if_empty(child(obj, "roleRef"), apiGroup=GROUP)
    for subject in items(obj, "subjects"):
        if subject.get("kind") in ("User", "Group"):
            if_empty(subject, apiGroup=GROUP)
