"""Plugins that make themselves known by a socket: found, refused with the reason, and forgotten when it goes."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tiphys.api.csi.messages import registration
from tiphys.csi.served import served
from tiphys.kubelet.plugins.registration import PluginInfo, PluginRefused, PluginWatcher
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.tasks import Runner
from tiphys.wire.grpc.server import GrpcServer, Rpc


class Handler:
    def __init__(self, refusals: int = 0) -> None:
        self.present: dict[str, PluginInfo] = {}
        self.refusals = refusals

    async def start(self) -> None:
        """Nothing has to be there before plugins are."""

    async def register(self, plugin: PluginInfo) -> None:
        if self.refusals:
            self.refusals -= 1
            raise PluginRefused("not now")
        self.present[plugin.name] = plugin

    async def deregister(self, name: str) -> None:
        del self.present[name]


@asynccontextmanager
async def announced(folder: Path, file: str, endpoint: str, *, answers: bool = True) -> AsyncIterator[None]:
    """A socket of the driver ``driver.example``; unless it ``answers``, it never says that it heard the outcome."""

    async def get_info(_: Any) -> Any:
        about = {"type": "CSIPlugin", "name": "driver.example", "endpoint": endpoint, "supported_versions": ["1.0.0"]}
        return registration().message("PluginInfo")(**about)

    async def notify(_: Any) -> Any:
        if not answers:
            await asyncio.Event().wait()
        return registration().message("RegistrationStatusResponse")()

    works = {"GetInfo": get_info, "NotifyRegistrationStatus": notify}
    methods = registration().methods("Registration").items()
    rpcs = {
        about.path: Rpc(about.request.FromString, about.response.SerializeToString, works[name])
        for name, about in methods
    }
    path = folder / "plugins_registry" / file
    path.parent.mkdir(exist_ok=True)
    server = GrpcServer(rpcs, status_of=lambda error: None)
    await server.listen_unix(str(path))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        await server.stop(0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: that of a socket must be."""
    with tempfile.TemporaryDirectory(prefix="plugins-") as name:
        yield Path(name)


@asynccontextmanager
async def watched(folder: Path, handler: Handler) -> AsyncIterator[None]:
    async with Runner(SystemClock()) as runner:
        watcher = PluginWatcher(folder / "plugins_registry", {"CSIPlugin": handler}, SystemClock(), runner)
        runner.supervise(watcher.run, "plugins")
        yield


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


def test_a_driver_comes_goes_and_comes_again(folder: Path) -> None:
    handler = Handler(refusals=1)

    async def scene() -> None:
        async with watched(folder, handler):
            for _ in range(2):
                async with served((), folder, "driver.example"):
                    await until(lambda: handler.present)
                    plugin = handler.present["driver.example"]
                    assert plugin.endpoint == str(folder / "plugins" / "driver.example" / "csi.sock")
                    assert plugin.versions == ("1.12.0",)
                await until(lambda: not handler.present)

    asyncio.run(scene())


def test_a_driver_that_goes_before_it_has_heard_that_it_is_registered_is_forgotten(folder: Path) -> None:
    handler = Handler()

    async def scene() -> None:
        async with watched(folder, handler):
            async with announced(folder, "driver.sock", "/endpoint", answers=False):
                await until(lambda: handler.present)
            await until(lambda: not handler.present)

    asyncio.run(scene())


def test_a_driver_whose_old_socket_goes_while_the_new_one_is_registered_stays(folder: Path) -> None:
    class Slow(Handler):
        async def register(self, plugin: PluginInfo) -> None:
            if plugin.endpoint == "/new":
                begun.set()
                await go_on.wait()
            await super().register(plugin)

        async def deregister(self, name: str) -> None:
            gone.append(name)
            await super().deregister(name)

    begun, go_on, gone = asyncio.Event(), asyncio.Event(), list[str]()
    handler = Slow()

    async def scene() -> None:
        async with watched(folder, handler):
            async with announced(folder, "old.sock", "/old"):
                await until(lambda: handler.present)
                new = announced(folder, "new.sock", "/new")
                await new.__aenter__()
                await asyncio.wait_for(begun.wait(), 20)
            try:
                await asyncio.sleep(0.2)  # for the watcher to see that the old one has gone
                go_on.set()
                await until(lambda: handler.present["driver.example"].endpoint == "/new")
                await asyncio.sleep(0.2)
                assert not gone
            finally:
                await new.__aexit__(None, None, None)
            await until(lambda: not handler.present)

    asyncio.run(scene())


def test_a_plugin_of_another_type_hears_why_it_is_refused(folder: Path) -> None:
    heard: list[str] = []

    async def get_info(_: Any) -> Any:
        return registration().message("PluginInfo")(type="Toaster", name="t", supported_versions=["1.0.0"])

    async def notify(request: Any) -> Any:
        heard.append(request.error)
        return registration().message("RegistrationStatusResponse")()

    async def scene() -> None:
        methods = registration().methods("Registration")
        works = {"GetInfo": get_info, "NotifyRegistrationStatus": notify}
        rpcs = {
            about.path: Rpc(about.request.FromString, about.response.SerializeToString, works[name])
            for name, about in methods.items()
        }
        server = GrpcServer(rpcs, status_of=lambda error: None)
        (folder / "plugins_registry").mkdir()
        await server.listen_unix(str(folder / "plugins_registry" / "toaster.sock"))
        try:
            async with watched(folder, Handler()):
                await until(lambda: heard)
        finally:
            await server.stop(0)
        assert heard[0] == "no handler registered for plugin type: Toaster (there is CSIPlugin)"

    asyncio.run(scene())


def test_a_link_is_no_socket(folder: Path) -> None:
    handler = Handler()

    async def scene() -> None:
        async with served((), folder / "elsewhere", "driver.example"), watched(folder, handler):
            real = folder / "elsewhere" / "plugins_registry" / "driver.example-reg.sock"
            await until((folder / "plugins_registry").is_dir)
            (folder / "plugins_registry" / "link.sock").symlink_to(real)
            async with served((), folder, "second.example"):
                await until(lambda: handler.present)
            assert set(handler.present) <= {"second.example"}

    asyncio.run(scene())
