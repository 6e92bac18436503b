"""What every controller of a driver is given."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import InformerFactory
from tiphys.client.resources import SECRETS
from tiphys.client.rest import Client
from tiphys.controlkit.controller import Controller, Reconcile
from tiphys.controlkit.events import EventRecorder
from tiphys.controlkit.queue import RateLimiter
from tiphys.controlkit.retry import TryAgain
from tiphys.csi.connection import Connection, DriverFacts
from tiphys.runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class DriverOptions:
    """``node`` is set if the driver runs on every node and this process looks after its own node's volumes only.

    ``timeout`` of calls, in seconds.
    """

    node: str = ""
    timeout: float = 60.0
    workers: int = 10
    first_retry: float = 1.0
    last_retry: float = 300.0
    default_fs_type: str = ""
    extra_create_metadata: bool = False
    capacity_poll: float = 60.0
    capacity_namespace: str = "kube-system"


@dataclass(frozen=True, slots=True)
class DriverContext:
    client: Client
    informers: InformerFactory
    connection: Connection
    facts: DriverFacts
    clock: Clock
    recorder: EventRecorder
    options: DriverOptions

    def controller(self, name: str, reconcile: Reconcile) -> Controller:
        options = self.options
        limiter = RateLimiter[str](self.clock, base=options.first_retry, maximum=options.last_retry)
        return Controller(name, reconcile, self.clock, workers=options.workers, limiter=limiter)


async def read_secret(client: Client, name: tuple[str, str] | None) -> dict[str, str]:
    """A secret's data by (namespace, name). Raises ``TryAgain`` if it cannot be had."""
    if name is None:
        return {}
    namespace, plain = name
    try:
        secret: Object = await client.get(SECRETS, plain, namespace)
    except errors.ApiError as error:
        raise TryAgain(f"error getting secret {plain} in namespace {namespace}: {error.message}") from error
    return {key: base64.b64decode(text or "").decode() for key, text in (secret.get("data") or {}).items()}


def secret_of(reference: Object | None) -> tuple[str, str] | None:
    """(namespace, name) of a SecretReference."""
    return (reference.get("namespace") or "", reference["name"]) if reference else None
