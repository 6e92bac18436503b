"""What components let their operators say about their client: another server, and how fast it may ask.

Source: https://kubernetes.io/docs/reference/config-api/kube-scheduler-config.v1/#ClientConnectionConfiguration
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.client.throttle import RequestRate
from tiphys.runtime.component import ConfigError
from tiphys.runtime.flags import FlagParser


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """``server`` is a URL that wins over the kubeconfig's. Without ``limits`` nothing makes requests wait."""

    server: str = ""
    limits: RequestRate | None = None


def add_flags(flags: FlagParser, upstream: RequestRate, *, master: bool = True) -> None:
    """``--kube-api-qps`` and ``--kube-api-burst``; if only one is given, the other is ``upstream``'s. ``--master``."""
    if master:
        flags.add_argument("--master", default="", help="the API server's URL, if not the one in the kubeconfig")
    unlimited = "without both nothing makes requests wait"
    flags.add_argument("--kube-api-qps", type=float, help=f"requests a second ({upstream.qps:g}); {unlimited}")
    flags.add_argument("--kube-api-burst", type=int, help=f"how many at once ({upstream.burst})")


def from_flags(flags: argparse.Namespace, upstream: RequestRate) -> ClientOptions:
    """What the flags say; those that are not added say nothing."""
    return ClientOptions(getattr(flags, "master", ""), limits_of(flags.kube_api_qps, flags.kube_api_burst, upstream))


def from_fields(fields: Mapping[str, Any], upstream: RequestRate, source: str) -> ClientOptions:
    """Of a file's ``clientConnection``. Raises ``ConfigError``."""
    qps, burst = fields.get("qps"), fields.get("burst")
    if not isinstance(qps, int | float | None) or not isinstance(burst, int | None):
        raise ConfigError(f"{source}: clientConnection: qps and burst are numbers")
    return ClientOptions(limits=limits_of(qps, burst, upstream))


def limits_of(qps: float | None, burst: int | None, upstream: RequestRate) -> RequestRate | None:
    """The limits of two numbers, of which upstream takes 0 for its default and less than 0 for no limit.

    Without both nothing is limited: waiting would slow down what costs the server little.
    """
    if not (qps or burst) or (qps is not None and qps < 0):
        return None
    return RequestRate(qps or upstream.qps, burst or upstream.burst)
