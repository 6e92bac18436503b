"""Validation of what is written to subresources other than ``status``.

Those that are objects of a kind of their own go through ``validate_create`` as well: Binding, Eviction, Scale,
TokenRequest. The others get the whole object, as it was and as it would be.
"""

from __future__ import annotations

from tiphys.api.validation.authentication import validate_token_request
from tiphys.api.validation.autoscaling import validate_scale
from tiphys.api.validation.certificates import validate_csr_approval
from tiphys.api.validation.core.namespace import validate_namespace_finalize
from tiphys.api.validation.core.podresize import validate_pod_resize
from tiphys.api.validation.core.podupdate import validate_ephemeral_containers_update
from tiphys.api.validation.core.replicationcontroller import validate_binding
from tiphys.api.validation.policy import validate_eviction

__all__ = [
    "validate_binding",
    "validate_csr_approval",
    "validate_ephemeral_containers_update",
    "validate_eviction",
    "validate_namespace_finalize",
    "validate_pod_resize",
    "validate_scale",
    "validate_token_request",
]
