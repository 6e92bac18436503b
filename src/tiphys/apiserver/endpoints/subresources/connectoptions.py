"""The options of connections to pods, from the query: read, checked, and as the kubelet gets them.

Source: PodLogOptions and PodPortForwardOptions in the API reference.
"""

from __future__ import annotations

from urllib.parse import urlencode

from tiphys.api import errors, fielderrors
from tiphys.api.codec.timetext import GoTimeError, parse_time
from tiphys.api.fielderrors import FieldError
from tiphys.api.gotext import quote
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.options import integer_parameter
from tiphys.apiserver.requestinfo import is_true

_FLAGS = ("follow", "previous", "timestamps")
_POSITIVE = "must be greater than 0"
_MAX_DIGITS = 4000
"""Python refuses to read longer numbers; one cut short is out of range all the same."""


def log_query(call: Call) -> str:
    """The kubelet's query for a log. Raises 400 for what cannot be read, 422 for what makes no sense."""
    since = integer_parameter(call, "sinceSeconds")
    since_time = _time_parameter(call, "sinceTime")
    tail, limit = integer_parameter(call, "tailLines"), integer_parameter(call, "limitBytes")
    problems: list[FieldError] = []
    if tail is not None and tail < 0:
        problems.append(fielderrors.invalid("tailLines", tail, "must be greater than or equal to 0"))
    if limit is not None and limit < 1:
        problems.append(fielderrors.invalid("limitBytes", limit, _POSITIVE))
    if since is not None and since_time is not None:
        problems.append(fielderrors.forbidden("[]", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    elif since is not None and since < 1:
        problems.append(fielderrors.invalid("sinceSeconds", since, _POSITIVE))
    if "stream" in call.parameters:
        # Behind a feature gate that is off.
        problems.append(fielderrors.forbidden("stream", "may not be specified"))
    if problems:
        raise errors.invalid("", "PodLogOptions", call.info.name, problems)
    values = {"sinceSeconds": since, "sinceTime": since_time, "tailLines": tail, "limitBytes": limit}
    flags = {name: "true" for name in _FLAGS if is_true(call.parameters, name)}
    return urlencode({**flags, **{name: value for name, value in values.items() if value is not None}})


def _time_parameter(call: Call, name: str) -> str | None:
    if name not in call.parameters:
        return None
    try:
        return parse_time(call.parameter(name))
    except GoTimeError as error:
        raise errors.bad_request(str(error)) from error


def ports_parameter(call: Call) -> list[int]:
    """The ports of a port-forward. Raises 400."""
    ports = [port for value in call.parameters.get("ports", []) for port in value.split(",")]
    for port in ports:
        if not port.isascii() or not port.isdecimal():
            problem = "invalid syntax"
        elif int(port[:_MAX_DIGITS]) >= 2**16:
            problem = "value out of range"
        else:
            continue
        raise errors.bad_request(f"cannot convert to []int32: strconv.ParseUint: parsing {quote(port)}: {problem}")
    return [int(port) for port in ports]
