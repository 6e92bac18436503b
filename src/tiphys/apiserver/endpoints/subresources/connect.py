"""Connections to kubelets, pods and services through the API server: logs, exec, attach, port-forward, proxy.

Source: https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/ and the kubelet's API.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from random import Random
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote as escape
from urllib.parse import urlencode

from tiphys.api import errors
from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.api.scheme import GroupVersionKind
from tiphys.apiserver.admission.attributes import CONNECT, Attributes
from tiphys.apiserver.admission.chain import AdmissionChain
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.accept import WRITTEN, is_produced, not_produced
from tiphys.apiserver.endpoints.options import WriteOptions
from tiphys.apiserver.endpoints.subresources.connectoptions import log_query, ports_parameter
from tiphys.apiserver.endpoints.subresources.servicelocation import candidates, port_name
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.endpoints.writing import attributes_of
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.requestinfo import is_true
from tiphys.apiserver.streaming.addresses import NOT_ALLOWED, is_allowed
from tiphys.apiserver.streaming.location import Location
from tiphys.runtime.lazily import Module
from tiphys.wire.http import Response, Transport
from tiphys.wire.websocket import is_websocket

if TYPE_CHECKING:
    from tiphys.apiserver.streaming import connect, log, messages, reverse, translate
else:  # SPDY, WebSockets and what carries between them are for the first connection
    connect = Module("tiphys.apiserver.streaming.connect")
    log = Module("tiphys.apiserver.streaming.log")
    messages = Module("tiphys.apiserver.streaming.messages")
    reverse = Module("tiphys.apiserver.streaming.reverse")
    translate = Module("tiphys.apiserver.streaming.translate")

_KUBELET_PORT = 10250


_LOGGED = ("text/plain", *WRITTEN)
"""What the route of logs produces."""


class NodeDialer(Protocol):
    """Reaches kubelets, and, for the proxy subresources, pods and services by their addresses."""

    async def refuses(self, host: str, port: int) -> str:
        """Why nobody may be connected to ``host``, an address or a name; ``""`` if they may."""
        ...

    def kubelet(self, node: str, host: str, port: int) -> Transport:
        """A transport to the kubelet of a node, authenticated as the API server."""
        ...

    def address(self, scheme: str, host: str, port: int) -> Transport:
        """A transport to any address in the cluster's network, without credentials."""
        ...


