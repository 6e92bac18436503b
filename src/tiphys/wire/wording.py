"""Why a connection failed, in the words of Go's net, crypto/tls and crypto/x509, which people and tools look for.

Source: https://pkg.go.dev/net
"""

from __future__ import annotations

import os
import socket
import ssl
import time

NOT_HTTPS = "http: server gave HTTP response to HTTPS client"
_UNKNOWN_AUTHORITY = "certificate signed by unknown authority"
_BY_CODE = {
    9: "certificate has expired or is not yet valid",
    10: "certificate has expired or is not yet valid",
    18: _UNKNOWN_AUTHORITY,
    19: _UNKNOWN_AUTHORITY,
    20: _UNKNOWN_AUTHORITY,
    21: _UNKNOWN_AUTHORITY,
    26: "certificate specifies an incompatible key usage",
}
"""By OpenSSL's code of what is wrong with a certificate."""
_WRONG_NAME = (62, 64)
_NOT_TLS = frozenset(("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"))


def connection_failure(error: BaseException, host: str, port: int, name: str) -> str:
    """What went wrong on the way to ``host``, whose certificate must be for ``name``."""
    cause = _cause(error)
    match cause:
        case ssl.SSLCertVerificationError():
            return f"tls: failed to verify certificate: x509: {_certificate(cause, name)}"
        case ssl.SSLError() if cause.reason in _NOT_TLS:
            return NOT_HTTPS
        case ssl.SSLError():
            return "remote error: tls: handshake failure"
        case socket.gaierror():
            return f"dial tcp: lookup {host}: no such host"
        case TimeoutError():
            return f"dial tcp {_place(host, port)}: i/o timeout"
        case OSError() if cause.errno:
            return f"dial tcp {_place(host, port)}: connect: {os.strerror(cause.errno).lower()}"
    return "EOF"


def _cause(error: BaseException) -> BaseException:
    """The first failure: those that were raised of it only say where."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _certificate(error: ssl.SSLCertVerificationError, name: str) -> str:
    if error.verify_code in _WRONG_NAME:
        return f"certificate is not valid for any names, but wanted to match {name}"
    text = _BY_CODE.get(error.verify_code, "certificate is not valid")
    if error.verify_code in (9, 10):
        text += f": current time {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} is outside of its validity"
    return text


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
