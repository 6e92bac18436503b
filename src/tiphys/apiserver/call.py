"""``Call``: one request on its way through the chain, with what the filters found out about it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tiphys.apiserver.requestinfo import Parameters, RequestInfo
from tiphys.apiserver.warnings import add_warning
from tiphys.wire.http import Request, Response


@dataclass(frozen=True, slots=True)
class Remarks:
    """What authentication has to say about a credential: warnings for the caller, annotations for the audit log."""

    warnings: tuple[str, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()


NO_REMARKS = Remarks()


@dataclass(frozen=True, slots=True)
class User:
    """Who calls. ``extra`` holds further claims, such as the pod that a token is bound to."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()
    remarks: Remarks = field(default=NO_REMARKS, compare=False)

    def extra_values(self, key: str) -> tuple[str, ...]:
        return next((values for name, values in self.extra if name == key), ())

    def as_user_info(self) -> dict[str, object]:
        """The UserInfo object of authentication.k8s.io."""
        info: dict[str, object] = {"username": self.name}
        if self.uid:
            info["uid"] = self.uid
        if self.groups:
            info["groups"] = list(self.groups)
        if self.extra:
            info["extra"] = {key: list(values) for key, values in self.extra}
        return info


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))

Refusal = Callable[[str], Awaitable[str | None]]
"""Whether a caller may do another verb, too, on the object of their call: None if so, else why not (maybe nothing)."""


async def _never_asked(verb: str) -> str:
    """Nobody has authorized the call: it has no rights at all."""
    return "no authorizer provided"


class Trail(Protocol):
    """What the audit log records of a request."""

    def annotate(self, key: str, value: str) -> None: ...

    def annotate_request(self, key: str, value: Callable[[], str]) -> None: ...

    def impersonate(self, user: User) -> None: ...

    def request_object(self, obj: dict[str, Any]) -> None: ...


def _nothing() -> None:
    """Nobody waits for the watch to be initialized."""


@dataclass(slots=True)
class Call:
    """``received`` is in monotonic seconds."""

    request: Request
    parameters: Parameters
    info: RequestInfo
    received: float = 0.0
    user: User = ANONYMOUS
    refusal: Refusal = _never_asked
    """For requests that have the effect of another verb than their own."""
    audit_id: str = ""
    audited: bool = False
    """Whether the audit policy has been asked about the request."""
    remarks: Remarks = NO_REMARKS
    """Of the credential that the request shows, a refused one's included."""
    terminated: bool = False
    """Whether the server ended the request in self-defence: its time was over, or no room was left for it."""
    trail: Trail | None = None
    """What the audit log records of it; None if it records nothing."""
    warnings: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    """Headers of the answer, whatever it is."""
    on_initialized: Callable[[], None] = _nothing
    """To be called by a watch when it has shown what exists."""
    empties: list[tuple[str, Any]] = field(default_factory=list)
    """What the body had empty: see ``codec.empties``."""
    big: bool = False
    """Whether what it writes is so long that work on it leaves the loop: see ``aside``."""

    def parameter(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        values = self.parameters.get(name)
        return values[0] if values else default

    def annotate(self, key: str, value: str) -> None:
        """Add an annotation to the audit event, if there is one."""
        if self.trail is not None:
            self.trail.annotate(key, value)

    def annotate_request(self, key: str, value: Callable[[], str]) -> None:
        """The same for what holds parts of the request's object."""
        if self.trail is not None:
            self.trail.annotate_request(key, value)

    def warn(self, text: str) -> None:
        add_warning(self.warnings, text)

    @property
    def user_agent(self) -> str:
        """Headers are bytes; those of a client that says more than ASCII are UTF-8."""
        agent = self.request.headers.get("user-agent", "")
        return agent if agent.isascii() else agent.encode("latin-1", "replace").decode("utf-8", "replace")

    @property
    def is_long_running(self) -> bool:
        """Whether the answer may last: watches, connections and, as upstream has it, profiles."""
        info = self.info
        if info.verb in ("watch", "proxy"):
            return True
        if not info.is_resource:
            return info.path.startswith("/debug/pprof/")
        return info.subresource in ("attach", "exec", "log", "portforward", "proxy")


Endpoint = Callable[[Call], Awaitable[Response]]
Filter = Callable[[Call, Endpoint], Awaitable[Response]]
