"""The flags of auditing, and the configuration they ask for.

Source: https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tiphys.apiserver.audit.config import (
    BATCH,
    BLOCKING,
    MODES,
    AuditConfig,
    BatchConfig,
    Delivery,
    LogConfig,
    TruncateConfig,
)
from tiphys.apiserver.audit.version import API_VERSION
from tiphys.runtime import yamltext
from tiphys.runtime.flags import FlagParser, parse_duration

_MEGABYTE = 1024 * 1024


def add_flags(flags: FlagParser) -> None:
    """Upstream's names and defaults."""
    add = flags.add_argument
    add("--audit-policy-file", type=Path, help="the policy: which requests are recorded, and how much of them")
    add("--audit-log-path", default="", help="the file that events are written to; - for standard output")
    add("--audit-log-format", default="json", choices=("json", "legacy"), help="how an event is written")
    add("--audit-log-maxage", type=int, default=0, help="days after which rotated files are removed; 0: never")
    add("--audit-log-maxbackup", type=int, default=0, help="how many rotated files are kept; 0: all")
    add("--audit-log-maxsize", type=int, default=0, help="megabytes at which the file is rotated; 0: never")
    flags.add_bool("--audit-log-compress", default=False, help="compress rotated files")
    add("--audit-webhook-config-file", type=Path, help="a kubeconfig that names the server events are posted to")
    for name in ("initial-backoff", "batch-initial-backoff"):
        add(f"--audit-webhook-{name}", type=parse_duration, default=None, help="the pause before the first retry")
    _add_delivery(flags, "log", BLOCKING, BatchConfig(size=1, wait=0.0, throttle=False, qps=0.0, burst=0))
    _add_delivery(flags, "webhook", BATCH, BatchConfig())


def _add_delivery(flags: FlagParser, name: str, mode: str, batch: BatchConfig) -> None:
    add, truncate = flags.add_argument, TruncateConfig()
    add(f"--audit-{name}-version", default=API_VERSION, choices=(API_VERSION,), help="the version of events")
    add(f"--audit-{name}-mode", default=mode, choices=MODES, help="whether requests wait until events are taken")
    add(f"--audit-{name}-batch-buffer-size", type=int, default=batch.buffer, help="events that may wait")
    add(f"--audit-{name}-batch-max-size", type=int, default=batch.size, help="events in a batch")
    add(f"--audit-{name}-batch-max-wait", type=parse_duration, default=batch.wait, help="how long a batch may fill")
    flags.add_bool(f"--audit-{name}-batch-throttle-enable", default=batch.throttle, help="bound the rate of batches")
    add(f"--audit-{name}-batch-throttle-qps", type=float, default=batch.qps, help="batches a second, on average")
    add(f"--audit-{name}-batch-throttle-burst", type=int, default=batch.burst, help="batches at once after a pause")
    flags.add_bool(f"--audit-{name}-truncate-enabled", default=False, help="bound the size of events and batches")
    add(f"--audit-{name}-truncate-max-event-size", type=int, default=truncate.max_event, help="bytes")
    add(f"--audit-{name}-truncate-max-batch-size", type=int, default=truncate.max_batch, help="bytes")


def configuration(flags: argparse.Namespace, parser: FlagParser) -> AuditConfig | None:
    """None if no policy or no backend is given, in which case nothing is recorded. Exits for a policy that is wrong,
    even if no backend would use it."""
    if flags.audit_policy_file is None:
        return None
    from tiphys.apiserver.audit.policy import PolicyError, read_policy

    try:
        policy = read_policy(yamltext.load(flags.audit_policy_file.read_bytes()))
    except (PolicyError, OSError, yamltext.YAMLError) as error:
        parser.error(f"--audit-policy-file {flags.audit_policy_file}: {error}")
    if not (flags.audit_log_path or flags.audit_webhook_config_file):
        return None
    log = None
    if flags.audit_log_path:
        log = LogConfig(
            flags.audit_log_path,
            flags.audit_log_format,
            flags.audit_log_maxsize * _MEGABYTE,
            flags.audit_log_maxage,
            flags.audit_log_maxbackup,
            flags.audit_log_compress,
        )
    backoff = flags.audit_webhook_initial_backoff or flags.audit_webhook_batch_initial_backoff
    return AuditConfig(
        policy,
        log,
        _delivery(flags, "log", parser),
        flags.audit_webhook_config_file,
        _delivery(flags, "webhook", parser),
        10.0 if backoff is None else backoff,
    )


def _delivery(flags: argparse.Namespace, name: str, parser: FlagParser) -> Delivery:
    """How one backend gets its events. Exits if the flags are out of range."""

    def value(option: str) -> Any:
        return getattr(flags, f"audit_{name}_{option}")

    for option in ("batch_buffer_size", "batch_max_size"):
        if value(option) < 1:
            parser.error(f"--audit-{name}-{option.replace('_', '-')} must be a positive number")
    throttle = value("batch_throttle_enable")
    if throttle and value("batch_throttle_qps") <= 0:
        parser.error(f"--audit-{name}-batch-throttle-qps must be a positive number")
    batch = BatchConfig(
        value("batch_buffer_size"),
        value("batch_max_size"),
        value("batch_max_wait"),
        bool(throttle),
        value("batch_throttle_qps"),
        value("batch_throttle_burst"),
    )
    truncate = None
    if value("truncate_enabled"):
        truncate = TruncateConfig(value("truncate_max_event_size"), value("truncate_max_batch_size"))
    return Delivery(str(value("mode")), batch, truncate)
