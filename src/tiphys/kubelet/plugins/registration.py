"""Finds plugins by their sockets in ``plugins_registry``, asks each what it is, and hands it to who handles its type.

A socket that appears is registered, tried again with back-off until that succeeds; one that disappears, or is replaced,
is deregistered. Every plugin has a task of its own, so that a slow one holds up no other. Source: KEP-595
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from tiphys.api.csi.messages import registration
from tiphys.runtime.clock import Clock, backoff
from tiphys.runtime.tasks import Runner
from tiphys.wire.grpc.caller import Caller
from tiphys.wire.grpc.stream import GrpcError

log = logging.getLogger(__name__)

LOOK_PERIOD = 10.0
_CALL_TIMEOUT = 10.0


class PluginRefused(Exception):
    """The plugin cannot be registered; the message goes to the plugin."""


@dataclass(frozen=True, slots=True)
class PluginInfo:
    type: str
    name: str
    endpoint: str
    versions: tuple[str, ...]


class PluginHandler(Protocol):
    async def register(self, plugin: PluginInfo) -> None:
        """Raises ``PluginRefused``."""
        ...

    async def deregister(self, name: str) -> None: ...

    async def start(self) -> None:
        """Called once, before plugins are looked for."""
        ...


_Stamp = tuple[int, int]
"""Which file a path leads to: its inode, and when that was changed."""


@dataclass(slots=True, eq=False)
class _Socket:
    """``plugin`` from the moment that its handler hears of it; ``registered`` once that handler has taken it."""

    stamp: _Stamp
    task: asyncio.Task[None] = field(init=False)
    plugin: PluginInfo | None = None
    registered: bool = False


class PluginWatcher:
    """``handlers`` by the type of plugin: ``CSIPlugin``."""

    def __init__(self, folder: Path, handlers: Mapping[str, PluginHandler], clock: Clock, runner: Runner) -> None:
        self._folder = folder
        self._handlers = handlers
        self._clock = clock
        self._runner = runner
        self._sockets: dict[Path, _Socket] = {}
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def run(self) -> None:
        """Follow the folder of sockets until cancelled: register plugins that come, and forget those that go."""
        from asyncinotify import Inotify, Mask

        for handler in self._handlers.values():
            await handler.start()
        self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        with Inotify() as inotify:
            inotify.add_watch(self._folder, Mask.CREATE | Mask.MOVED_TO | Mask.MOVED_FROM | Mask.DELETE)
            while True:
                self._look()
                try:
                    async with asyncio.timeout(LOOK_PERIOD):
                        await inotify.get()
                except TimeoutError:
                    continue

    def _look(self) -> None:
        """Compare the folder with what is known of it."""
        present = dict(_sockets(self._folder))
        for path, known in list(self._sockets.items()):
            if present.get(path) != known.stamp:
                del self._sockets[path]
                self._runner.spawn(self._end(known), f"end of plugin {path.name}")
        for path, stamp in present.items():
            if path not in self._sockets:
                socket = self._sockets[path] = _Socket(stamp)
                socket.task = self._runner.spawn(self._register_until_done(path, socket), f"plugin {path.name}")

    async def _register_until_done(self, path: Path, socket: _Socket) -> None:
        for delay in backoff(0.5, 2, 60):
            try:
                plugin = await self._register(path, socket)
            except (GrpcError, PluginRefused) as error:
                log.warning("plugin at %s is not registered: %s", path, error)
                await self._clock.sleep(delay)
                continue
            log.info("registered %s %s at %s", plugin.type, plugin.name, plugin.endpoint)
            return

    async def _register(self, path: Path, socket: _Socket) -> PluginInfo:
        caller = Caller(str(path), registration())
        try:
            answer = await caller.call("GetInfo", _CALL_TIMEOUT)
            plugin = PluginInfo(
                answer.type, answer.name, answer.endpoint or str(path), tuple(answer.supported_versions)
            )
            try:
                handler = self._handler(plugin)
                async with self._turn(plugin):
                    socket.plugin = plugin
                    await handler.register(plugin)
                    socket.registered = True
            except PluginRefused as error:
                await caller.call("NotifyRegistrationStatus", _CALL_TIMEOUT, plugin_registered=False, error=str(error))
                raise
            await caller.call("NotifyRegistrationStatus", _CALL_TIMEOUT, plugin_registered=True)
        finally:
            await caller.close()
        return plugin

    def _handler(self, plugin: PluginInfo) -> PluginHandler:
        handler = self._handlers.get(plugin.type)
        if handler is None:
            known = ", ".join(sorted(self._handlers))
            raise PluginRefused(f"no handler registered for plugin type: {plugin.type} (there is {known})")
        return handler

    async def _end(self, socket: _Socket) -> None:
        """Deregister, however far its registration has come, unless the plugin has come back by another socket."""
        socket.task.cancel()
        await asyncio.gather(socket.task, return_exceptions=True)
        plugin = socket.plugin
        if plugin is None:
            return
        async with self._turn(plugin):
            if not self._is_registered(plugin):
                log.info("%s %s has gone", plugin.type, plugin.name)
                await self._handlers[plugin.type].deregister(plugin.name)

    def _turn(self, plugin: PluginInfo) -> asyncio.Lock:
        """What comes and what goes under one name does so one after the other."""
        return self._turns.setdefault((plugin.type, plugin.name), asyncio.Lock())

    def _is_registered(self, plugin: PluginInfo) -> bool:
        """By a socket that is there."""
        return any(
            socket.registered
            and socket.plugin is not None
            and (socket.plugin.type, socket.plugin.name) == (plugin.type, plugin.name)
            for socket in self._sockets.values()
        )


def _sockets(folder: Path) -> list[tuple[Path, _Stamp]]:
    """The sockets in a folder; a link is none, wherever it leads."""
    sockets = []
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        try:
            info = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISSOCK(info.st_mode):
            sockets.append((Path(entry.path), (info.st_ino, info.st_ctime_ns)))
    return sockets