class Connector:
    """The endpoints that need a connection. Without a dialer they are refused.

    ``address_types``: which of a node's addresses to use, best first.
    """

    def __init__(
        self,
        registries: Registries,
        admission: AdmissionChain,
        dialer: NodeDialer | None,
        address_types: Sequence[str],
    ) -> None:
        self._registries = registries
        self._admission = admission
        self._dialer = dialer
        self._address_types = address_types
        self._chance = Random()

    # -- pods

    async def log(self, call: Call, target: Target) -> Response:
        if not is_produced(call.request.headers.get("accept", ""), _LOGGED):
            raise not_produced(_LOGGED)
        query = log_query(call)
        pod = await self._pod(call)
        container = _container(pod, call.parameter("container"))
        node, transport, host = await self._kubelet(pod)
        if node is None:
            # There is nothing to show of a pod that has no node yet.
            return Response(204, {}, b"")
        meta = pod["metadata"]
        path = f"/containerLogs/{meta['namespace']}/{meta['name']}/{container}"
        location = Location(path, query, "https", host)
        return _log(call, await log.pod_log(_need(transport), location, meta["name"]))

    async def exec(self, call: Call, target: Target) -> Response:
        return await self._stream(call, target, "exec")

    async def attach(self, call: Call, target: Target) -> Response:
        return await self._stream(call, target, "attach")

    async def _stream(self, call: Call, target: Target, kind: str) -> Response:
        options = _stream_options(call)
        await _need_create(call)
        pod = await self._pod(call)
        container = _container(pod, call.parameter("container"))
        shown = {**asdict(options), "container": container, "command": call.parameters.get("command")}
        await self._admit(call, target, f"Pod{kind.capitalize()}Options", shown)
        node, transport, host = await self._kubelet(pod)
        if node is None:
            raise errors.bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")
        meta = pod["metadata"]
        path = f"/{kind}/{meta['namespace']}/{meta['name']}/{container}"
        location = Location(path, _stream_query(call, options, kind), "https", host)
        return await connect.exec_or_attach(call.request, _need(transport), location, options, _features(node))

    async def port_forward(self, call: Call, target: Target) -> Response:
        ports = ports_parameter(call)
        await _need_create(call)
        pod = await self._pod(call)
        await self._admit(call, target, "PodPortForwardOptions", {"ports": ports})
        node, transport, host = await self._kubelet(pod)
        if node is None:
            raise errors.bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")
        meta = pod["metadata"]
        query = urlencode({"port": ",".join(map(str, ports))}) if ports else ""
        location = Location(f"/portForward/{meta['namespace']}/{meta['name']}", query, "https", host)
        return await connect.port_forward(call.request, _need(transport), location, _features(node))

    async def _pod(self, call: Call) -> Object:
        pods = self._registries.get("", "pods")
        return pods.object(await pods.get(call.info.namespace, call.info.name))

    async def _admit(self, call: Call, target: Target, kind: str, options: Object) -> None:
        """``options`` are the fields of what admission is asked about: an object such as PodExecOptions."""
        attributes: Attributes = attributes_of(call, target, CONNECT, WriteOptions())
        attributes.kind = GroupVersionKind("", "v1", kind)
        set_ones = {name: value for name, value in options.items() if value}
        attributes.object = {"kind": kind, "apiVersion": "v1", **set_ones}
        await self._admission.mutate(attributes)
        await self._admission.validate(attributes)

    async def _kubelet(self, pod: Object) -> tuple[Object | None, Transport | None, str]:
        """The pod's node, and a transport to its kubelet; nothing for a pod without a node."""
        name = pod["spec"].get("nodeName")
        if not name:
            return None, None, ""
        nodes = self._registries.get("", "nodes")
        entry = await nodes.store.get("", name)
        if entry is None:
            # Upstream looks for the node with the request for the pod in hand, and names its resource.
            raise errors.not_found("", "pods", name)
        node = nodes.object(entry)
        return node, *await self._to_kubelet(node)

    async def _to_kubelet(self, node: Object) -> tuple[Transport, str]:
        host, port = kubelet_address(node, self._address_types)
        dialer = self._dialer
        if dialer is None:
            raise errors.service_unavailable("this API server has no connection to kubelets")
        await _allow(dialer, host, port)
        return dialer.kubelet(node["metadata"]["name"], host, port), f"{host}:{port}"

    # -- proxies

    async def proxy_node(self, call: Call, target: Target) -> Response:
        nodes = self._registries.get("", "nodes")
        _, name, port = split_name(call.info.name, "node")
        node = nodes.object(await nodes.get("", name))
        await self._admit(call, target, "NodeProxyOptions", {"path": _rest(call)})
        host, kubelet_port = kubelet_address(node, self._address_types)
        if port and port != str(kubelet_port):
            return await self._proxy(call, "http", host, _number(port))
        transport, address = await self._to_kubelet(node)
        return await reverse.reverse_proxy(call.request, transport, Location(_rest(call), scheme="https", host=address))

    async def proxy_pod(self, call: Call, target: Target) -> Response:
        pods = self._registries.get("", "pods")
        scheme, name, port = split_name(call.info.name, "pod")
        pod = pods.object(await pods.get(call.info.namespace, name))
        await self._admit(call, target, "PodProxyOptions", {"path": _rest(call)})
        address = (pod.get("status") or {}).get("podIP", "")
        if not is_allowed(address):
            raise errors.bad_request(NOT_ALLOWED)
        number = _port_of(pod, port)
        return await self._proxy(call, scheme or "http", address, number)

    async def proxy_service(self, call: Call, target: Target) -> Response:
        scheme, name, port = split_name(call.info.name, "service")
        await self._admit(call, target, "ServiceProxyOptions", {"path": _rest(call)})
        host, number = await self._endpoint_of(call.info.namespace, name, port, call.info.name)
        return await self._proxy(call, scheme or "http", host, number)

    async def _endpoint_of(self, namespace: str, name: str, port: str, asked: str) -> tuple[str, int]:
        """The address and port of a ready endpoint of a service that is a pod, as its status says too: any of them.

        Others are nobody's to reach: whoever may write endpoints could name any address. ``asked`` is the name as the
        request has it. Raises 404 and 503.
        """
        services, endpoints = (self._registries.get("", plural) for plural in ("services", "endpoints"))
        if re.fullmatch(r"[+-]?[0-9]{1,18}", port):
            port = port_name(services.object(await services.get(namespace, name)), int(port))
        listed = endpoints.shared_object(await endpoints.get(namespace, name))
        if not listed.get("subsets"):
            raise errors.service_unavailable(f"no endpoints available for service {quote(name)}")
        for target, address, number in candidates(listed, port, self._chance):
            if is_allowed(address) and await self._is_pod(namespace, target, address):
                return address, number
        raise errors.service_unavailable(f"no endpoints available for service {quote(asked)}")

    async def _is_pod(self, namespace: str, target: Object, address: str) -> bool:
        if target.get("namespace") != namespace or not target.get("name"):
            return False
        pods = self._registries.get("", "pods")
        entry = await pods.store.cached(namespace, target["name"])
        status = (pods.shared_object(entry).get("status") or {}) if entry is not None else {}
        return address in [status.get("podIP"), *(each.get("ip") for each in status.get("podIPs") or ())]

    async def _proxy(self, call: Call, scheme: str, host: str, port: int) -> Response:
        if self._dialer is None:
            raise errors.service_unavailable("this API server has no connection to the cluster's network")
        await _allow(self._dialer, host, port)
        transport = self._dialer.address(scheme, host, port)
        location = Location(_rest(call), scheme=scheme, host=f"{host}:{port}")
        return await reverse.reverse_proxy(call.request, transport, location)


