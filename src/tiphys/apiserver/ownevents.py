"""The events of the API server itself: written through its own front door, as any other.

What writes them is imported when there may be some first: an API server starts without a client of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiphys.api.object import Object
from tiphys.runtime.clock import Clock
from tiphys.wire.http import Handler

if TYPE_CHECKING:
    from tiphys.controlkit.events import EventRecorder

_SELF = ("system:apiserver", ("system:masters", "system:authenticated"))


def repair_events(handler: Handler, clock: Clock) -> EventRecorder:
    """What records the events of ``ServiceRepair``; ``handler`` is this server's."""
    from tiphys.client.rest import Client
    from tiphys.controlkit.events import EventRecorder
    from tiphys.wire.inprocess import InProcessTransport

    client = Client(InProcessTransport(handler, _SELF), user_agent="kube-apiserver")
    return EventRecorder(client, clock, "ipallocator-repair-controller", api="events.k8s.io/v1")


def warn(recorder: EventRecorder, obj: Object, reason: str, message: str, *, action: str) -> None:
    recorder.event(obj, "Warning", reason, message, action=action)
