"""Static pods: manifests in a folder, run without an API server, and shown there as mirror pods.

Source: https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import PODS
from tiphys.client.rest import Client
from tiphys.controlkit.objects import timestamp
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import CONFIG_HASH, CONFIG_MIRROR, CONFIG_SEEN, CONFIG_SOURCE, Pod
from tiphys.runtime import yamltext
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)

LOOK_PERIOD = 20.0


class ManifestError(ValueError):
    """The file is no pod."""


def read_manifest(text: str, file: str, node_name: str, now: str) -> Pod:
    """A static pod from a file. Its uid is made from its contents: another manifest is another pod. Raises
    ``ManifestError``."""
    manifest = load_manifest(text, file)
    if not is_pod(manifest):
        raise ManifestError(f"{file} does not hold a Pod")
    pod = static_pod(manifest, file, f"host:{node_name}file:{file}", node_name, ("file", now))
    tolerations = pod["spec"].setdefault("tolerations", [])
    if not any(t.get("operator") == "Exists" and t.get("effect") == "NoExecute" for t in tolerations):
        tolerations.append({"operator": "Exists", "effect": "NoExecute"})
    return pod


def load_manifest(text: str | bytes, source: str) -> Any:
    """Raises ``ManifestError``."""
    try:
        return yamltext.load(text)
    except yamltext.YAMLError as error:
        raise ManifestError(f"{source} is not YAML: {error}") from error


def is_pod(manifest: Any) -> bool:
    return isinstance(manifest, dict) and manifest.get("kind") == "Pod" and isinstance(manifest.get("spec"), dict)


def static_pod(manifest: Object, source: str, salt: str, node_name: str, seen: tuple[str, str]) -> Pod:
    """The pod of a manifest; ``salt`` makes it another than that of another place, ``seen`` says by which way it came
    and when. Raises ``ManifestError``."""
    meta: Object = manifest.setdefault("metadata", {})
    if not isinstance(meta, dict) or not meta.get("name"):
        raise ManifestError(f"{source}: the pod has no name")
    digest = hashlib.md5(json.dumps(manifest, sort_keys=True).encode() + salt.encode(), usedforsecurity=False)
    meta["uid"] = meta.get("uid") or digest.hexdigest()
    meta["name"] = f"{meta['name']}-{node_name.lower()}"
    meta["namespace"] = meta.get("namespace") or "default"
    meta["creationTimestamp"] = None
    annotations = meta["annotations"] = dict(meta.get("annotations") or {})
    way, now = seen
    annotations |= {CONFIG_SOURCE: way, CONFIG_SEEN: now, CONFIG_HASH: meta["uid"]}
    _default_spec(manifest["spec"], node_name)
    manifest["apiVersion"] = "v1"
    manifest["status"] = {"phase": "Pending"}
    return manifest


def _default_spec(spec: Object, node_name: str) -> None:
    """What the API server would fill in for a pod that never passes through it."""
    spec["nodeName"] = node_name
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("enableServiceLinks", True)
    for field in ("initContainers", "containers"):
        for container in spec.get(field) or []:
            container.setdefault("terminationMessagePath", "/dev/termination-log")
            container.setdefault("terminationMessagePolicy", "File")
            container.setdefault("resources", {})
            for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
                if wanted := container.get(probe):
                    for name, number in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1)):
                        wanted.setdefault(name, number)
                    wanted.setdefault("failureThreshold", 3)


class StaticPods:
    """Follows a folder: ``changed(pods)`` is called with all of its pods whenever they change."""

    def __init__(
        self,
        folder: Path,
        node_name: str,
        clock: Clock,
        changed: Callable[[list[Pod]], None],
        *,
        period: float = LOOK_PERIOD,
    ) -> None:
        """``period``: seconds after which the folder is read again though nothing is heard of it."""
        self._period = period
        self._folder = folder
        self._node_name = node_name
        self._clock = clock
        self._changed = changed
        self._seen: dict[str, tuple[str, Pod]] = {}
        self._first = True

    async def run(self) -> None:
        from asyncinotify import Inotify, Mask

        self._folder.mkdir(parents=True, exist_ok=True)
        with Inotify() as inotify:
            inotify.add_watch(self._folder, Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.MOVED_FROM | Mask.DELETE)
            while True:
                self.look()
                try:
                    async with asyncio.timeout(self._period):
                        await inotify.get()
                except TimeoutError:
                    continue

    def look(self) -> None:
        """Read the folder once."""
        manifests: dict[str, tuple[str, Pod]] = {}
        for path in sorted(self._folder.iterdir()):
            if path.name.startswith(".") or not path.is_file():
                continue
            try:
                text = path.read_text()
                known = self._seen.get(path.name)
                if known is not None and known[0] == text:
                    manifests[path.name] = known
                    continue
                pod = read_manifest(text, str(path), self._node_name, timestamp(self._clock.now()))
                manifests[path.name] = (text, pod)
            except (OSError, ManifestError, UnicodeDecodeError) as error:
                log.error("static pod: %s", error)
        if self._first or manifests != self._seen:
            self._first = False
            self._seen = manifests
            self._changed([pod for _, pod in manifests.values()])


class MirrorPodClient:
    """Shows static pods at the API server. ``shown(namespace, name)`` gives the pod that the API has there."""

    def __init__(
        self,
        client: Client,
        node: Callable[[], Object | None],
        shown: Callable[[str, str], Pod | None],
    ) -> None:
        self._client = client
        self._node = node
        self._shown = shown

    async def ensure(self, pod: Pod) -> None:
        """Make the mirror pod, or replace one of another manifest. Failures are tried again with the next sync."""
        node = self._node()
        if node is None:
            return
        shown = self._shown(pods.namespace_of(pod), pods.name_of(pod))
        try:
            if shown is not None:
                if is_mirror_of(shown, pod) and not pods.is_deleting(shown):
                    return
                await self.delete(shown)
            await self._client.create(PODS, mirror_of(pod, node))
        except errors.AlreadyExists:
            return
        except (errors.ApiError, ConnectionError, TimeoutError) as error:
            log.warning("cannot create the mirror pod of %s: %s", pods.key_of(pod), error)

    async def delete(self, mirror: Pod) -> None:
        try:
            await self._client.delete(
                PODS, pods.name_of(mirror), pods.namespace_of(mirror), uid=pods.uid_of(mirror), grace=0
            )
        except (errors.NotFound, errors.Conflict):
            return


def is_mirror_of(mirror: Pod, pod: Pod) -> bool:
    annotations = mirror["metadata"].get("annotations") or {}
    return bool(annotations.get(CONFIG_MIRROR) == pod["metadata"]["annotations"].get(CONFIG_HASH))


def mirror_of(pod: Pod, node: Object) -> Pod:
    meta = {k: v for k, v in pod["metadata"].items() if k not in ("uid", "creationTimestamp")}
    meta["annotations"] = {**pod["metadata"]["annotations"]}
    meta["annotations"][CONFIG_MIRROR] = meta["annotations"][CONFIG_HASH]
    meta["ownerReferences"] = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "name": node["metadata"]["name"],
            "uid": node["metadata"]["uid"],
            "controller": True,
        }
    ]
    return {"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": pod["spec"]}
