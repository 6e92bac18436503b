"""Graceful shutdown of a node: the order, the configuration, and a real D-Bus with a login manager on it."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus

from tests.kubelet.logind import Manager, login_manager
from tests.kubelet.world import World, container, play_in_real_time, pod
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.configfile import apply_file
from tiphys.kubelet.configz import describe
from tiphys.kubelet.shutdown import logind
from tiphys.kubelet.shutdown.groups import Period, grace_of, grouped, periods_of, read_periods
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.component import ConfigError

CRITICAL = 2_000_000_000


def test_the_older_configuration_makes_two_groups() -> None:
    assert periods_of((), 30.0, 10.0) == (Period(0, 20), Period(CRITICAL, 10))
    assert periods_of((), 30.0, 0.0) == (Period(0, 30), Period(CRITICAL, 0))
    assert periods_of((), 10.0, 20.0) == ()
    assert periods_of((), 0.0, 0.0) == ()
    assert periods_of((Period(9, 1), Period(2, 5)), 0.0, 0.0) == (Period(2, 5), Period(9, 1))


@pytest.mark.parametrize(
    ("priority", "group"),
    [(None, 0), (-5, 0), (0, 0), (99, 0), (100, 100), (101, 100), (1000, 1000), (CRITICAL + 1000, 1000)],
)
def test_a_pod_belongs_to_the_highest_priority_that_it_reaches(priority: int | None, group: int) -> None:
    periods = (Period(0, 1), Period(100, 2), Period(1000, 3))
    (only,) = grouped(periods, [pod("web", priority=priority)])
    assert only.period.priority == group


def test_pods_below_the_lowest_priority_end_with_it() -> None:
    (only,) = grouped((Period(10, 1), Period(20, 2)), [pod("web", priority=1)])
    assert only.period.priority == 10


def test_groups_without_pods_take_no_time() -> None:
    groups = grouped((Period(0, 1), Period(10, 2), Period(20, 3)), [pod("a", priority=25), pod("b")])
    assert [group.period.priority for group in groups] == [0, 20]


def test_a_pod_has_its_own_grace_period_if_that_is_shorter() -> None:
    assert grace_of(pod("web", terminationGracePeriodSeconds=30), Period(0, 10)) == 10
    assert grace_of(pod("web", terminationGracePeriodSeconds=3), Period(0, 10)) == 3
    assert grace_of(pod("web", terminationGracePeriodSeconds=0), Period(0, 10)) == 0
    assert grace_of(pod("web", terminationGracePeriodSeconds=None), Period(0, 10)) == 10


def configured(**fields: Any) -> KubeletConfig:
    config = KubeletConfig("node-1")
    document = {"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1", **fields}
    apply_file(config, json.dumps(document), "here")
    return config


def test_the_configuration_is_shown() -> None:
    shown = describe(configured(shutdownGracePeriod="30s", shutdownGracePeriodCriticalPods="10s"))
    assert (shown["shutdownGracePeriod"], shown["shutdownGracePeriodCriticalPods"]) == ("30s", "10s")
    assert "shutdownGracePeriodByPodPriority" not in shown
    periods = [{"priority": 5, "shutdownGracePeriodSeconds": 9}]
    assert describe(configured(shutdownGracePeriodByPodPriority=periods))["shutdownGracePeriodByPodPriority"] == periods
    assert describe(configured())["shutdownGracePeriod"] == "0s"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"shutdownGracePeriod": "10s", "shutdownGracePeriodCriticalPods": "20s"},
            "shutdownGracePeriodCriticalPods {20s} must be <= shutdownGracePeriod {10s}",
        ),
        ({"shutdownGracePeriod": "40ms"}, "shutdownGracePeriod {40ms} must be either zero or otherwise >= 1 sec"),
        (
            {"shutdownGracePeriod": "1s", "shutdownGracePeriodCriticalPods": "-40ms"},
            "shutdownGracePeriodCriticalPods {-40ms} must be either zero or otherwise >= 1 sec",
        ),
        (
            {"shutdownGracePeriod": "1s", "shutdownGracePeriodByPodPriority": [{"priority": 1}]},
            "Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time",
        ),
        ({"shutdownGracePeriodByPodPriority": [{"prio": 1}]}, "unknown field 'prio'"),
        ({"shutdownGracePeriodByPodPriority": [{"priority": "high"}]}, "are whole numbers"),
        ({"shutdownGracePeriod": "soon"}, "shutdownGracePeriod"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        configured(**fields)
    assert message in str(error.value)


def test_periods_are_read() -> None:
    given = [{"priority": 100, "shutdownGracePeriodSeconds": 20}, {"shutdownGracePeriodSeconds": 5}]
    assert read_periods(given) == (Period(100, 20), Period(0, 5))


# With a bus.


bus = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="needs Debian's dbus-daemon")


def ready(world: World) -> tuple[str, str]:
    conditions = world.api.objects["/api/v1/nodes/node-1"]["status"]["conditions"]
    return next((c["status"], c["message"]) for c in conditions if c["type"] == "Ready")


def figure(world: World, name: str) -> float:
    families = {family.name: family for family in world.kubelet.figures.collect()}
    return float(families[f"kubelet_graceful_shutdown_{name}_time_seconds"].samples[0].value)


def periods(config: KubeletConfig) -> None:
    config.shutdown_periods = (Period(CRITICAL, 3), Period(0, 4))


def tell(folder: Path, monkeypatch: pytest.MonkeyPatch, scene: Callable[[World, Manager], Awaitable[None]]) -> None:
    """A scene with a kubelet on a machine with a login manager, in real time."""

    async def told() -> None:
        monkeypatch.setattr(logind, "CONFIG_FOLDER", folder / "logind.conf.d")
        async with login_manager(folder, monkeypatch) as manager:
            world = World(folder, SystemClock(), periods)
            try:
                await world.start()
                await world.until(manager.inhibited, 30)
                await scene(world, manager)
            finally:
                await world.stop()
                await world.runtime.close()

    asyncio.run(told())


@bus
def test_a_shutdown_waits_for_the_pods_and_can_be_called_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(world: World, manager: Manager) -> None:
        what, who, _, mode = manager.asked[0]
        assert (what, who, mode, manager.delay) == ("shutdown", "kubelet", "delay", 7.0)
        world.add(pod("web", container("low"), terminationGracePeriodSeconds=1))
        world.add(pod("vital", container("high"), priority=CRITICAL, terminationGracePeriodSeconds=1))
        await world.until(lambda: world.ready("web") and world.ready("vital"), 30)
        going = asyncio.ensure_future(manager.shut_down())
        await world.until(lambda: ready(world) == ("False", "node is shutting down"), 30)
        world.add(pod("late"))
        await world.until(lambda: world.phase("late") == "Failed", 30)
        assert world.status("late")["reason"] == "NodeShutdown"
        assert world.status("late")["message"] == "Pod was rejected: Pod was rejected as the node is shutting down."
        assert await going
        for name in ("web", "vital"):
            status = world.status(name)
            assert (status["phase"], status["reason"]) == ("Failed", "Terminated")
            assert status["message"] == "Pod was terminated in response to imminent node shutdown."
            (disrupted,) = (c for c in status["conditions"] if c["type"] == "DisruptionTarget")
            assert (disrupted["status"], disrupted["reason"]) == ("True", "TerminationByKubelet")
        assert [name for call, name in world.runtime.calls if call == "stop_container"] == ["low", "high"]
        assert ("Shutdown", "Shutdown manager detected shutdown event") in world.api.events()
        state = json.loads((world.folder / "kubelet" / "graceful_node_shutdown_state").read_text())
        assert state["endTime"] > state["startTime"] > "2"
        assert 1 < figure(world, "start") <= figure(world, "end")
        manager.PrepareForShutdown(start=False)
        await world.until(lambda: ready(world)[0] == "True" and manager.inhibited(), 30)
        assert ("Shutdown", "Shutdown manager detected shutdown cancellation") in world.api.events()
        began = figure(world, "start")
        await world.restart()
        await world.until(lambda: len(manager.asked) == 3 and manager.inhibited(), 30)
        assert figure(world, "start") == began
        await world.stop()
        await world.until(lambda: not manager.inhibited(), 30)
        await world.start()

    tell(tmp_path, monkeypatch, scene)


@bus
def test_a_kubelet_whose_bus_goes_away_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(world: World, manager: Manager) -> None:
        await manager.restart_bus()
        await world.until(lambda: len(manager.asked) == 2 and manager.inhibited(), 30)
        assert await manager.shut_down()
        await world.until(lambda: ready(world)[0] == "False", 30)

    tell(tmp_path, monkeypatch, scene)


@bus
def test_a_shutdown_that_begins_at_once_is_heard_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kubelet that held it up before it listened would wait for nothing, and end no pod."""

    async def scene(world: World, manager: Manager) -> None:
        manager.in_a_hurry = True
        await manager.restart_bus()
        await world.until(lambda: ready(world) == ("False", "node is shutting down"), 60)
        await world.until(lambda: not manager.inhibited(), 30)

    tell(tmp_path, monkeypatch, scene)


