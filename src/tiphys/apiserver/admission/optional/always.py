"""AlwaysAdmit and AlwaysDeny: for tests. AlwaysAdmit is a plugin that does nothing.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#alwaysadmit
"""

from __future__ import annotations

from tiphys.apiserver.admission.attributes import CONNECT, CREATE, DELETE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid


class AlwaysDeny(Plugin):
    operations = frozenset((CREATE, UPDATE, DELETE, CONNECT))
    subresources = None

    async def admit(self, attributes: Attributes) -> None:
        raise forbid(attributes, "admission control is denying all modifications")

    async def validate(self, attributes: Attributes) -> None:
        await self.admit(attributes)
