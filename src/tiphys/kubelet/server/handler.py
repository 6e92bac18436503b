"""The kubelet's server: authentication, authorization, and one route for each thing that is served.

Source: https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/
"""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tiphys.api.gotext import quote
from tiphys.client import errors
from tiphys.controlkit.serving import zpages
from tiphys.controlkit.serving.pprof import PREFIX, Profiling
from tiphys.kubelet.configz import describe
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.runtime.service import RuntimeFailure
from tiphys.kubelet.server import answers
from tiphys.kubelet.server.auth import VERBS, Authenticator, Authorizer, subresources
from tiphys.kubelet.server.container_checkpoint import ContainerCheckpoints
from tiphys.kubelet.server.container_logs import ContainerLogs
from tiphys.kubelet.server.metrics import KubeletMetrics
from tiphys.kubelet.server.node_logs import node_logs
from tiphys.kubelet.server.stats import summary
from tiphys.kubelet.server.streaming import Streaming
from tiphys.wire.health import HealthHandler
from tiphys.wire.http import Request, Response

if TYPE_CHECKING:
    from tiphys.kubelet.server.node import ServedNode

log = logging.getLogger(__name__)

Route = Callable[[Request, dict[str, str]], Awaitable[Response]]
_NODE_LOGS = Path("/var/log")
_DEBUGGING = (
    *("/run/", "/exec/", "/attach/", "/portForward/", "/containerLogs/"),
    *("/runningpods/", PREFIX, "/logs/"),
)
"""Paths below which nothing is served if debugging is turned off."""
_OPEN = frozenset(("/healthz/ping",))
_CHECKS = ("ping", "log", "syncloop")
_SERVED = ("/configz", "/healthz", "/logs", "/metrics", "/pods", "/runningpods", "/stats")


