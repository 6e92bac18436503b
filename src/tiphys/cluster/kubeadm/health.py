"""Waiting until the kubelet and the components of a control plane say that they are healthy.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/implementation-details/#wait-for-the-control-plane-to-come-up
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tiphys.cluster.kubeadm.context import Say
from tiphys.cluster.kubeadm.failures import KubeadmError
from tiphys.runtime import durations

_LOOK_SECONDS, _ANSWER_SECONDS = 0.5, 5.0
_MOST = 65536
"""Bytes that are read of a small answer."""


@dataclass(frozen=True, slots=True)
class HealthPage:
    """One component, and the page that says how it is."""

    name: str
    url: str


async def wait_for_kubelet(url: str, timeout: str, say: Say) -> None:
    """Raises ``KubeadmError`` with the last answer."""
    say(f"[kubelet-check] Waiting for a healthy kubelet at {url}. This can take up to {timeout}")
    took = await _healthy(HealthPage("kubelet", url), durations.seconds(timeout))
    say(f"[kubelet-check] The kubelet is healthy after {took}")


async def wait_for_components(targets: Iterable[HealthPage], timeout: str, say: Say) -> None:
    """All of them, side by side. Raises ``KubeadmError`` that names those that are not healthy."""
    say(f"[control-plane-check] Waiting for healthy control plane components. This can take up to {timeout}")
    listed = list(targets)
    for target in listed:
        say(f"[control-plane-check] Checking {target.name} at {target.url}")
    seconds = durations.seconds(timeout)

    async def wait(target: HealthPage) -> None:
        took = await _healthy(target, seconds)
        say(f"[control-plane-check] {target.name} is healthy after {took}")

    failures = [error for error in await asyncio.gather(*map(wait, listed), return_exceptions=True) if error]
    for error in failures:
        if not isinstance(error, KubeadmError):
            raise error
    if failures:
        raise KubeadmError("; ".join(str(error) for error in failures))


async def _healthy(target: HealthPage, seconds: float) -> str:
    """How long it took, as Go writes a duration. Raises ``KubeadmError``."""
    started = time.monotonic()
    while (problem := await asyncio.to_thread(ask, target.url)) is not None:
        if time.monotonic() - started > seconds:
            raise KubeadmError(
                f"{target.name} is not healthy after {durations.seconds_text(seconds)} at {target.url}: {problem}"
            )
        await asyncio.sleep(_LOOK_SECONDS)
    return durations.seconds_text(time.monotonic() - started, durations.MILLISECOND)


def get_json(url: str, context: ssl.SSLContext) -> dict[str, Any]:
    """A small JSON object from a server. Raises ``OSError``, and ``ValueError`` if the answer is something else."""
    with _opener(context).open(url, timeout=_ANSWER_SECONDS) as answer:
        made = json.loads(answer.read(_MOST))
    if not isinstance(made, dict):
        raise ValueError("the answer is no JSON object")
    return made


def _opener(context: ssl.SSLContext) -> urllib.request.OpenerDirector:
    """One that goes by no proxy."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))


def ask(url: str) -> str | None:
    """What is wrong with a page of health; None if it is fine. Certificates are not looked at: no secret is sent."""
    try:
        with _opener(ssl._create_unverified_context()).open(url, timeout=_ANSWER_SECONDS) as answer:
            return None if answer.status == 200 else f"status {answer.status}"
    except urllib.error.HTTPError as error:
        return f"status {error.code}: {error.read(500).decode(errors='replace').strip()}"
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
