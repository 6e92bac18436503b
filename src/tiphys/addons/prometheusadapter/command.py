"""``tiphys prometheus-adapter``: custom and external metrics out of a Prometheus, with kubernetes-sigs' flags.

Source: https://github.com/kubernetes-sigs/prometheus-adapter#configuration
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from tiphys.addons.aggregated import add_serving_flags, serving_of
from tiphys.addons.prometheusadapter.prometheus import Prometheus
from tiphys.addons.prometheusadapter.rules import read_rules
from tiphys.addons.prometheusadapter.server import AdapterConfig, serve_adapter
from tiphys.client.kubeconfig import SERVICE_ACCOUNT, connected
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.component import CannotStart, Ready, launch, read_file, whenever
from tiphys.runtime.flags import FlagParser, parse_duration
from tiphys.wire.tls.contexts import client_context


def main(argv: Sequence[str]) -> int:
    return launch(_parser(), argv, _run)


def _parser() -> FlagParser:
    parser = FlagParser("prometheus-adapter", "Serves metrics of Prometheus as custom.metrics and external.metrics.")
    add = parser.add_argument
    add("--kubeconfig", "--lister-kubeconfig", type=Path, default=SERVICE_ACCOUNT,
        help="how to reach the API server (default: as this pod)")  # fmt: skip
    add("--config", type=Path, required=True, help="the rules: a file with `rules` and `externalRules`")
    add("--prometheus-url", default="https://localhost", help="where Prometheus is")
    add("--prometheus-ca-file", type=Path, help="who signs its certificate (default: whom the system trusts)")
    add("--prometheus-token-file", type=Path, help="the bearer token to ask it with, read at each question")
    add("--prometheus-timeout", type=parse_duration, default=10.0, help="how long it may take to answer")
    add("--metrics-relist-interval", type=parse_duration, default=600.0, help="how often to look which metrics exist")
    add("--metrics-max-age", type=parse_duration, default=0.0,
        help="how long ago a series may have had its last value (default: the relist interval)")  # fmt: skip
    add_serving_flags(parser, 6443)
    parser.add_verbosity()
    return parser


def _run(flags: argparse.Namespace) -> Coroutine[Any, Any, None]:
    for name in ("prometheus_timeout", "metrics_relist_interval"):
        if getattr(flags, name) <= 0:
            raise CannotStart(f"--{name.replace('_', '-')} must be more than 0")
    max_age = flags.metrics_max_age or flags.metrics_relist_interval
    if max_age < flags.metrics_relist_interval:
        raise CannotStart("--metrics-max-age must not be shorter than --metrics-relist-interval")
    rules = read_rules(read_file(flags.config), str(flags.config))
    config = AdapterConfig(rules, serving_of(flags), flags.metrics_relist_interval, max_age)
    return run(config, lambda: _prometheus(flags), flags.kubeconfig)


def _prometheus(flags: argparse.Namespace) -> Prometheus:
    path: Path | None = flags.prometheus_token_file
    token = None if path is None else lambda: path.read_text().strip()
    try:
        tls = client_context(flags.prometheus_ca_file)
        return Prometheus(flags.prometheus_url, flags.prometheus_timeout, tls, token)
    except ValueError as error:
        raise CannotStart(f"--prometheus-url: {error}") from error
    except OSError as error:  # ssl.SSLError is one
        raise CannotStart(f"--prometheus-ca-file: {error}") from error


async def run(config: AdapterConfig, make: Callable[[], Prometheus], kubeconfig: Path, ready: Ready = whenever) -> None:
    """Run the adapter until cancelled; ``ready`` is called once its API answers."""
    prometheus = make()
    try:
        async with connected(kubeconfig, "prometheus-adapter") as client:
            await serve_adapter(config, prometheus, client, SystemClock(), ready)
    finally:
        await prometheus.close()
