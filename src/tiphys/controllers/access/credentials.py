"""Each controller acts as its own service account, and may do only what that account's role allows.

The accounts are those of kube-controller-manager with ``--use-service-account-credentials``: the roles
``system:controller:NAME`` are bound to them. Source:
https://kubernetes.io/docs/reference/access-authn-authz/rbac/#controller-roles
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from tiphys.api.meta.timestamps import parse_seconds
from tiphys.client.errors import AlreadyExists, ApiError
from tiphys.client.resources import SERVICE_ACCOUNTS
from tiphys.client.rest import Client
from tiphys.runtime.clock import Clock, backoff
from tiphys.runtime.tasks import Runner
from tiphys.runtime.version import git_version

log = logging.getLogger(__name__)

NAMESPACE = "kube-system"
FIRST_LIFETIME = 3600

ClientFor = Callable[[str], Awaitable[Client]]
"""Gives the client of the service account called so, in kube-system."""


def user_agent(account: str) -> str:
    """As upstream names itself; the part before the slash is the field manager of what is written."""
    return f"kube-controller-manager/{git_version()} system:serviceaccount:{NAMESPACE}:{account}"


class ServiceAccountClients:
    """Clients by tokens of service accounts, which are requested with ``client`` and renewed before they expire.

    ``bare`` is a client whose connections carry no certificate: if there is one, the API server goes by that and
    not by the token.
    """

    def __init__(self, client: Client, bare: Client, clock: Clock, runner: Runner) -> None:
        self._client = client
        self._bare = bare
        self._clock = clock
        self._runner = runner
        self._tokens: dict[str, str] = {}

    async def client_for(self, account: str) -> Client:
        """Wait until the account has a token, however long that takes."""
        if account not in self._tokens:
            lifetime = await self._ask(account)
            self._runner.supervise(lambda: self._renew(account, lifetime), f"token of {account}")
        return self._bare.acting_as(user_agent(account), lambda: self._tokens[account])

    async def _renew(self, account: str, lifetime: float) -> None:
        while True:
            await self._clock.sleep(lifetime * 0.8)
            lifetime = await self._ask(account)

    async def _ask(self, account: str) -> float:
        """Get a token; returns for how many seconds it is good."""
        for delay in backoff(0.2, 2, 30):
            try:
                return await self._ask_once(account)
            except (ApiError, ConnectionError, TimeoutError) as error:
                log.warning("no token for service account %s yet: %s", account, error)
            await self._clock.sleep(delay)
        raise AssertionError("back-off never ends")

    async def _ask_once(self, account: str) -> float:
        meta = {"name": account, "namespace": NAMESPACE}
        try:
            await self._client.create(
                SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}
            )
        except AlreadyExists:
            log.debug("service account %s is there already", account)
        asked = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": FIRST_LIFETIME},
        }
        answer = await self._client.create(
            SERVICE_ACCOUNTS, asked, namespace=NAMESPACE, name=account, subresource="token"
        )
        status = answer["status"]
        self._tokens[account] = status["token"]
        return max(60.0, parse_seconds(status["expirationTimestamp"]) - self._clock.now())
