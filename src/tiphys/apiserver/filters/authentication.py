"""Who calls. A credential that is wrong is refused; none at all makes the caller anonymous, if that is allowed.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from tiphys.api import errors
from tiphys.api.credentials import has_space_before_token
from tiphys.apiserver.authn.authenticator import Authenticator, Rejected, authorization
from tiphys.apiserver.call import ANONYMOUS, Call, Endpoint, Filter
from tiphys.wire.http import Headers, Response

log = logging.getLogger(__name__)


def authenticate(
    authenticator: Authenticator, anonymous: Callable[[str], bool], clear: Callable[[Headers], None]
) -> Filter:
    """The filter that sets ``call.user`` and removes the credential; 401 for a wrong one. ``clear`` removes what else
    says who the caller is."""

    async def filter(call: Call, proceed: Endpoint) -> Response:
        try:
            user = await authenticator.authenticate(call.request)
        except Rejected as error:
            _warn_of_space(call)
            call.remarks = error.remarks
            log.info("unable to authenticate the request: %s", error)
            raise errors.unauthorized() from None
        if user is None:
            _warn_of_space(call)
            if not anonymous(call.info.path):
                raise errors.unauthorized()
            user = ANONYMOUS
        call.user, call.remarks = user, user.remarks
        for warning in user.remarks.warnings:
            call.warn(warning)
        # Nothing behind this point may see the credential.
        call.request.headers.pop("authorization", None)
        clear(call.request.headers)
        return await proceed(call)

    return filter


def _warn_of_space(call: Call) -> None:
    if has_space_before_token(authorization(call.request)):
        call.warn("the provided Authorization header contains extra space before the bearer token, and is ignored")
