"""Validation of what is written to subresources other than ``status``: the whole object, as it was and as it would be.

Those that are objects of their own kind go through ``validate_create``: Binding, Eviction, Scale, TokenRequest.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiphys.runtime.lazily import Module

if TYPE_CHECKING:  # as the type checker, editors and search see them
    from tiphys.validation.certificates import validate_csr_approval
    from tiphys.validation.core.namespace import validate_namespace_finalize
    from tiphys.validation.pods.podresize import validate_pod_resize
    from tiphys.validation.pods.podupdate import validate_ephemeral_containers_update
else:
    validate_csr_approval = Module("tiphys.validation.certificates").validate_csr_approval
    validate_namespace_finalize = Module("tiphys.validation.core.namespace").validate_namespace_finalize
    validate_pod_resize = Module("tiphys.validation.pods.podresize").validate_pod_resize
    validate_ephemeral_containers_update = Module(
        "tiphys.validation.pods.podupdate"
    ).validate_ephemeral_containers_update

__all__ = [
    "validate_csr_approval",
    "validate_ephemeral_containers_update",
    "validate_namespace_finalize",
    "validate_pod_resize",
]
