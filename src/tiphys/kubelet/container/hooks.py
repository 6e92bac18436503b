"""Lifecycle hooks: postStart and preStop, by exec, HTTP or sleep.

Source: https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tiphys.api.gotext import quote
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.probes import requests
from tiphys.kubelet.recorder import PodEvents
from tiphys.kubelet.runtime.service import RuntimeFailure, RuntimeService
from tiphys.runtime.clock import Clock
from tiphys.wire.wording import NOT_HTTPS

_AGENT = "kube-lifecycle/1.36"
_HTTP_TIMEOUT = 60.0


class HookFailure(Exception):
    """A hook failed; the message is upstream's."""


class HookRunner:
    def __init__(self, runtime: RuntimeService, clock: Clock, events: PodEvents) -> None:
        self._runtime = runtime
        self._clock = clock
        self._events = events

    async def run(
        self, hook: dict[str, Any], pod: Pod, container: ContainerSpec, container_id: str, pod_ip: str
    ) -> None:
        """Run a hook to its end. Raises ``HookFailure``."""
        who = f"Container {quote(container['name'])} in Pod {quote(pods.describe(pod))}"
        if action := hook.get("exec"):
            await self._exec(action.get("command") or [], container_id, who)
        elif action := hook.get("httpGet"):
            await self._http(action, pod, container, pod_ip, who)
        elif action := hook.get("sleep"):
            await self._clock.sleep(float(action["seconds"]))
        elif hook.get("tcpSocket"):
            raise HookFailure("Cannot run handler: invalid handler: tcpSocket")

    async def _exec(self, command: list[str], container_id: str, who: str) -> None:
        words = "[" + " ".join(command) + "]"
        try:
            done = await self._runtime.exec_sync(container_id, command)
        except RuntimeFailure as error:
            raise HookFailure(
                f'Exec lifecycle hook ({words}) for {who} failed - error: {error}, message: ""'
            ) from error
        if done.exit_code != 0:
            output = quote((done.stdout + done.stderr).decode("utf-8", "replace"))
            problem = (
                f"command '{' '.join(command)}' exited with {done.exit_code}: {done.stderr.decode('utf-8', 'replace')}"
            )
            raise HookFailure(f"Exec lifecycle hook ({words}) for {who} failed - error: {problem}, message: {output}")

    async def _http(self, action: dict[str, Any], pod: Pod, container: ContainerSpec, pod_ip: str, who: str) -> None:
        path = action.get("path") or "/"
        try:
            port = requests.resolve_port(action["port"], container)
            scheme, host = (action.get("scheme") or "HTTP").lower(), action.get("host") or pod_ip
            headers = requests.headers_for(action, _AGENT)
            try:
                await requests.get(scheme, host, port, path, headers, _HTTP_TIMEOUT)
            except requests.RequestFailure as error:
                if not str(error).endswith(NOT_HTTPS):
                    raise
                await self._without_tls(pod, host, port, path, headers)
        except (requests.RequestFailure, requests.PortError) as error:
            raise HookFailure(f"HTTP lifecycle hook ({path}) for {who} failed - error: {error}") from error

    async def _without_tls(self, pod: Pod, host: str, port: int, path: str, headers: Sequence[tuple[str, str]]) -> None:
        """Hooks once called every server by plain HTTP: one that speaks no TLS is called so, without credentials."""
        plain = [(name, value) for name, value in headers if name.lower() != "authorization"]
        await requests.get("http", host, port, path, plain, _HTTP_TIMEOUT)
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        text = f"request to HTTPS lifecycle hook {place} got HTTP response, retry with HTTP succeeded"
        self._events.pod(pod, "Warning", "LifecycleHTTPFallback", text)
