"""DenyServiceExternalIPs: no service gets an external IP that it did not have before.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#denyserviceexternalips
"""

from __future__ import annotations

from typing import Any

from tiphys.apiserver.admission.attributes import CREATE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid


class DenyServiceExternalIPs(Plugin):
    resources = frozenset((("", "services"),))
    operations = frozenset((CREATE, UPDATE))

    async def validate(self, attributes: Attributes) -> None:
        if not _external(attributes.new()) <= _external(attributes.old):
            raise forbid(attributes, "Use of external IPs is denied by admission control")


def _external(service: dict[str, Any] | None) -> set[str]:
    return set(((service or {}).get("spec") or {}).get("externalIPs") or ())
