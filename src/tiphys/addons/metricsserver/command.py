"""``tiphys metrics-server``: the metrics server, with the flags of kubernetes-sigs/metrics-server.

Source: https://github.com/kubernetes-sigs/metrics-server#configuration
"""

from __future__ import annotations

import argparse
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from tiphys.addons.aggregated import add_serving_flags, serving_of
from tiphys.addons.metricsserver.server import MetricsServer, MetricsServerConfig
from tiphys.client.kubeconfig import SERVICE_ACCOUNT, connected, credentials_from_file
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.component import CannotStart, Ready, launch, whenever
from tiphys.runtime.flags import FlagParser, parse_duration
from tiphys.wire.tls.contexts import client_context


def main(argv: Sequence[str]) -> int:
    return launch(_parser(), argv, _run)


def _parser() -> FlagParser:
    parser = FlagParser("metrics-server", "Serves what nodes and containers use, as metrics.k8s.io.")
    add = parser.add_argument
    add("--kubeconfig", type=Path, default=SERVICE_ACCOUNT, help="how to reach the API server (default: as this pod)")
    add_serving_flags(parser, 10250)
    add("--metric-resolution", type=parse_duration, default=60.0, help="how often kubelets are asked; 10s at least")
    add("--kubelet-request-timeout", type=parse_duration, default=10.0, help="how long a kubelet may take")
    add("--kubelet-certificate-authority", type=Path, help="who signs the certificates of kubelets")
    parser.add_bool("--kubelet-insecure-tls", default=False, help="do not check the certificates of kubelets")
    types = "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP"
    add("--kubelet-preferred-address-types", default=types, help="where kubelets are reached, best first")
    parser.add_verbosity()
    return parser


def _run(flags: argparse.Namespace) -> Coroutine[Any, Any, None]:
    if flags.metric_resolution < 10:
        raise CannotStart("--metric-resolution: metrics are made every 10 s, so ask no more often; use 10s or more")
    if flags.kubelet_request_timeout >= flags.metric_resolution:
        raise CannotStart("--kubelet-request-timeout must be shorter than --metric-resolution")
    return run(config(flags), flags.kubeconfig)


def config(flags: argparse.Namespace) -> MetricsServerConfig:
    """What the flags say, with a certificate that the server signs itself if they name none."""
    credentials = credentials_from_file(flags.kubeconfig)
    try:
        tls = client_context(
            None if flags.kubelet_insecure_tls else flags.kubelet_certificate_authority,
            credentials.certificate,
            credentials.key,
            verify=not flags.kubelet_insecure_tls,
        )
    except OSError as error:  # ssl.SSLError is one
        raise CannotStart(f"what kubelets are reached by, of {flags.kubeconfig}, cannot be used: {error}") from error
    return MetricsServerConfig(
        serving=serving_of(flags),
        tls=tls,
        token=credentials.token,
        address_types=tuple(word for word in flags.kubelet_preferred_address_types.split(",") if word),
        resolution=flags.metric_resolution,
        timeout=flags.kubelet_request_timeout,
    )


async def run(config: MetricsServerConfig, kubeconfig: Path, ready: Ready = whenever) -> None:
    """Run the metrics server until cancelled; ``ready`` is called once its API answers."""
    async with connected(kubeconfig, "metrics-server") as client:
        await MetricsServer(config, client, SystemClock()).run(ready)
