"""The legacy service account token cleaner: removes tokens that were made on their own and are not used any more.

A token of a service account that names its secret, and that no pod mounts, is marked invalid when it has not been used
for a year, and removed when it has been invalid for a year.

Source: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#legacy-serviceaccount-token-cleaner
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterable
from enum import Enum, auto

from tiphys.api.object import Object
from tiphys.api.pods.references import objects_of
from tiphys.client import errors
from tiphys.client.resources import CONFIG_MAPS, PODS, SECRETS, SERVICE_ACCOUNTS
from tiphys.controlkit.objects import is_deleting, name_of, namespace_of, parse_time, timestamp, uid_of
from tiphys.controllers.access.tokens import TOKEN_TYPE
from tiphys.controllers.context import ControllerContext

log = logging.getLogger(__name__)

PERIOD = 24 * 3600.0
LAST_USED = "kubernetes.io/legacy-token-last-used"
INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
_TRACKING = "kube-apiserver-legacy-service-account-token-tracking"
_NAME, _UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"


class TokenAction(Enum):
    KEEP = auto()
    MARK = auto()
    REMOVE = auto()


def decide(secret: Object, account: Object | None, mounted: Iterable[str], now: float, unused: float) -> TokenAction:
    """What to do with a token's secret; ``mounted`` are the secrets of the pods of its namespace."""
    created = parse_time(secret["metadata"].get("creationTimestamp"))
    if is_deleting(secret) or created is None or created >= now - unused:
        return TokenAction.KEEP
    labels, since = secret["metadata"].get("labels") or {}, _date(now - unused)
    last_used = labels.get(LAST_USED)
    if last_used is not None and (not _is_date(last_used) or last_used >= since):
        return TokenAction.KEEP
    if account is None or not _names(account, secret) or name_of(secret) in mounted:
        return TokenAction.KEEP
    invalid = labels.get(INVALID_SINCE, "")
    if not _is_date(invalid):
        return TokenAction.MARK
    return TokenAction.KEEP if invalid >= since else TokenAction.REMOVE


def _names(account: Object, secret: Object) -> bool:
    """Whether a secret was made for an account without anybody asking: then the account names it."""
    uid = (secret["metadata"].get("annotations") or {}).get(_UID, "")
    named = any(reference.get("name") == name_of(secret) for reference in account.get("secrets") or ())
    return named and uid in ("", uid_of(account))


def tracked_from(tracking: Object) -> float | None:
    """Since when uses are noted, at the latest: the end of the day on which that began; None if that is not said."""
    since = (tracking.get("data") or {}).get("since", "")
    if not _is_date(since):
        return None
    day = datetime.datetime.strptime(since, "%Y-%m-%d").replace(tzinfo=datetime.UTC)
    return (day + datetime.timedelta(days=1)).timestamp()


def _date(seconds: float) -> str:
    return timestamp(seconds)[:10]


def _is_date(text: str) -> bool:
    try:
        return len(text) == 10 and bool(datetime.datetime.strptime(text, "%Y-%m-%d"))
    except ValueError:
        return False


class LegacyTokenCleaner:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._clock = context.client, context.clock
        self._unused = context.config.legacy_service_account_token_clean_up_period
        self._accounts = context.informers.informer(SERVICE_ACCOUNTS)
        self._secrets = context.informers.informer(SECRETS, field_selector=f"type={TOKEN_TYPE}")
        self._pods = context.informers.informer(PODS)

    async def run(self) -> None:
        for informer in (self._accounts, self._secrets, self._pods):
            await informer.wait_synced()
        while True:
            await self.clean()
            await self._clock.sleep(PERIOD)

    async def clean(self) -> None:
        """One round over all tokens."""
        if not await self._is_tracked_long_enough():
            return
        mounted = self._mounted()
        for secret in self._secrets.store.list():
            name = (secret["metadata"].get("annotations") or {}).get(_NAME, "")
            account = self._accounts.store.get(namespace_of(secret), name)
            of_pods = mounted.get(namespace_of(secret))
            await self._do(decide(secret, account, of_pods or (), self._clock.now(), self._unused), secret)

    async def _is_tracked_long_enough(self) -> bool:
        try:
            since = tracked_from(await self._client.get(CONFIG_MAPS, _TRACKING, "kube-system"))
        except (errors.ApiError, ConnectionError, TimeoutError) as error:
            log.warning("cannot tell since when uses of tokens are noted: %s", error)
            return False
        if since is None:
            log.warning("the ConfigMap %s does not say since when uses of tokens are noted", _TRACKING)
            return False
        return self._clock.now() >= since + self._unused

    def _mounted(self) -> dict[str, set[str]]:
        """By namespace, the secrets that pods refer to."""
        mounted: dict[str, set[str]] = {}
        for pod in self._pods.store.list():
            names = mounted.setdefault(namespace_of(pod), set())
            names.update(name for resource, name in objects_of(pod["spec"]) if resource == "secrets")
        return mounted

    async def _do(self, action: TokenAction, secret: Object) -> None:
        name, namespace = name_of(secret), namespace_of(secret)
        try:
            if action is TokenAction.MARK:
                labels = {INVALID_SINCE: _date(self._clock.now())}
                patch = {"metadata": {"uid": uid_of(secret), "labels": labels}}
                await self._client.patch(SECRETS, name, patch, namespace)
            elif action is TokenAction.REMOVE:
                version = secret["metadata"]["resourceVersion"]  # a use after this is a reason to keep it
                await self._client.delete(SECRETS, name, namespace, resource_version=version)
        except (errors.NotFound, errors.Conflict):
            return
        except (errors.ApiError, ConnectionError, TimeoutError) as error:
            log.warning("cannot clean up the token %s/%s: %s", namespace, name, error)
