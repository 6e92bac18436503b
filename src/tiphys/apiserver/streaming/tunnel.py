"""port-forward for WebSocket clients: the WebSocket carries a SPDY connection, which is unwrapped for the kubelet.

Source: KEP-4006, the subprotocol ``SPDY/3.1+portforward.k8s.io``.
"""

from __future__ import annotations

from tiphys.api import errors
from tiphys.apiserver.streaming.location import Location, forwarded_headers
from tiphys.wire import websocket
from tiphys.wire.http import ByteStream, Request, Response, Transport, Upgrade
from tiphys.wire.relay import relay
from tiphys.wire.upgrade import PROTOCOL_VERSION, pass_on
from tiphys.wire.websocket import HandshakeError, TunnelStream, WebSocket


def tunnelled_protocols(request: Request) -> list[str]:
    """The SPDY protocols that the client offers to tunnel, such as ``portforward.k8s.io``."""
    prefix = websocket.TUNNEL_PREFIX
    offered = websocket.offered_protocols(request)
    return [name.removeprefix(prefix) for name in offered if name.startswith(prefix) and name.endswith(".k8s.io")]


async def tunnel(request: Request, transport: Transport, location: Location) -> Response:
    """Upgrade to SPDY at the kubelet, and to WebSocket at the client only once that has worked."""
    onward = Request("POST", location.path, location.query, forwarded_headers(request))
    for name in tuple(onward.headers):
        if name.startswith("sec-websocket-") or name == "content-length":
            del onward.headers[name]
    onward.headers["upgrade"] = "SPDY/3.1"
    onward.headers[PROTOCOL_VERSION] = "\n".join(tunnelled_protocols(request))
    try:
        answer = await transport.send(onward, timeout=30)
    except (ConnectionError, TimeoutError) as error:
        raise errors.from_code(500, f"error dialing backend: {error or 'timed out'}") from error
    if answer.status != 101:
        if answer.status < 400:
            await answer.close()
            raise errors.from_code(500, f"invalid upgrade response: status code {answer.status}")
        return pass_on(onward, answer)
    spdy = answer.upgraded()
    if answer.headers.get("upgrade", "").lower() != "spdy/3.1":
        spdy.close()
        raise errors.from_code(500, "unable to upgrade: missing upgrade headers in response")
    chosen = answer.headers.get(PROTOCOL_VERSION, "").strip()
    try:
        headers = websocket.accept_headers(request, websocket.TUNNEL_PREFIX + chosen if chosen else "")
    except HandshakeError as error:
        spdy.close()
        raise errors.bad_request(str(error)) from error

    async def run(stream: ByteStream) -> None:
        await relay(TunnelStream(WebSocket(stream, server=True)), spdy)

    return Response(101, headers, Upgrade(run))
