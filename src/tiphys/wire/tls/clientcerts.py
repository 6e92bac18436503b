"""Asking clients for certificates as Go's ``RequestClientCert`` does: one that cannot be verified ends no handshake.

Go's servers verify a client's certificate after the handshake, so that an expired one, or one of an unknown authority,
is answered with 401, or does not count beside a good token. Python's ``ssl`` cannot do that, OpenSSL can:
``SSL_CTX_set_verify`` with a callback that notes the outcome and continues. It is called by ctypes on the context's
own OpenSSL object.

What the callback notes is all that makes a certificate verified: a resumed session, in which OpenSSL verifies nothing,
gives none (and is switched off). On an interpreter where the OpenSSL object is out of reach, ``ask`` says so, and the
context verifies within the handshake. Source: https://pkg.go.dev/crypto/tls#ClientAuthType
"""

from __future__ import annotations

import ctypes
import functools
import ssl
import sys
import threading
from typing import Any

from tiphys.wire.tls.clientauthorities import openssl_context

_VERIFY_PEER = 1
_SET_SESSION_CACHE_MODE = 44
_PROBLEMS = {
    9: "x509: certificate has expired or is not yet valid",
    10: "x509: certificate has expired or is not yet valid",
    **dict.fromkeys((2, 18, 19, 20, 21), "x509: certificate signed by unknown authority"),
    26: "x509: certificate specifies an incompatible key usage",
}
"""OpenSSL's X509_V_ERR_…, in Go's words."""

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)


class Verification:
    """What verification found in one handshake. ``problem`` is empty until there is one."""

    __slots__ = ("problem", "verified")

    def __init__(self) -> None:
        self.problem = ""
        self.verified = False
        """The client's own certificate was reached, and found good."""


_present = threading.local()


def noting(outcome: Verification) -> None:
    """What is verified next in this thread is noted in ``outcome``. To be called before each step of a handshake."""
    _present.outcome = outcome


def _note(good: int, store: Any) -> int:
    outcome: Verification | None = getattr(_present, "outcome", None)
    if outcome is None:
        return good
    library = _library()
    if not good:
        code = library.X509_STORE_CTX_get_error(store)
        outcome.problem = outcome.problem or _PROBLEMS.get(code, f"x509: certificate is not valid (OpenSSL's {code})")
    elif library.X509_STORE_CTX_get_error_depth(store) == 0:
        outcome.verified = True
    return 1


_callback = _Callback(_note)


@functools.cache
def _library() -> Any:
    import _ssl

    library = ctypes.CDLL(_ssl.__file__)
    pointer = ctypes.c_void_p
    for name, result, arguments in (
        ("SSL_CTX_get_verify_mode", ctypes.c_int, (pointer,)),
        ("SSL_CTX_set_verify", None, (pointer, ctypes.c_int, _Callback)),
        ("SSL_CTX_ctrl", ctypes.c_long, (pointer, ctypes.c_int, ctypes.c_long, pointer)),
        ("X509_STORE_CTX_get_error", ctypes.c_int, (pointer,)),
        ("X509_STORE_CTX_get_error_depth", ctypes.c_int, (pointer,)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, list(arguments)
    return library


def ask(context: ssl.SSLContext) -> bool:
    """Have a server's context continue whatever it finds wrong with a certificate. Whether it can.

    To be called after ``verify_mode`` is set, which would undo it.
    """
    if sys.implementation.name != "cpython":
        return False
    try:
        library = _library()
    except (OSError, AttributeError, ImportError):  # an OpenSSL linked into the interpreter without its symbols
        return False
    pointer = openssl_context(context)
    if library.SSL_CTX_get_verify_mode(pointer) != int(context.verify_mode) or context.verify_mode != ssl.CERT_OPTIONAL:
        return False
    library.SSL_CTX_ctrl(pointer, _SET_SESSION_CACHE_MODE, 0, None)
    context.options |= ssl.OP_NO_TICKET
    library.SSL_CTX_set_verify(pointer, _VERIFY_PEER, _callback)
    return True


def shown(connection: ssl.SSLObject, outcome: Verification, *, asked: bool) -> tuple[bytes | None, str]:
    """The client's certificate in DER, if it is verified, and else what is wrong with the one it showed.

    ``asked``: its context is one of ``ask``; in others the handshake has verified what it shows.
    """
    certificate = connection.getpeercert(binary_form=True)
    if certificate is None or not asked:
        return certificate, ""
    if outcome.problem or not outcome.verified or connection.session_reused:
        return None, outcome.problem or "x509: certificate was not verified"
    return certificate, ""
