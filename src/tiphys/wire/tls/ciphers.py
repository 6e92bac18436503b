"""Cipher suites by the names of the standard, as upstream's flags have them, in OpenSSL's words.

Source: https://www.iana.org/assignments/tls-parameters/ and the flag ``--tls-cipher-suites`` of the components.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence

_TLS_1_3 = frozenset(("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"))
"""Always offered with TLS 1.3, whose suites cannot be chosen; naming them changes nothing, in upstream neither."""
_TLS_1_2 = {
    f"TLS_ECDHE_{signature}_WITH_{name}": f"ECDHE-{signature}-{openssl}"
    for signature in ("ECDSA", "RSA")
    for name, openssl in (
        ("AES_128_CBC_SHA", "AES128-SHA"),
        ("AES_256_CBC_SHA", "AES256-SHA"),
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305", "CHACHA20-POLY1305"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
    )
}
NAMES = (*sorted(_TLS_1_3), *_TLS_1_2)
VERSIONS = {"VersionTLS12": ssl.TLSVersion.TLSv1_2, "VersionTLS13": ssl.TLSVersion.TLSv1_3}


DEFAULT = ":".join(dict.fromkeys(suite for name, suite in _TLS_1_2.items() if "_CBC_" not in name))
"""What servers offer with TLS 1.2 by default: no suite in CBC mode, because of padding attacks."""


def openssl_list(names: Sequence[str]) -> str:
    """The list for ``Policy.ciphers``. Raises ``ValueError`` for a suite that is unknown or not safe."""
    for name in names:
        if name not in _TLS_1_3 and name not in _TLS_1_2:
            raise ValueError(f"cipher suite {name!r} is unknown or not safe; choose from {', '.join(NAMES)}")
    return ":".join(dict.fromkeys(_TLS_1_2[name] for name in names if name in _TLS_1_2))
