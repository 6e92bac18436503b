"""AppArmor profiles in annotations, the form that they had before v1.30, become fields of the containers.

Source: KEP-24, "Version skew strategy".
"""

from __future__ import annotations

from collections.abc import Callable

from tiphys.api.meta.names import byte_length
from tiphys.api.object import Object

ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"
_MAX_PROFILE = 4095
_LOCALHOST = "localhost/"
_PLAIN = {"unconfined": "Unconfined", "runtime/default": "RuntimeDefault"}


def profile_of(annotation: str) -> Object | None:
    """The field that says what the annotation says; None for an annotation that makes no sense."""
    if annotation in _PLAIN:
        return {"type": _PLAIN[annotation]}
    name = annotation.removeprefix(_LOCALHOST)
    return {"type": "Localhost", "localhostProfile": name} if name and name != annotation else None


def profiles_from_annotations(pod: Object, warn: Callable[[str], None]) -> None:
    """Give a new pod's containers, in place, the profiles of its annotations, and warn of these."""
    annotations, spec = pod["metadata"].get("annotations"), pod["spec"]
    if not annotations or (spec.get("os") or {}).get("name") == "windows":
        return
    of_pod = (spec.get("securityContext") or {}).get("appArmorProfile")
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            key = ANNOTATION + (container.get("name") or "")
            if key not in annotations or (container.get("securityContext") or {}).get("appArmorProfile") is not None:
                continue
            profile = profile_of(annotations[key])
            if profile is not None and _is_bad(profile.get("localhostProfile", "")):
                profile = None
            if profile is not None and profile == of_pod:
                continue
            if profile is not None:
                container["securityContext"] = {**(container.get("securityContext") or {}), "appArmorProfile": profile}
            warn(f'metadata.annotations[{key}]: deprecated since v1.30; use the "appArmorProfile" field instead')


def _is_bad(name: str) -> bool:
    return name != name.strip() or byte_length(name) > _MAX_PROFILE
