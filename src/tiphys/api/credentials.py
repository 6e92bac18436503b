"""Whom a credential names: the subject of a certificate or of a request for one, and the token in a header.

Every component that reads one reads it here, so that all of them see the same user. Source:
https://kubernetes.io/docs/reference/access-authn-authz/authentication/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiphys.runtime.remembering import remembered

if TYPE_CHECKING:
    from cryptography.x509 import Name

_COMMON_NAME, _ORGANIZATION, _UID = "2.5.4.3", "2.5.4.10", "1.3.6.1.4.1.57683.2"
_RESERVED = "system:"


@dataclass(frozen=True, slots=True)
class Subject:
    """``common_name`` is the user, ``organizations`` are the groups. Of several common names the last one counts."""

    common_names: tuple[str, ...]
    organizations: tuple[str, ...]
    uids: tuple[object, ...] = ()

    @property
    def common_name(self) -> str:
        return self.common_names[-1] if self.common_names else ""

    @property
    def is_ambiguous(self) -> bool:
        """Whether it has several common names, one of which is of the cluster's own: a node or a component. Readers of
        other makes may pick another one, so nobody should sign or believe it."""
        return len(self.common_names) > 1 and any(name.startswith(_RESERVED) for name in self.common_names)

    def uid(self) -> str:
        """Empty if it names none. Raises ``ValueError`` for one that is not one text."""
        if not self.uids:
            return ""
        if len(self.uids) > 1:
            raise ValueError(f"expected 1 UID, but found multiple: [{' '.join(map(str, self.uids))}]")
        if not isinstance(self.uids[0], str):
            raise ValueError("unable to parse UID into a string")
        if not self.uids[0]:
            raise ValueError("UID cannot be an empty string")
        return self.uids[0]


EXPIRED = "x509: certificate has expired or is not yet valid"


def in_force(der: bytes, now: float) -> bool:
    """Whether a certificate, in DER, counts at a time, in seconds since the epoch.

    A handshake has verified it, but the connection may have outlived it since: each request on it is asked about.
    """
    begins, ends = _life(der)
    return begins <= now <= ends


def ends_at(der: bytes) -> float:
    """Until when a certificate counts, in seconds since the epoch."""
    return _life(der)[1]


@remembered(4096, longest=4096)
def _life(der: bytes) -> tuple[float, float]:
    from cryptography.x509 import load_der_x509_certificate

    certificate = load_der_x509_certificate(der)
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def subject_of(name: Name) -> Subject:
    values: dict[str, list[str | bytes]] = {}
    for attribute in name:
        values.setdefault(attribute.oid.dotted_string, []).append(attribute.value)
    return Subject(_texts(values.get(_COMMON_NAME)), _texts(values.get(_ORGANIZATION)), tuple(values.get(_UID, ())))


def _texts(values: list[str | bytes] | None) -> tuple[str, ...]:
    return tuple(value for value in values or () if isinstance(value, str))


def bearer_token(header: str) -> str:
    """The token in an ``Authorization`` header: the word that follows one space behind ``Bearer``; empty without one.
    Further words are ignored."""
    scheme, _, rest = header.strip().partition(" ")
    return rest.partition(" ")[0] if scheme.lower() == "bearer" else ""


def has_space_before_token(header: str) -> bool:
    """Whether a bearer token is ignored because of a further space before it."""
    scheme, _, rest = header.strip().partition(" ")
    return scheme.lower() == "bearer" and rest.startswith(" ")
