"""What a command is given: its arguments, the cluster, and where its answers go.

Source: https://github.com/etcd-io/etcd/tree/main/etcdctl
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiphys.store.etcdchannel import Channels, ClientTLS
from tiphys.store.etcdctl.flags import BAD_ARGUMENTS, Parsed, UsageError
from tiphys.store.etcdctl.output import FORMATS, Output


class Session:
    def __init__(self, parsed: Parsed) -> None:
        self.arguments = parsed.arguments
        self.after_dashes = parsed.after_dashes
        self.values = parsed.values
        name = self.values["write-out"]
        if name not in FORMATS:
            known = ", ".join(sorted(FORMATS))
            raise UsageError(f"unsupported output format {name!r}; tiphys etcdctl knows {known}", BAD_ARGUMENTS)
        if name != "simple" and self.values.get("print-value-only"):
            raise UsageError("print-value-only is only for `--write-out=simple`", BAD_ARGUMENTS)
        self.output: Output = FORMATS[name](
            hex=self.values["hex"], value_only=bool(self.values.get("print-value-only"))
        )
        self.endpoints = [part.strip() for part in self.values["endpoints"].split(",") if part.strip()]
        self.timeout: float = self.values["command-timeout"]
        self._channels: Channels | None = None

    def __getitem__(self, flag: str) -> Any:
        return self.values[flag]

    def expect(self, least: int, most: int | None, message: str) -> list[str]:
        """The arguments, if there are as many as there should be."""
        if len(self.arguments) < least or (most is not None and len(self.arguments) > most):
            raise UsageError(message, BAD_ARGUMENTS)
        return self.arguments

    def connect(self, endpoints: Sequence[str]) -> Channels:
        tls = None
        if self["cacert"] or self["cert"] or not self["insecure-transport"]:
            files = [Path(self[name]) if self[name] else None for name in ("cacert", "cert", "key")]
            tls = ClientTLS(*files)
        return Channels(endpoints, tls, self.timeout)

    @property
    def channels(self) -> Channels:
        if self._channels is None:
            self._channels = self.connect(self.endpoints)
        return self._channels

    async def call(self, service: str, method: str, request: Any, *, repeatable: bool = False) -> Any:
        """One call to the cluster."""
        channels = self.channels
        return await channels.unary(channels.method(service, method), request, repeatable=repeatable)

    async def close(self) -> None:
        if self._channels is not None:
            await self._channels.close()


def number(text: str, what: str, base: int = 10) -> int:
    try:
        return int(text, base)
    except ValueError as error:
        raise UsageError(f"bad {what} ({text!r} is not a number)", BAD_ARGUMENTS) from error


def raw(text: str) -> bytes:
    """An argument's bytes, as the shell gave them."""
    return text.encode("utf-8", "surrogateescape")
