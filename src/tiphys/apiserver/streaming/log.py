"""A container's log: the kubelet's answer is streamed on as plain text, its refusals become Status objects.

Source: https://kubernetes.io/docs/concepts/cluster-administration/logging/
"""

from __future__ import annotations

from tiphys.api import errors
from tiphys.api.gotext import quote
from tiphys.apiserver.streaming.location import Location
from tiphys.wire.http import Headers, Request, Response, Transport
from tiphys.wire.upgrade import beginning, pass_on

_MAX_REFUSAL = 50_000


async def pod_log(transport: Transport, location: Location, name: str, timeout: float | None = 30.0) -> Response:
    """Stream the log of pod ``name``. Raises StatusError if the kubelet refuses or cannot be reached."""
    request = Request("GET", location.path, location.query, Headers({"accept": "*/*"}))
    try:
        answer = await transport.send(request, timeout)
    except (ConnectionError, TimeoutError) as error:
        url = f"{location.scheme}://{location.host}{location.path}"
        target = f"{url}?{location.query}" if location.query else url
        raise errors.from_code(500, f'Get "{target}": {error or "timed out"}') from error
    if 200 <= answer.status <= 206:
        response = pass_on(request, answer)
        response.headers["Content-Type"] = "text/plain"
        return response
    text = (await beginning(answer, _MAX_REFUSAL)).decode("utf-8", "replace")
    if answer.status == 500:
        raise errors.internal(text)
    if answer.status == 400:
        raise errors.bad_request(text)
    raise _refusal(answer.status, name, text)


def _refusal(code: int, name: str, text: str) -> errors.StatusError:
    """A Status for a code of the kubelet, worded as client-go words an answer that is no Status."""
    known = {
        401: ("Unauthorized", "the server has asked for the client to provide credentials"),
        403: ("Forbidden", text),
        404: ("NotFound", "the server could not find the requested resource"),
        405: ("MethodNotAllowed", "the server does not allow this method on the requested resource"),
        409: ("Conflict", "the server reported a conflict"),
        415: ("UnsupportedMediaType", text),
        422: ("Invalid", "the server rejected our request due to an error in our request"),
        429: ("TooManyRequests", "the server has received too many requests and has asked us to try again later"),
        503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
        504: (
            "Timeout",
            "the server was unable to return a response in the time allotted, but may still be processing the request",
        ),
    }
    if code in known:
        reason, message = known[code]
    elif code >= 500:
        reason = "InternalError"
        message = f"an error on the server ({quote(text)}) has prevented the request from succeeding"
    else:
        reason = "Unknown"
        message = f"the server responded with the status code {code} but did not return more information"
    details = errors.details(name=name, kind="pods/log")
    return errors.StatusError(errors.status(code, reason, f"{message} ( pods/log {name})", details))
