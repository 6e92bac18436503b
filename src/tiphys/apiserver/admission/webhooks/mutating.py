"""MutatingAdmissionWebhook: webhooks that may change an object, one after the other.

When one has changed it, the whole chain of mutating admission runs once more: the built-in plugins, and of the webhooks
those that were called before the change and ask for that (``reinvocationPolicy: IfNeeded``).

Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tiphys.api.meta.copying import copy
from tiphys.api.scheme import Resource
from tiphys.apiserver.admission.attributes import CONNECT, CREATE, DELETE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin
from tiphys.apiserver.admission.webhooks.hooks import Hook, Hooks
from tiphys.apiserver.admission.webhooks.notes import MutationNotes
from tiphys.apiserver.admission.webhooks.review import denied


@dataclass(slots=True)
class Round:
    """What the first run of the chain leaves for the second."""

    called: list[str] = field(default_factory=list)
    """Webhooks that may be called again, and for which no reason has come up yet."""
    again: set[str] = field(default_factory=set)
    """Those for which one has: something has changed since they were called."""
    output: Any = None
    """The object as the webhooks left it."""

    def changed(self) -> None:
        self.again.update(self.called)
        self.called.clear()


class MutatingAdmissionWebhook(Plugin):
    name = "MutatingAdmissionWebhook"
    operations = frozenset((CREATE, UPDATE, DELETE, CONNECT))
    subresources = None

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks

    async def close(self) -> None:
        await self._hooks.close()

    async def admit(self, attributes: Attributes) -> None:
        """Call the matching webhooks in order, applying their patches. Raises ``StatusError`` if one denies."""
        hooks = await self._hooks.about(attributes)
        if not hooks:
            return
        round = attributes.memory.setdefault(self.name, Round())
        if attributes.is_second_run and round.output != attributes.object:
            round.changed()
        for hook, resource, version in hooks:
            if attributes.is_second_run and hook.key not in round.again:
                continue
            if await self._call(attributes, hook, resource, version):
                round.changed()
                attributes.wants_second_run = True
            if hook.spec.get("reinvocationPolicy") == "IfNeeded":
                round.called.append(hook.key)
        round.output = copy(attributes.object)

    async def _call(self, attributes: Attributes, hook: Hook, resource: Resource, version: str) -> bool:
        """Ask one webhook, and do what it says; whether that changed the object. Raises ``StatusError``."""
        notes = MutationNotes(attributes, hook.configuration, hook.name, hook.index)
        changed = False
        try:
            verdict = await self._hooks.ask(hook, resource, version, attributes)
            if verdict is not None and not verdict.allowed:
                raise denied(hook.name, verdict.status)
            if verdict is not None and verdict.patch:
                changed = await self._hooks.patched(attributes, hook, resource, version, verdict)
                notes.patch(verdict.patch)
        finally:
            notes.mutated(changed=changed)
        if verdict is None:
            notes.failed_open()
        return changed
