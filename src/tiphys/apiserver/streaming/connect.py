"""exec, attach and port-forward: the client's Upgrade is carried on to the kubelet.

=====================================  ==================================================================
the client speaks                      and so
=====================================  ==================================================================
SPDY                                   the two connections are joined byte for byte
WebSocket, ``v5.channel.k8s.io``       exec, attach: translated to SPDY (``translate``)
WebSocket, ``SPDY/3.1+…``              port-forward: its SPDY is unwrapped (``tunnel``)
WebSocket, older channel protocols     joined byte for byte: the kubelet, or its runtime, speaks them
any of these, and the kubelet          joined byte for byte
declares ``ExtendWebSocketsToKubelet``
=====================================  ==================================================================

Source: KEP-4006
"""

from __future__ import annotations

from collections.abc import Collection

from tiphys.api import errors
from tiphys.apiserver.streaming.location import Location, forwarded_headers
from tiphys.apiserver.streaming.translate import StreamOptions, translate
from tiphys.apiserver.streaming.tunnel import tunnel, tunnelled_protocols
from tiphys.wire import websocket
from tiphys.wire.http import Request, Response, Transport
from tiphys.wire.upgrade import forward_upgrade, is_upgrade, upgrade_headers

NODE_TRANSLATES = "ExtendWebSocketsToKubelet"


async def exec_or_attach(
    request: Request,
    transport: Transport,
    location: Location,
    options: StreamOptions,
    node_features: Collection[str] = (),
) -> Response:
    """Run or join a command in a container. ``node_features``: the node's ``status.declaredFeatures``.

    Raises StatusError if the request is no Upgrade or the kubelet cannot be reached.
    """
    if NODE_TRANSLATES not in node_features and _offers(request, websocket.V5):
        return await translate(request, transport, location, options)
    return await proxy_upgrade(request, transport, location)


async def port_forward(
    request: Request, transport: Transport, location: Location, node_features: Collection[str] = ()
) -> Response:
    """Forward ports of a pod. Raises StatusError as ``exec_or_attach``."""
    if NODE_TRANSLATES not in node_features and websocket.is_websocket(request) and tunnelled_protocols(request):
        return await tunnel(request, transport, location)
    return await proxy_upgrade(request, transport, location)


async def proxy_upgrade(request: Request, transport: Transport, location: Location) -> Response:
    """Carry an Upgrade on byte for byte. What the target answers in place of a 101 is handed on, if it is an error."""
    if not is_upgrade(request):
        raise errors.bad_request("Upgrade request required")
    headers = upgrade_headers(forwarded_headers(request))
    onward = Request(request.method, location.path, location.query, headers)
    try:
        response = await forward_upgrade(onward, transport)
    except (ConnectionError, TimeoutError) as error:
        raise errors.from_code(500, f"error dialing backend: {error or 'timed out'}") from error
    if response.status < 400 and response.status != 101:
        raise errors.from_code(500, f"invalid upgrade response: status code {response.status}")
    return response


def _offers(request: Request, protocol: str) -> bool:
    return websocket.is_websocket(request) and protocol in websocket.offered_protocols(request)