async def _need_create(call: Call) -> None:
    """Streams to a pod need ``create`` by whatever method: WebSocket clients GET them, which is the verb ``get``."""
    info = call.info
    if info.verb == "create":
        return
    reason = await call.refusal("create")
    if reason is not None:
        raise errors.forbidden(info.group, info.resource, info.name, reason)


async def _allow(dialer: NodeDialer, host: str, port: int) -> None:
    """Raises 400 for an address that the API server does not connect to."""
    if problem := await dialer.refuses(host, port):
        raise errors.bad_request(problem)


def _need(transport: Transport | None) -> Transport:
    assert transport is not None
    return transport


def _log(call: Call, response: Response) -> Response:
    return messages.log_over_websocket(call.request, response) if is_websocket(call.request) else response


def path_behind_proxy(path: str, *, namespaced: bool) -> str:
    """The path behind ``…/proxy``, percent-encoded as it came; empty without even a slash."""
    before = 8 if namespaced else 6  # "", "api", "v1", "namespaces", its name, "pods", the pod's name, "proxy"
    parts = path.split("/", before)
    return f"/{parts[before]}" if len(parts) > before else ""


def _rest(call: Call) -> str:
    return path_behind_proxy(call.request.path, namespaced=bool(call.info.namespace))


def kubelet_address(node: Object, types: Sequence[str]) -> tuple[str, int]:
    """Where the kubelet of a node listens, at the first of the types of address that the node has. Raises 500."""
    status = node.get("status") or {}
    addresses = {a["type"]: a["address"] for a in reversed(status.get("addresses") or [])}
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or _KUBELET_PORT
    for kind in types:
        if addresses.get(kind):
            return addresses[kind], port
    raise errors.from_code(500, f"no preferred addresses found; known addresses: {status.get('addresses') or []}")


def split_name(text: str, kind: str) -> tuple[str, str, str]:
    """``[scheme:]name[:port]`` as scheme, name and port; ``kind`` is what is named."""
    parts = text.split(":")
    match parts:
        case [name] if name:
            return "", name, ""
        case [name, port] if name:
            return "", name, port
        case [scheme, name, port] if name and scheme in ("", "http", "https"):
            return scheme, name, port
    raise errors.bad_request(f"invalid {kind} request {quote(text)}")


def _number(port: str) -> int:
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise errors.bad_request(f"invalid port {quote(port)}")
    return int(port)


def _port_of(pod: Object, wanted: str) -> int:
    """The named or numbered port of a pod; its first one if none is named, and 80 if it has none."""
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports") or ()]
    if not wanted:
        return int(ports[0]["containerPort"]) if ports else 80
    named = next((port["containerPort"] for port in ports if port.get("name") == wanted), None)
    return int(named) if named is not None else _number(wanted)


def _container(pod: Object, wanted: str) -> str:
    """The container that a call is about. Raises 400 if it is not clear, or not there."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    kinds = ("containers", "initContainers", "ephemeralContainers")
    every = [container["name"] for kind in kinds for container in spec.get(kind) or ()]
    if wanted:
        if wanted not in every:
            raise errors.bad_request(f"container {wanted} is not valid for pod {name}")
        return escape(wanted)
    if len(spec["containers"]) == 1:
        return escape(spec["containers"][0]["name"])
    shown = [
        c["name"] for kind in ("initContainers", "containers", "ephemeralContainers") for c in spec.get(kind) or ()
    ]
    raise errors.bad_request(f"a container name must be specified for pod {name}, choose one of: [{' '.join(shown)}]")


def _stream_options(call: Call) -> translate.StreamOptions:
    parameters = call.parameters
    return translate.StreamOptions(
        stdin=is_true(parameters, "stdin"),
        stdout=is_true(parameters, "stdout"),
        stderr=is_true(parameters, "stderr"),
        tty=is_true(parameters, "tty"),
    )


def _stream_query(call: Call, options: translate.StreamOptions, kind: str) -> str:
    wanted = (("input", options.stdin), ("output", options.stdout), ("error", options.stderr), ("tty", options.tty))
    pairs = [(name, "1") for name, on in wanted if on]
    if kind == "exec":
        pairs += [("command", word) for word in call.parameters.get("command", [])]
    return urlencode(pairs)


def _features(node: Object) -> tuple[str, ...]:
    return tuple((node.get("status") or {}).get("declaredFeatures") or ())
