"""The names of the authorities that a server trusts, sent to clients so that they choose the right certificate.

OpenSSL sends them (RFC 8446 §4.2.4, RFC 5246 §7.4.4) if they are set on the context, which Python's ``ssl`` has no call
for. They are set by OpenSSL's own functions, found in the library that ``ssl`` uses. If these cannot be reached (an
interpreter that is not CPython, an OpenSSL linked into it without its symbols), the names are not sent: a client then
offers whatever certificate it has.
"""

from __future__ import annotations

import ctypes
import ssl
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any


def name_authorities(context: ssl.SSLContext, paths: Sequence[str]) -> None:
    """Send the subjects of the certificates in these PEM files to clients that are asked for a certificate."""
    openssl = _openssl()
    if openssl is None or not paths:
        return
    first, *others = [path.encode() for path in paths]
    names = openssl.SSL_load_client_CA_file(first)
    if not names:
        return
    for other in others:
        openssl.SSL_add_file_cert_subjects_to_stack(names, other)
    openssl.ERR_clear_error()
    openssl.SSL_CTX_set_client_CA_list(openssl_context(context), names)  # which owns the names from now on


def openssl_context(context: ssl.SSLContext) -> ctypes.c_void_p:
    """OpenSSL's context: the first field of the Python object, behind the head that all objects have."""
    return ctypes.c_void_p.from_address(id(context) + object.__basicsize__)


@cache
def _openssl() -> Any:
    """The library that ``ssl`` is linked with; None if its functions cannot be reached."""
    if sys.implementation.name != "cpython":
        return None
    import _ssl

    library = ctypes.CDLL(getattr(_ssl, "__file__", None))
    try:
        load, add = library.SSL_load_client_CA_file, library.SSL_add_file_cert_subjects_to_stack
        store, clear = library.SSL_CTX_set_client_CA_list, library.ERR_clear_error
    except AttributeError:
        return None
    load.argtypes, load.restype = [ctypes.c_char_p], ctypes.c_void_p
    add.argtypes, add.restype = [ctypes.c_void_p, ctypes.c_char_p], ctypes.c_int
    store.argtypes, store.restype = [ctypes.c_void_p, ctypes.c_void_p], None
    clear.argtypes, clear.restype = [], None
    return library
