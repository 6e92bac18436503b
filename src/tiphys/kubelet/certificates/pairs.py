"""A kubelet's certificates as files: certificate and key in one, and a link to the newest.

``kubelet-client-DATE.pem`` and ``kubelet-client-current.pem``, and the same for ``kubelet-server``. Renewal is due
after 70 to 90 % of a life, so that nodes made together do not ask together. Source:
https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/#certificate-rotation
"""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

_EARLIEST, _LATEST = 0.7, 0.9


def current_name(stem: str) -> str:
    """The name of the link to the newest pair."""
    return f"{stem}-current.pem"


def current_path(folder: Path, stem: str) -> Path:
    """Where the newest pair is found, as a kubeconfig elsewhere names it."""
    return folder.absolute() / current_name(stem)


def store(folder: Path, stem: str, pair: bytes, now: datetime | None = None) -> None:
    """Keep a certificate with its key, and let the link lead there; the pair that it led to is removed after that."""
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / current_name(stem)
    before = link.resolve() if link.is_symlink() else None
    path = folder / f"{stem}-{now or datetime.now(UTC):%Y-%m-%d-%H-%M-%S}.pem"
    write(path, pair)
    fresh = folder / f".{current_name(stem)}.{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(path.absolute())
    fresh.replace(link)
    if before is not None and before != path.resolve() and before.parent == folder.resolve():
        before.unlink(missing_ok=True)


def share_of_life(rng: random.Random) -> float:
    """After which part of a certificate's life the next one is asked for."""
    return rng.uniform(_EARLIEST, _LATEST)


def due_at(certificate: x509.Certificate, share: float) -> float:
    """When so large a part of a certificate's life is over, in seconds since the epoch."""
    begins, ends = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    return begins + (ends - begins) * share


def read(path: Path) -> x509.Certificate | None:
    """The certificate in a file; None if it holds none that can be read."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return None


def write(path: Path, data: bytes) -> None:
    """Replace a file's content at once, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
