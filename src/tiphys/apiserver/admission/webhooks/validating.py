"""ValidatingAdmissionWebhook: webhooks that say yes or no to the final object, all at once.

Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""

from __future__ import annotations

import asyncio

from tiphys.apiserver.admission.attributes import CONNECT, CREATE, DELETE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin
from tiphys.apiserver.admission.webhooks.hooks import Hooks
from tiphys.apiserver.admission.webhooks.notes import validation_failed_open
from tiphys.apiserver.admission.webhooks.review import denied


class ValidatingAdmissionWebhook(Plugin):
    name = "ValidatingAdmissionWebhook"
    operations = frozenset((CREATE, UPDATE, DELETE, CONNECT))
    subresources = None

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks

    async def close(self) -> None:
        await self._hooks.close()

    async def validate(self, attributes: Attributes) -> None:
        """The refusal of the first that refuses, in the order of the configurations."""
        hooks = await self._hooks.about(attributes)
        if not hooks:
            return
        asked = (self._hooks.ask(hook, resource, version, attributes) for hook, resource, version in hooks)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for index, ((hook, _, _), answer) in enumerate(zip(hooks, answers, strict=True)):
            if answer is None:
                validation_failed_open(attributes, hook.name, index)
        for (hook, _, _), answer in zip(hooks, answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            if answer is not None and not answer.allowed:
                raise denied(hook.name, answer.status)
