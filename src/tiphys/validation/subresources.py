"""Validation of what is written to subresources other than ``status``: the whole object, as it was and as it would be.

Those that are objects of their own kind go through ``validate_create``: Binding, Eviction, Scale, TokenRequest.
"""

from __future__ import annotations

from tiphys.validation.lazily import Module

validate_csr_approval = Module("tiphys.validation.certificates").validate_csr_approval
validate_namespace_finalize = Module("tiphys.validation.core.namespace").validate_namespace_finalize
validate_pod_resize = Module("tiphys.validation.pods.podresize").validate_pod_resize
validate_ephemeral_containers_update = Module("tiphys.validation.pods.podupdate").validate_ephemeral_containers_update
