"""Files of configMap, secret, downwardAPI and projected volumes, from the objects that they name. Pure.

Source: https://kubernetes.io/docs/concepts/storage/volumes/ and …/projected-volumes/
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.volumes.atomic import FileProjection
from tiphys.kubelet.volumes.failures import MountFailure

DEFAULT_MODE = 0o644


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """One service account token that a volume asks for. ``expiration`` in seconds; ``account`` is the uid that the
    service account must have, empty for any."""

    audience: str
    expiration: int
    account: str = ""


@dataclass(frozen=True, slots=True)
class Needs:
    """What must be fetched before a volume's files can be made."""

    config_maps: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    tokens: frozenset[TokenSpec] = frozenset()


@dataclass(frozen=True, slots=True)
class Material:
    """What was fetched, and how fields of the pod read at this moment."""

    config_maps: Mapping[str, Object]
    secrets: Mapping[str, Object]
    tokens: Mapping[TokenSpec, str]
    field: Callable[[Object], str]
    """A downward API item (``fieldRef`` or ``resourceFieldRef``) → its text."""
    token_owner: int | None = None
    token_mode_private: bool = False


def projections(volume: Object) -> Iterator[tuple[str, Object, int]]:
    """(kind, source, default mode) of each part of a volume that is made of API data."""
    for kind, name in (("configMap", "configMap"), ("secret", "secret"), ("downwardAPI", "downwardAPI")):
        if (source := volume.get(name)) is not None:
            mode = source.get("defaultMode")
            yield kind, source, DEFAULT_MODE if mode is None else mode
    if (projected := volume.get("projected")) is not None:
        mode = projected.get("defaultMode")
        for part in projected.get("sources") or []:
            for kind, source in part.items():
                if source is not None:
                    yield kind, source, DEFAULT_MODE if mode is None else mode


def is_projection(volume: Object) -> bool:
    return any(volume.get(name) is not None for name in ("configMap", "secret", "downwardAPI", "projected"))


def object_name(kind: str, source: Object) -> str:
    return (
        str(source.get("secretName") or source.get("name") or "") if kind == "secret" else str(source.get("name", ""))
    )


def needs(volume: Object) -> Needs:
    config_maps: set[str] = set()
    secrets: set[str] = set()
    tokens: set[TokenSpec] = set()
    for kind, source, _ in projections(volume):
        if kind == "configMap":
            config_maps.add(object_name(kind, source))
        elif kind == "secret":
            secrets.add(object_name(kind, source))
        elif kind == "serviceAccountToken":
            tokens.add(token_spec(source))
    return Needs(frozenset(config_maps), frozenset(secrets), frozenset(tokens))


def token_spec(source: Object) -> TokenSpec:
    return TokenSpec(source.get("audience") or "", int(source.get("expirationSeconds") or 3600))


def make_payload(pod: Pod, volume: Object, material: Material) -> dict[str, FileProjection]:
    """The files of a volume. Raises ``MountFailure`` if something that must exist does not."""
    files: dict[str, FileProjection] = {}
    for kind, source, mode in projections(volume):
        match kind:
            case "configMap":
                files |= _from_object("configmap", object_name(kind, source), source, material.config_maps, mode, pod)
            case "secret":
                files |= _from_object("secret", object_name(kind, source), source, material.secrets, mode, pod)
            case "downwardAPI":
                for item in source.get("items") or []:
                    own = item.get("mode")
                    text = material.field(item).encode()
                    files[item["path"]] = FileProjection(text, mode if own is None else own)
            case "serviceAccountToken":
                token = material.tokens[token_spec(source)].encode()
                token_mode = 0o600 if material.token_mode_private else mode
                files[source["path"]] = FileProjection(token, token_mode, material.token_owner)
            case _:
                raise MountFailure(f"projected volume source {kind} is not supported by this kubelet")
    return files


def _from_object(
    kind: str, name: str, source: Object, objects: Mapping[str, Object], mode: int, pod: Pod
) -> dict[str, FileProjection]:
    """The files of a config map or secret. Raises ``MountFailure`` for a missing object or key."""
    optional = bool(source.get("optional"))
    obj = objects.get(name)
    if obj is None:
        if optional:
            return {}
        raise MountFailure(f'{kind} "{name}" not found')
    data = _bytes_of(obj, kind)
    items = source.get("items")
    if not items:
        return {key: FileProjection(text, mode) for key, text in data.items()}
    files = {}
    for item in items:
        if item["key"] not in data:
            if optional:
                continue
            what = "config" if kind == "configmap" else "secret"
            raise MountFailure(f"references non-existent {what} key: {item['key']}")
        own = item.get("mode")
        files[item["path"]] = FileProjection(data[item["key"]], mode if own is None else own)
    return files


def _bytes_of(obj: Object, kind: str) -> dict[str, bytes]:
    if kind == "secret":
        return {key: base64.b64decode(text or "") for key, text in (obj.get("data") or {}).items()}
    plain = {key: text.encode() for key, text in (obj.get("data") or {}).items()}
    return plain | {key: base64.b64decode(text or "") for key, text in (obj.get("binaryData") or {}).items()}


def shared_user(pod: Pod) -> int | None:
    """The user that all containers of the pod run as, if it is one and known."""
    of_pod = (pod["spec"].get("securityContext") or {}).get("runAsUser")
    users = {
        (container.get("securityContext") or {}).get("runAsUser", of_pod)
        for field in ("initContainers", "containers", "ephemeralContainers")
        for container in pod["spec"].get(field) or []
    }
    return users.pop() if len(users) == 1 else None


def fs_group(pod: Pod) -> int | None:
    group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    return None if group is None else int(group)
