"""A client's certificate that is in files: once these hold another one, new connections show that.

Whoever renews a certificate writes its file and its key one after the other, and nobody starts a client again for it.
The files are looked at before a request, once a second at the most; a pair that does not fit together (yet) is left
alone, and the one before it stays. Source: https://pkg.go.dev/k8s.io/client-go/transport#TLSConfig (ReloadTLSFiles)
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

from tiphys.wire.tls.contexts import Pem, client_context, load_pair

log = logging.getLogger(__name__)

LOOKS_EVERY = 1.0
"""Seconds between two looks at the files."""


class FollowedCertificate:
    """The certificate that ``context`` shows. ``generation`` counts how often it was replaced."""

    def __init__(self, context: ssl.SSLContext, read: Callable[[], tuple[Pem, Pem]], also: Sequence[Path] = ()) -> None:
        """``read`` gives certificate and key as they are now, and raises OSError or ValueError if they cannot be had.
        ``also``: files that say which they are, such as a kubeconfig."""
        self._context = context
        self._read = read
        self._also = tuple(also)
        self._files = self._of(read())
        self._seen = stamps_of(self._files)
        self._looked = float("-inf")
        self.generation = 0

    @classmethod
    def in_files(cls, context: ssl.SSLContext, cert: Path, key: Path) -> FollowedCertificate:
        return cls(context, lambda: (cert, key))

    def follow(self, now: float) -> int:
        """Show what the files hold now, a time in seconds of any clock that only advances; returns the generation."""
        if now - self._looked < LOOKS_EVERY:
            return self.generation
        self._looked = now
        if (stamps := stamps_of(self._files)) == self._seen:
            return self.generation
        try:
            pair = self._read()
            client_context(cert=pair[0], key=pair[1], verify=False)  # a pair that does not fit would spoil the context
            load_pair(self._context, *pair)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            log.warning("the changed certificate of %s cannot be used, the old one stays: %s", self._files[0], error)
            return self.generation
        self._files, self._seen = self._of(pair), stamps
        if (now_in := stamps_of(self._files)) != stamps and len(now_in) == len(stamps):
            self._looked = float("-inf")  # written while they were read: look again at once
        else:
            self._seen = now_in
        self.generation += 1
        return self.generation

    def _of(self, pair: tuple[Pem, Pem]) -> tuple[Path, ...]:
        return (*self._also, *(Path(part) for part in pair if not isinstance(part, bytes)))


def stamps_of(files: Sequence[Path]) -> list[tuple[int, int]]:
    """What differs between one content of the files and the next: a link that leads elsewhere is another file."""
    seen = []
    for path in files:
        try:
            status = path.stat()
        except OSError:
            seen.append((0, 0))
        else:
            seen.append((status.st_ino, status.st_mtime_ns))
    return seen
