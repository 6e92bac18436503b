"""Static pods from a URL: a Pod or a list of them, asked for again and again.

What cannot be read leaves the pods as they are; an empty answer is no pods. Source:
https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/#pods-created-via-http
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from tiphys.controlkit.objects import timestamp
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.probes.requests import RequestFailure, fetch
from tiphys.kubelet.sources.static import ManifestError, is_pod, load_manifest, static_pod
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)

MOST = 10 << 20
"""Bytes of an answer."""
_TIMEOUT = 10.0
_MOST_COMPLAINTS = 4
"""So many failures in a row are said aloud."""


class SourceFailure(Exception):
    """There are no pods to be had from the URL now."""


class UrlPods:
    """``changed(pods)`` is called with all of the pods whenever they change."""

    def __init__(
        self,
        url: str,
        headers: Sequence[tuple[str, str]],
        *,
        node_name: str,
        clock: Clock,
        changed: Callable[[list[Pod]], None],
        period: float,
    ) -> None:
        """``period``: seconds from one look to the next."""
        self._url = url
        self._headers = headers
        self._node_name = node_name
        self._clock = clock
        self._changed = changed
        self._period = period
        self._seen: bytes | None = None
        self._failures = 0

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except (RequestFailure, SourceFailure, ManifestError) as error:
                level = logging.WARNING if self._failures < _MOST_COMPLAINTS else logging.DEBUG
                self._failures += 1
                log.log(level, "cannot read static pods: %s", error)
            else:
                if self._failures:
                    log.info("static pods of %s are read again", self._url)
                self._failures = 0
            await self._clock.sleep(self._period)

    async def look(self) -> None:
        """Ask once. Raises ``RequestFailure``, ``SourceFailure`` and ``ManifestError``."""
        answer = await fetch(self._url, self._headers, _TIMEOUT, MOST + 1)
        if len(answer.body) > MOST:
            raise SourceFailure(f"{self._url}: more than {MOST} bytes")
        if answer.status != 200:
            raise SourceFailure(f"{self._url}: {answer.status}")
        if not answer.body:
            self._changed([])
            raise SourceFailure(f"zero-length data received from {self._url}")
        if answer.body == self._seen:
            return
        self._seen = answer.body
        self._changed(self._read(answer.body))

    def _read(self, data: bytes) -> list[Pod]:
        """All pods or, if one of them cannot be used, none. Raises ``ManifestError``."""
        manifest = load_manifest(data, self._url)
        items = manifest.get("items") if isinstance(manifest, dict) and manifest.get("kind") in _LISTS else [manifest]
        wanted = [{"kind": "Pod", **one} if isinstance(one, dict) else one for one in items or []]
        if not all(is_pod(one) for one in wanted):
            raise ManifestError(f"{self._url}: couldn't parse as single or multiple pods")
        seen = ("http", timestamp(self._clock.now()))
        return [static_pod(one, self._url, f"url:{self._url}", self._node_name, seen) for one in wanted]


_LISTS = ("PodList", "List")


def parse_headers(text: str) -> list[tuple[str, str]]:
    """``a:hello,b:again``. Raises ``ValueError``."""
    headers = []
    for part in filter(None, text.split(",")):
        name, colon, value = part.partition(":")
        if not colon:
            raise ValueError("malformed pair, expect string:string")
        headers.append((name.strip(), value.strip()))
    return headers
