"""Runs one probe once: exec, HTTP, TCP or gRPC. Says whether it passed, and what to report to the user.

Source: https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from tiphys.kubelet.container.environment import Lookup, expand
from tiphys.kubelet.pod.pods import ContainerSpec
from tiphys.kubelet.probes import requests
from tiphys.kubelet.probes.outcome import Outcome, ProbeError, ProbeOutcome
from tiphys.kubelet.probes.requests import PortError, RequestFailure
from tiphys.kubelet.runtime.service import RuntimeFailure, RuntimeService, RuntimeTimeout

_AGENT = "kube-probe/1.36"
_MAX_OUTPUT = 10 * 1024


class Prober:
    def __init__(self, runtime: RuntimeService) -> None:
        self._runtime = runtime

    async def run(
        self, probe: dict[str, Any], container: ContainerSpec, container_id: str, pod_ip: str
    ) -> ProbeOutcome:
        """Carry out a probe. Raises ``ProbeError``."""
        timeout = float(probe.get("timeoutSeconds") or 1)
        try:
            if action := probe.get("exec"):
                return await self._exec(action, container, container_id, timeout)
            if action := probe.get("httpGet"):
                return await self._http(action, container, pod_ip, timeout)
            if action := probe.get("tcpSocket"):
                return await self._tcp(action, container, pod_ip, timeout)
            if action := probe.get("grpc"):
                return await self._grpc(action, pod_ip, timeout)
        except PortError as error:
            raise ProbeError(str(error)) from error
        raise ProbeError(f"missing probe handler for {container['name']}")

    async def _exec(
        self, action: dict[str, Any], container: ContainerSpec, container_id: str, timeout: float
    ) -> ProbeOutcome:
        values = {v["name"]: v.get("value") or "" for v in container.get("env") or [] if not v.get("valueFrom")}
        command = [expand(word, Lookup(values)) for word in action.get("command") or []]
        try:
            done = await self._runtime.exec_sync(container_id, command, timeout)
        except RuntimeTimeout as error:
            return ProbeOutcome(
                Outcome.FAILURE,
                f'command timed out: "{" ".join(command)}" timed out after {timeout:g}s'
                if not str(error)
                else str(error),
            )
        except RuntimeFailure as error:
            raise ProbeError(str(error)) from error
        output = (done.stdout + done.stderr)[:_MAX_OUTPUT].decode("utf-8", "replace")
        return ProbeOutcome(Outcome.SUCCESS if done.exit_code == 0 else Outcome.FAILURE, output)

    async def _http(
        self, action: dict[str, Any], container: ContainerSpec, pod_ip: str, timeout: float
    ) -> ProbeOutcome:
        port = requests.resolve_port(action["port"], container)
        host, scheme = action.get("host") or pod_ip, (action.get("scheme") or "HTTP").lower()
        path = action.get("path") or "/"
        try:
            answer = await requests.get(scheme, host, port, path, requests.headers_for(action, _AGENT), timeout)
        except RequestFailure as error:
            return ProbeOutcome(Outcome.FAILURE, str(error))
        if 200 <= answer.status < 300:
            return ProbeOutcome(Outcome.SUCCESS, answer.text)
        if 300 <= answer.status < 400:
            return ProbeOutcome(Outcome.WARNING, "Probe terminated redirects, Response body: " + answer.text)
        return ProbeOutcome(Outcome.FAILURE, f"HTTP probe failed with statuscode: {answer.status}")

    async def _tcp(self, action: dict[str, Any], container: ContainerSpec, pod_ip: str, timeout: float) -> ProbeOutcome:
        port = requests.resolve_port(action["port"], container)
        host = action.get("host") or pod_ip
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            async with asyncio.timeout(timeout):
                _, writer = await asyncio.open_connection(host, port)
        except TimeoutError:
            return ProbeOutcome(Outcome.FAILURE, f"dial tcp {target}: i/o timeout")
        except OSError as error:
            reason = (
                "connection refused" if isinstance(error, ConnectionRefusedError) else (error.strerror or "").lower()
            )
            return ProbeOutcome(Outcome.FAILURE, f"dial tcp {target}: connect: {reason}")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return ProbeOutcome(Outcome.SUCCESS)

    async def _grpc(self, action: dict[str, Any], pod_ip: str, timeout: float) -> ProbeOutcome:
        from tiphys.kubelet.probes.grpc_health import check_health

        host = f"[{pod_ip}]" if ":" in pod_ip else pod_ip
        return await check_health(f"{host}:{action['port']}", action.get("service") or "", timeout)
