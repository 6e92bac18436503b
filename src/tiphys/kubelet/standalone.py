"""A kubelet without an API server: static pods alone, whose events are but logged.

Source: https://kubernetes.io/docs/tutorials/cluster-management/kubelet-standalone/
"""

from __future__ import annotations

import logging
from typing import Any

from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.recorder import EventType
from tiphys.wire.http import ClientResponse, Request

log = logging.getLogger(__name__)


class NoApiServer:
    """A ``Transport`` that reaches nobody."""

    async def send(self, request: Request, timeout: float | None = None) -> ClientResponse:
        raise ConnectionRefusedError("this kubelet is in standalone mode: it has no API server")

    async def close(self) -> None:
        """Nothing is open."""


class LoggedEvents:
    """A ``Recorder`` without anybody who keeps events."""

    def event(
        self,
        obj: dict[str, Any],
        type: EventType,
        reason: str,
        message: str,
        *,
        field_path: str = "",
        annotations: dict[str, Any] | None = None,
    ) -> None:
        level = logging.WARNING if type == "Warning" else logging.INFO
        log.log(level, "%s %s/%s: %s: %s", obj.get("kind"), obj.get("namespace"), obj.get("name"), reason, message)


def problems(config: KubeletConfig) -> list[str]:
    """What cannot be had without an API server."""
    wrong = []
    if config.token_webhook:
        wrong.append("no client provided, cannot use webhook authentication")
    if config.authorization == "Webhook":
        wrong.append("no client provided, cannot use webhook authorization")
    if config.server_tls_bootstrap:
        wrong.append("serverTLSBootstrap needs an API server; leave it out, or give --kubeconfig")
    return wrong
