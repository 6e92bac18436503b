"""What the audit log says of admission webhooks: who was asked, who changed the object and how, who could not be asked.

Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/ (mutating webhook
auditing annotations)
"""

from __future__ import annotations

from typing import Any

from tiphys.api.gotext import json_text
from tiphys.apiserver.admission.attributes import Attributes

_MUTATION, _PATCH = "mutation.webhook.admission.k8s.io/", "patch.webhook.admission.k8s.io/"
_VALIDATING = "validating.webhook.admission.k8s.io/"
_FAILED_OPEN = "failed-open."


class MutationNotes:
    """Of one call of a mutating webhook: ``index`` is its place among all of them, ``round`` 0 or 1."""

    def __init__(self, attributes: Attributes, configuration: str, webhook: str, index: int) -> None:
        self._attributes = attributes
        self._who = {"configuration": configuration, "webhook": webhook}
        self._webhook = webhook
        self._place = f"round_{int(attributes.is_second_run)}_index_{index}"

    def mutated(self, *, changed: bool) -> None:
        self._attributes.annotate(_MUTATION + self._place, json_text({**self._who, "mutated": changed}))

    def patch(self, operations: list[Any]) -> None:
        """At the level ``Request`` and above, as a patch holds parts of the object."""

        def value() -> str:
            sorted_ones = [dict(sorted(operation.items())) for operation in operations]
            return json_text({**self._who, "patch": sorted_ones, "patchType": "JSONPatch"})

        self._attributes.annotate_request(_PATCH + self._place, value)

    def failed_open(self) -> None:
        self._attributes.annotate(_FAILED_OPEN + _MUTATION + self._place, self._webhook)


def validation_failed_open(attributes: Attributes, webhook: str, index: int) -> None:
    """``index`` is its place among those that the request concerns."""
    attributes.annotate(f"{_FAILED_OPEN}{_VALIDATING}round_0_index_{index}", webhook)


def own_annotations(attributes: Attributes, webhook: str, annotations: dict[str, str]) -> None:
    """What the webhook itself has to say."""
    for key, value in annotations.items():
        attributes.annotate(f"{webhook}/{key}", value)