class KubeletServer:
    """``handle`` is a ``wire.http.Handler``."""

    def __init__(self, kubelet: ServedNode) -> None:
        self._kubelet = kubelet
        config, client, clock = kubelet.config, kubelet.client, kubelet.clock
        self._authenticator = Authenticator(
            client,
            clock,
            anonymous=config.anonymous,
            tokens=config.token_webhook,
            tokens_for=config.tokens_for,
        )
        self._authorizer = Authorizer(
            client, clock, config.node_name, allowed_for=config.allowed_for, denied_for=config.denied_for
        )
        self._logs = ContainerLogs(kubelet.runtime, kubelet.status, clock)
        self._checkpoints = ContainerCheckpoints(config.root, kubelet.runtime, clock)
        self._streaming = Streaming(kubelet.runtime)
        self._metrics = KubeletMetrics(kubelet)
        self._profiling = Profiling()
        pages = zpages.pages("kubelet", clock, config.flags, _SERVED)
        self._health = HealthHandler({"/healthz": self._failing}, parts=lambda: _CHECKS, pages=pages)
        pod = r"/(?P<namespace>[^/]+)/(?P<pod>[^/]+)"
        container = r"/(?P<container>[^/]+)"
        uid = r"(?:/(?P<uid>[^/]+))?"
        routes: list[tuple[str, str, Route]] = [
            ("GET", r"/healthz(?:/\w+)?|/metrics/slis|/statusz|/flagz", self._health_and_pages),
            ("GET", r"/pods/?", self._pods),
            ("GET", r"/runningpods/?", self._running_pods),
            ("GET", r"/configz", self._configz),
            ("GET", r"/metrics(?P<part>/[a-z]+)?", self._metrics_answer),
            ("GET", r"/stats/summary", self._summary),
            ("GET", r"/logs(?P<path>/.*)?", self._node_logs),
            ("GET", rf"{PREFIX}.*", self._profiles),
            ("GET", rf"/containerLogs{pod}{container}", self._container_logs),
            ("POST", rf"/checkpoint{pod}{container}", self._checkpoint),
            ("GET|POST", rf"/exec{pod}{uid}{container}", self._exec),
            ("POST", rf"/run{pod}{uid}{container}", self._run),
            ("GET|POST", rf"/attach{pod}{uid}{container}", self._attach),
            ("GET|POST", rf"/portForward{pod}{uid}", self._port_forward),
        ]
        self._routes = [(methods.split("|"), re.compile(pattern), route) for methods, pattern, route in routes]

    async def handle(self, request: Request) -> Response:
        if (refused := await self._check(request)) is not None:
            return refused
        if (off := self._turned_off(request.path)) is not None:
            return off
        known = False
        for methods, pattern, route in self._routes:
            if match := pattern.fullmatch(request.path):
                known = True
                if request.method in methods:
                    return await route(request, {k: unquote(v) for k, v in match.groupdict("").items()})
        return answers.text(405, "405: Method Not Allowed") if known else answers.text(404, "404 page not found")

    def _turned_off(self, path: str) -> Response | None:
        config = self._kubelet.config
        if not config.debugging and path.startswith(_DEBUGGING):
            return answers.text(405, "Debug endpoints are disabled.")
        if not config.profiling and path.startswith(PREFIX):
            return answers.text(405, "profiling endpoint is disabled.")
        return None

    async def _check(self, request: Request) -> Response | None:
        """The refusal, if the caller is not known or may not do this."""
        if request.path in _OPEN:
            return None
        try:
            user = await self._authenticator.user(request)
            if user is None:
                return answers.text(401, "Unauthorized")
            if self._kubelet.config.authorization == "AlwaysAllow" or await self._authorizer.allowed(user, request):
                return None
        except (errors.ApiError, ConnectionError, TimeoutError) as error:
            return answers.text(500, f"Authorization error (user={_name(request)}): {error}")
        asked = " ".join(subresources(request.path))
        verb = VERBS.get(request.method, "")
        message = f"Forbidden (user={user.name}, verb={verb}, resource=nodes, subresource(s)=[{asked}])"
        return answers.text(403, message)

    # What there is.

    def _find(self, namespace: str, name: str) -> Pod | None:
        return self._kubelet.find_pod(namespace, name)

    async def handle_health(self, request: Request) -> Response:
        """The page of the health port, which only the node's own reach: it is not asked who they are."""
        if request.path.split("/")[1] != "healthz":
            return answers.text(404, "404 page not found")
        return await self._health(request)

    def _failing(self) -> list[str]:
        if problem := self._kubelet.unhealthy():
            log.warning("health check syncloop failed: %s", problem)
        return ["syncloop"] if problem else []

    async def _health_and_pages(self, request: Request, _: dict[str, str]) -> Response:
        return await self._health(request)

    async def _profiles(self, request: Request, _: dict[str, str]) -> Response:
        return await self._profiling(request)

    async def _pods(self, request: Request, _: dict[str, str]) -> Response:
        return answers.json({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self._kubelet.all_pods()})

    async def _running_pods(self, request: Request, _: dict[str, str]) -> Response:
        try:
            sandboxes = await self._kubelet.runtime.list_sandboxes()
            containers = await self._kubelet.runtime.list_containers()
        except RuntimeFailure as error:
            return answers.plain(500, error.raw)
        items: list[dict[str, Any]] = []
        for sandbox in sandboxes:
            if not sandbox.ready:
                continue
            inside = [c for c in containers if c.sandbox_id == sandbox.id and c.state.value == "running"]
            meta = {"name": sandbox.name, "namespace": sandbox.namespace, "uid": sandbox.uid}
            spec = {"containers": [{"name": c.name, "image": c.image, "resources": {}} for c in inside]}
            items.append({"metadata": meta, "spec": spec, "status": {}})
        return answers.json({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})

    async def _configz(self, request: Request, _: dict[str, str]) -> Response:
        return answers.json({"kubeletconfig": describe(self._kubelet.config)})

    async def _metrics_answer(self, request: Request, path: dict[str, str]) -> Response:
        return await self._metrics.answer(path["part"].lstrip("/"))

    async def _summary(self, request: Request, _: dict[str, str]) -> Response:
        try:
            return answers.json(summary(await self._kubelet.snapshots.take()))
        except RuntimeFailure as error:
            return answers.plain(500, error.raw)
        except OSError as error:
            return answers.plain(500, f"cannot measure the node: {error}")

    async def _node_logs(self, request: Request, path: dict[str, str]) -> Response:
        return node_logs(_NODE_LOGS, path["path"] or "")

    # Containers.

    async def _container_logs(self, request: Request, path: dict[str, str]) -> Response:
        pod = self._find(path["namespace"], path["pod"])
        if pod is None:
            return answers.plain(404, f"pod {quote(path['pod'])} does not exist")
        return await self._logs.answer(pod, path["container"], request.parameters())

    async def _checkpoint(self, request: Request, path: dict[str, str]) -> Response:
        return await self._checkpoints.answer(self._find(path["namespace"], path["pod"]), path, request.parameters())

    def _container_id(self, path: dict[str, str]) -> str | Response:
        """The id of a running container, or the answer that says why none runs."""
        pod = self._find(path["namespace"], path["pod"])
        if pod is None or (path["uid"] and not hmac.compare_digest(path["uid"], pods.uid_of(pod))):
            return answers.plain(404, "pod does not exist")
        status = self._kubelet.status.get(pods.uid_of(pod)) or pod.get("status") or {}
        for field in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
            for container in status.get(field) or []:
                if container["name"] == path["container"] and "running" in (container.get("state") or {}):
                    return str(container["containerID"]).rpartition("//")[2]
        return answers.plain(500, f'container not found ("{path["container"]}")')

    async def _exec(self, request: Request, path: dict[str, str]) -> Response:
        container_id = self._container_id(path)
        return (
            container_id if isinstance(container_id, Response) else await self._streaming.execute(request, container_id)
        )

    async def _run(self, request: Request, path: dict[str, str]) -> Response:
        container_id = self._container_id(path)
        if isinstance(container_id, Response):
            return container_id
        command = " ".join(request.parameters().get("cmd") or []).split(" ")
        try:
            done = await self._kubelet.runtime.exec_sync(container_id, command)
        except RuntimeFailure as error:
            return answers.plain(500, error.raw)
        return Response(200, {"Content-Type": "text/plain; charset=utf-8"}, done.stdout + done.stderr)

    async def _attach(self, request: Request, path: dict[str, str]) -> Response:
        container_id = self._container_id(path)
        if isinstance(container_id, Response):
            return container_id
        pod = self._find(path["namespace"], path["pod"])
        spec = pods.find_container(pod, path["container"]) if pod is not None else None
        return await self._streaming.attach(request, container_id, tty=bool(spec and spec[1].get("tty")))

    async def _port_forward(self, request: Request, path: dict[str, str]) -> Response:
        pod = self._find(path["namespace"], path["pod"])
        if pod is None or (path["uid"] and not hmac.compare_digest(path["uid"], pods.uid_of(pod))):
            return answers.plain(404, "pod does not exist")
        try:
            sandboxes = await self._kubelet.runtime.list_sandboxes(pods.uid_of(pod))
        except RuntimeFailure as error:
            return answers.plain(500, error.raw)
        ready = sorted((s for s in sandboxes if s.ready), key=lambda s: s.created_at)
        if not ready:
            return answers.plain(500, f"failed to find sandboxID for pod {pods.describe(pod)}")
        return await self._streaming.forward_ports(request, ready[-1].id)


def _name(request: Request) -> str:
    return request.peer.identity[0] if request.peer.identity else ""
