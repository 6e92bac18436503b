"""Who is logged in: a session is a cookie, a key that only the page knows, and the credentials to act with.

The cookie alone is no proof: browsers send it to every port of a host. The key is kept by the page for as long as its
tab lives, and goes with each request in a header that no other site can set.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tiphys.wire.http import Transport

IDLE_SECONDS = 3600.0
"""Without a request and without an open stream, a session ends."""
LONGEST_SECONDS = 12 * 3600.0
MOST = 1000


@dataclass(frozen=True, slots=True)
class Identity:
    """What somebody acts with: connections that may show a certificate, and a token that each request carries."""

    transport: Transport
    token: Callable[[], str] | None = None


@dataclass(slots=True)
class UserSession:
    """``cookie`` and ``key`` prove a request; both are random. Times are of a monotonic clock, in seconds."""

    identity: Identity
    started: float
    used: float
    cookie: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    key: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    streams: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def is_over(self, now: float) -> bool:
        idle = not self.streams and now - self.used > IDLE_SECONDS
        return idle or now - self.started > LONGEST_SECONDS


class Sessions:
    """The sessions of one server. They live in its memory only; nothing is written down."""

    def __init__(self) -> None:
        self._by_cookie: dict[str, UserSession] = {}

    def __len__(self) -> int:
        return len(self._by_cookie)

    def open(self, identity: Identity, now: float) -> UserSession:
        """A new session. If there are too many, the one that was used longest ago ends."""
        self.sweep(now)
        if len(self._by_cookie) >= MOST:
            self.close(min(self._by_cookie.values(), key=lambda session: session.used))
        session = UserSession(identity, now, now)
        self._by_cookie[session.cookie] = session
        return session

    def of(self, cookies: Iterator[str], key: str, now: float) -> UserSession | None:
        """The session that a cookie of the request names and ``key`` proves."""
        for cookie in cookies:
            session = self._by_cookie.get(cookie)
            if session is not None and hmac.compare_digest(session.key.encode(), key.encode()):
                if session.is_over(now):
                    self.close(session)
                    return None
                session.used = now
                return session
        return None

    def close(self, session: UserSession) -> None:
        """End a session, and the streams that it has open."""
        self._by_cookie.pop(session.cookie, None)
        session.ended.set()

    def sweep(self, now: float) -> None:
        """End the sessions whose time is over."""
        for session in [each for each in self._by_cookie.values() if each.is_over(now)]:
            self.close(session)