@bus
def test_nobody_else_announces_a_shutdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(world: World, manager: Manager) -> None:
        stranger = await MessageBus(bus_type=BusType.SYSTEM).connect()
        kubelet = manager.callers[0]
        for destination in (None, kubelet):
            await stranger.send(
                Message(
                    message_type=MessageType.SIGNAL,
                    destination=destination,
                    path="/org/freedesktop/login1",
                    interface="org.freedesktop.login1.Manager",
                    member="PrepareForShutdown",
                    signature="b",
                    body=[True],
                )
            )
        await world.until(lambda: "is not the login manager" in "".join(caught), 30)
        assert world.kubelet._shutdown.problem == ""
        stranger.disconnect()

    caught: list[str] = []
    monkeypatch.setattr(logind.log, "warning", lambda text, *_: caught.append(text))
    tell(tmp_path, monkeypatch, scene)


def test_without_a_bus_the_error_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    with pytest.raises(logind.LogindFailure, match=r"cannot reach the system's D-Bus: .*No such file"):
        asyncio.run(logind.Logind.connect())


def test_without_a_login_manager_the_kubelet_works_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(world: World) -> None:
        world.add(pod("web"))
        await world.until(lambda: world.ready("web"), 30)
        assert "the machine's shutdown will not wait for pods: cannot reach the system's D-Bus" in caplog.text

    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    play_in_real_time(tmp_path, scene, adjust=periods)
