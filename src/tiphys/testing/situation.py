"""What a cluster looks like when a test gives up: the pods that are not ready and why, and the last events."""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.client.resources import CORE_EVENTS, PODS
from tiphys.client.rest import Client

LAST_EVENTS = 10


async def situation(client: Client) -> str:
    """One line for each unready pod, then one for each of the last events."""
    pods = (await client.list(PODS))["items"]
    events = (await client.list(CORE_EVENTS))["items"]
    events.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    lines = [f"pod {_name(pod)}: {why}" for pod in pods if (why := why_not_ready(pod))]
    lines += [_event_line(event) for event in events[-LAST_EVENTS:]]
    return "\n".join(lines) or "no pod is unready, and no event was written"


def why_not_ready(pod: Object) -> str:
    """The phase and the conditions that are not true; empty for a pod that is ready or has succeeded."""
    status = pod.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    if status.get("phase") == "Succeeded" or conditions.get("Ready", {}).get("status") == "True":
        return ""
    unmet = [condition for condition in conditions.values() if condition["status"] != "True"]
    reasons = "; ".join(f"{c['type']}: {c.get('message') or c.get('reason') or 'false'}" for c in unmet)
    return f"{status.get('phase', 'Pending')} ({reasons or 'no conditions yet'})"


def _event_line(event: Object) -> str:
    about = event["involvedObject"]
    return f"event {about.get('kind')} {about.get('name')}: {event.get('reason')}: {event.get('message')}"


def _name(obj: Object) -> str:
    return f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"
