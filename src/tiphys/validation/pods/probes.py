"""Probes and lifecycle hooks of a container, and what they do: exec, HTTP, TCP, gRPC, sleep; and what ports are.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#probe-v1-core
"""

from __future__ import annotations

from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.validation.shared.common import (
    Errors,
    invalid_all,
    non_negative,
)

PROTOCOLS = ("SCTP", "TCP", "UDP")
_COUNTS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_PLAIN_SIGNALS = (
    "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP "
    "TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX"
)
_REALTIME_SIGNALS = (*(f"SIGRTMIN+{i}" for i in range(1, 16)), *(f"SIGRTMAX-{i}" for i in range(1, 15)))
_SIGNALS = tuple(sorted((*("SIG" + name for name in _PLAIN_SIGNALS.split()), *_REALTIME_SIGNALS)))
_WINDOWS_SIGNALS = ("SIGKILL", "SIGTERM")


def liveness(errs: Errors, probe: Object, path: str) -> None:
    """For startup probes too."""
    _probe(errs, probe, path)
    successes = probe.get("successThreshold") or 0
    if successes != 1:
        errs.append(field.invalid(f"{path}.successThreshold", successes, "must be 1"))


def readiness(errs: Errors, probe: Object, path: str) -> None:
    _probe(errs, probe, path)
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None:
        at = f"{path}.terminationGracePeriodSeconds"
        errs.append(field.invalid(at, grace, "must not be set for readinessProbes"))


def _probe(errs: Errors, probe: Object, path: str) -> None:
    _handler(errs, probe, path, ("exec", "httpGet", "tcpSocket", "grpc"), None)
    for key in _COUNTS:
        non_negative(errs, probe.get(key), f"{path}.{key}")
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        errs.append(field.invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0"))


def lifecycle(errs: Errors, hooks: Object, grace: int | None, path: str, os: Object | None) -> None:
    for hook in ("postStart", "preStop"):
        if hooks.get(hook) is not None:
            _handler(errs, hooks[hook], f"{path}.{hook}", ("exec", "httpGet", "tcpSocket", "sleep"), grace)
    if hooks.get("stopSignal") is not None:
        _stop_signal(errs, hooks["stopSignal"], f"{path}.stopSignal", os)


def _handler(errs: Errors, handler: Object, path: str, kinds: tuple[str, ...], grace: int | None) -> None:
    """Exactly one of the kinds."""
    seen = False
    for kind in kinds:
        action = handler.get(kind)
        if action is None:
            continue
        at = f"{path}.{kind}"
        if seen:
            errs.append(field.forbidden(at, "may not specify more than 1 handler type"))
            continue
        seen = True
        _action(errs, kind, action, at, grace)
    if not seen:
        errs.append(field.required(path, "must specify a handler type"))


def _action(errs: Errors, kind: str, action: Object, path: str, grace: int | None) -> None:
    if kind == "exec":
        if not action.get("command"):
            errs.append(field.required(f"{path}.command"))
    elif kind == "httpGet":
        _http_get(errs, action, path)
    elif kind == "tcpSocket":
        port_number_or_name(errs, action.get("port", 0), f"{path}.port")
    elif kind == "grpc":
        port_number_or_name(errs, action.get("port") or 0, f"{path}.port")
    else:
        _sleep(errs, action.get("seconds") or 0, grace, path)


def _http_get(errs: Errors, action: Object, path: str) -> None:
    if not action.get("path"):
        errs.append(field.required(f"{path}.path"))
    port_number_or_name(errs, action.get("port", 0), f"{path}.port")
    scheme = action.get("scheme") or ""
    if scheme not in ("HTTP", "HTTPS"):
        errs.append(field.not_supported(f"{path}.scheme", scheme, ("HTTP", "HTTPS")))
    for header in action.get("httpHeaders") or ():
        name = header.get("name") or ""
        invalid_all(errs, f"{path}.httpHeaders", name, names.http_header_name(name))


def _sleep(errs: Errors, seconds: int, grace: int | None, path: str) -> None:
    if grace is not None and not 0 <= seconds <= grace:
        text = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
        errs.append(field.invalid(path, seconds, text))


def port_number_or_name(errs: Errors, port: Any, path: str) -> None:
    if isinstance(port, str):
        invalid_all(errs, path, port, names.port_name(port))
    else:
        invalid_all(errs, path, port or 0, names.port_number(port or 0))


def _stop_signal(errs: Errors, signal: str, path: str, os: Object | None) -> None:
    if os is None:
        errs.append(field.forbidden(path, "may not be set for containers with empty `spec.os.name`"))
        return
    supported = {"windows": _WINDOWS_SIGNALS, "linux": _SIGNALS}.get(os.get("name") or "")
    if supported is not None and signal not in supported:
        errs.append(field.not_supported(path, signal, supported))


def protocol(errs: Errors, name: str | None, path: str) -> None:
    if name not in PROTOCOLS:
        errs.append(field.not_supported(path, name, PROTOCOLS) if name else field.required(path))
