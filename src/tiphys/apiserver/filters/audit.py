"""Records requests in the audit log, as the policy says. It stands behind authentication, before impersonation.

Source: https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import orjson

from tiphys.api import errors
from tiphys.apiserver.audit.config import AuditConfig
from tiphys.apiserver.audit.policy import PANIC, REQUEST_RECEIVED, RESPONSE_COMPLETE, RESPONSE_STARTED, Level
from tiphys.apiserver.audit.sink import Sink
from tiphys.apiserver.audit.trail import Trail
from tiphys.apiserver.call import Call, Endpoint, Filter
from tiphys.apiserver.filters.failures import status_error
from tiphys.runtime.clock import Clock
from tiphys.wire.http import ByteStream, Response, Upgrade
from tiphys.wire.http import Sink as BodySink

Report = Callable[[str], Awaitable[bool]]
"""Sends the event as of a stage; whether it was taken."""


class Auditing:
    """The two filters of the audit log, and the sink that they report to."""

    def __init__(self, config: AuditConfig, clock: Clock) -> None:
        self.sink = Sink(config, clock)
        self.filter = record(self.sink, clock)
        """For requests whose caller is known."""
        self.refused = record_unauthenticated(self.sink, clock)
        """For those whose credential is refused; it stands before authentication."""


def record(sink: Sink, clock: Clock) -> Filter:
    """The filter for requests whose caller is known."""

    async def filter(call: Call, proceed: Endpoint) -> Response:
        treatment = sink.policy.treatment(call.user, call.info)
        call.audited = True
        sink.observe(treatment.level)
        if treatment.level is Level.NONE:
            return await proceed(call)
        trail = call.trail = Trail(call, treatment, clock.now())
        report = _reporter(sink, trail, clock)
        if not await report(REQUEST_RECEIVED):
            sink.refuse()
            raise errors.internal("failed to store audit event")
        response = await _answered(call, proceed, trail, report)
        if isinstance(response.body, bytes):
            await report(RESPONSE_COMPLETE)
            return response
        if call.is_long_running:
            await report(RESPONSE_STARTED)
        return _reporting_its_end(response, report)

    return filter


def record_unauthenticated(sink: Sink, clock: Clock) -> Filter:
    """The filter for requests whose credential is refused. It stands before authentication."""

    async def filter(call: Call, proceed: Endpoint) -> Response:
        attempted = _methods(call)
        try:
            return await proceed(call)
        except errors.StatusError as error:
            if call.audited or error.code != 401:
                raise
            treatment = sink.policy.treatment(call.user, call.info)
            sink.observe(treatment.level)
            if treatment.level is not Level.NONE:
                trail = Trail(call, treatment, clock.now())
                tried = f", attempted: {', '.join(attempted)}" if attempted else ", no credentials provided"
                trail.status({**error.status, "message": f"Authentication failed{tried}"})
                await _reporter(sink, trail, clock)(RESPONSE_STARTED)
            raise

    return filter


def _reporter(sink: Sink, trail: Trail, clock: Clock) -> Report:
    async def report(stage: str) -> bool:
        if stage in trail.treatment.omit_stages:
            return True
        return await sink.process(trail.event(stage, clock.now()))

    return report


async def _answered(call: Call, proceed: Endpoint, trail: Trail, report: Report) -> Response:
    """The answer, noted in the trail; a failure is noted and reported, and passes on."""
    body, media = call.request.body, call.request.headers.get("content-type", "")
    try:
        response = await proceed(call)
    except Exception as error:
        known = status_error(error)
        trail.request_body(body, media)
        if known is None:
            message = f"APIServer panic'd: {error}"
            trail.status({"status": "Failure", "message": message, "reason": "InternalError", "code": 500})
        else:
            trail.response(Response(known.code, {"Content-Type": "application/json"}, orjson.dumps(known.status)))
        await report(PANIC if known is None else RESPONSE_COMPLETE)
        raise
    trail.request_body(body, media)
    trail.response(response)
    return response


def _reporting_its_end(response: Response, report: Report) -> Response:
    """The response, whose stream reports when it has ended."""
    body = response.body
    if isinstance(body, Upgrade):

        async def run(stream: ByteStream) -> None:
            try:
                await body.run(stream)
            finally:
                await report(RESPONSE_COMPLETE)

        return replace(response, body=Upgrade(run))
    assert not isinstance(body, bytes)

    async def stream(sink: BodySink) -> None:
        try:
            await body(sink)
        finally:
            await report(RESPONSE_COMPLETE)

    return replace(response, body=stream)


def _methods(call: Call) -> list[str]:
    """The kinds of credential in a request."""
    kind = call.request.headers.get("authorization", "").partition(" ")[0].lower()
    methods = [kind] if kind in ("basic", "bearer") else []
    return methods + (["x509"] if call.request.peer.certificate is not None else [])
