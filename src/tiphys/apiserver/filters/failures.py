"""Failures become Status objects here, and only here.

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
"""

from __future__ import annotations

import logging

from tiphys.api import errors
from tiphys.apiserver.call import Call, Endpoint
from tiphys.apiserver.endpoints.respond import failure
from tiphys.apiserver.storage.feed import TooLargeRevision
from tiphys.store.backend import StoreError
from tiphys.wire.http import Response

log = logging.getLogger(__name__)


async def answer_failures(call: Call, proceed: Endpoint) -> Response:
    """A failure that nobody expected is logged with its traceback; the client learns only that it happened."""
    try:
        return await proceed(call)
    except Exception as error:
        known = status_error(error)
        if known is None:
            log.exception("%s %s failed", call.info.verb, call.info.path)
            known = errors.internal("This request caused apiserver to panic. Look in the logs for details.")
        elif isinstance(error, StoreError):
            log.warning("%s %s: %s", call.info.verb, call.info.path, error)
        return failure(call, known)


def status_error(error: Exception) -> errors.StatusError | None:
    """A failure as the client sees it; None for one that nobody expected."""
    match error:
        case errors.StatusError():
            return error
        case TooLargeRevision():
            return errors.too_large_resource_version(error.current, error.requested)
        case StoreError():
            return errors.from_code(500, str(error))
    return None
