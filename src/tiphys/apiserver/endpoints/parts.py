"""Subresources that write one part of an object: ``finalize`` of namespaces, ``resize`` and the like of pods.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.registry.registry import Registry
from tiphys.apiserver.registry.strategies.certificates import ApprovalRules
from tiphys.apiserver.registry.strategies.namespaces import FinalizeRules
from tiphys.apiserver.registry.strategies.pods import EphemeralContainersRules, ResizeRules
from tiphys.apiserver.registry.updating import EndpointRules

PART_RULES: dict[str, Callable[[Registry], EndpointRules]] = {
    "approval": ApprovalRules,
    "ephemeralcontainers": EphemeralContainersRules,
    "finalize": FinalizeRules,
    "resize": ResizeRules,
}


class PartTarget(Target):
    @cached_property
    def rules(self) -> EndpointRules:
        return PART_RULES[self.subresource](self.registry)
