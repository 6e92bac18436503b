"""What auditing can be set to: the flags of it, once read.

Source: https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tiphys.apiserver.audit.policy import AuditPolicy

BATCH, BLOCKING, STRICT = "batch", "blocking", "blocking-strict"
MODES = (BATCH, BLOCKING, STRICT)


class BatchConfig(NamedTuple):
    """Upstream's defaults for webhooks. ``wait`` in seconds, ``qps`` in batches a second."""

    buffer: int = 10_000
    size: int = 400
    wait: float = 30.0
    throttle: bool = True
    qps: float = 10.0
    burst: int = 15


class TruncateConfig(NamedTuple):
    """Bytes."""

    max_event: int = 102_400
    max_batch: int = 10_485_760


class LogConfig(NamedTuple):
    """``path`` ``-`` is standard output. ``max_size`` in bytes (0: no rotation), ``max_age`` in days (0: no end)."""

    path: str
    format: str = "json"
    max_size: int = 0
    max_age: int = 0
    max_backups: int = 0
    compress: bool = False


class Delivery(NamedTuple):
    """How events reach a backend. With mode ``blocking-strict`` a request whose first event is not taken is refused."""

    mode: str
    batch: BatchConfig = BatchConfig()
    truncate: TruncateConfig | None = None


class AuditConfig(NamedTuple):
    policy: AuditPolicy
    log: LogConfig | None = None
    log_delivery: Delivery = Delivery(BLOCKING)
    webhook: Path | None = None
    """The kubeconfig that names the server."""
    webhook_delivery: Delivery = Delivery(BATCH)
    webhook_backoff: float = 10.0
