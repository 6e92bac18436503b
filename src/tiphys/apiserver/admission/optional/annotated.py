"""What the annotations of a namespace say.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#podnodeselector
"""

from __future__ import annotations

from tiphys.apiserver.registry.registry import Registry


async def annotation(namespaces: Registry, namespace: str, name: str) -> str | None:
    """None if the namespace has no such annotation. Raises 404 if there is no such namespace, asking the store, too."""
    known = await namespaces.shared("", namespace)
    if known is None:
        known = namespaces.object(await namespaces.get("", namespace))
    value = (known["metadata"].get("annotations") or {}).get(name)
    return None if value is None else str(value)
