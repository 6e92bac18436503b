"""Small flags of the server: each is shown to do what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.apiserver.apiworld import World, run
from tiphys.apiserver.admission.plugins import PLUGINS
from tiphys.apiserver.config import Config
from tiphys.apiserver.configuring import configuration
from tiphys.apiserver.flags import parser
from tiphys.runtime.flags import FlagError
from tiphys.wire.reserving import reserve

CONFIG = Config(seed=1)


def configured(*words: str) -> Config:
    flags_parser = parser()
    return configuration(flags_parser.parse(["--data-dir=/nowhere", *words]), flags_parser)


def test_clients_are_told_the_external_name() -> None:
    async def work(world: World) -> None:
        api = await world.json("GET", "/api")
        assert api["serverAddressByClientCIDRs"][0]["serverAddress"] == "k8s.example:6443"
        openid = await world.json("GET", "/.well-known/openid-configuration")
        assert openid["jwks_uri"] == "https://k8s.example:6443/openid/v1/jwks"

    config = configured("--external-hostname=k8s.example")
    run(work, replace(CONFIG, external_hostname=config.external_hostname, advertise_port=config.advertise_port))


def test_checks_of_health_wait_for_the_store_as_long_as_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(world: World) -> None:
        async def slow() -> None:
            await world.clock.sleep(5)

        assert (await world.raw("GET", "/readyz")).status == 200
        monkeypatch.setattr(world.backend, "healthy", slow)
        statuses = {}
        for path in ("/readyz/etcd", "/readyz/etcd-readiness"):
            began = world.clock.monotonic()
            answer = await world.raw("GET", path)
            statuses[path] = (answer.status, world.clock.monotonic() - began)
        assert statuses == {"/readyz/etcd": (500, 3), "/readyz/etcd-readiness": (200, 5)}

    config = configured("--etcd-healthcheck-timeout=3s", "--etcd-readycheck-timeout=6s")
    run(
        work,
        replace(
            CONFIG,
            store_health_timeout=config.store_health_timeout,
            store_ready_timeout=config.store_ready_timeout,
        ),
    )


def test_a_server_that_starts_is_alive_for_its_time_of_grace() -> None:
    async def work(world: World) -> None:
        world.server._started = False
        assert [(await world.raw("GET", path)).status for path in ("/livez", "/readyz")] == [200, 500]
        await world.clock.sleep(31)
        assert (await world.raw("GET", "/livez")).status == 500
        world.server._started = True
        assert (await world.raw("GET", "/livez")).status == 200

    run(work, replace(CONFIG, livez_grace_period=configured("--livez-grace-period=30s").livez_grace_period))


def test_objects_are_not_counted_with_a_period_of_zero() -> None:
    async def figures(world: World) -> bytes:
        await world.json("GET", "/api/v1/nodes")
        body = (await world.raw("GET", "/metrics")).body
        assert isinstance(body, bytes)
        return body

    async def counted(world: World) -> None:
        assert b'apiserver_storage_objects{resource="nodes"} 0.0' in await figures(world)

    async def uncounted(world: World) -> None:
        assert b"apiserver_storage_objects{" not in await figures(world)

    run(counted, CONFIG)
    config = configured("--etcd-count-metric-poll-period=0s")
    run(uncounted, replace(CONFIG, counts_objects=config.counts_objects))


def test_admission_control_names_the_only_plugins() -> None:
    config = configured("--admission-control=NamespaceLifecycle,AlwaysPullImages")
    on = ("NamespaceLifecycle", "AlwaysPullImages")
    assert config.enable_admission_plugins == on
    assert set(config.disable_admission_plugins) == {name for name, _ in PLUGINS} - set(on)
    with pytest.raises(FlagError, match="admission-control and enable-admission-plugins"):
        configured("--admission-control=NamespaceLifecycle", "--enable-admission-plugins=AlwaysPullImages")


def test_a_port_is_shared_only_if_that_is_permitted() -> None:
    first = reserve("127.0.0.1", 0, shared=True)
    first.listen()
    port = first.getsockname()[1]
    reserve("127.0.0.1", port, shared=True).close()
    with pytest.raises(OSError, match="in use"):
        reserve("127.0.0.1", port, shared=False)
    first.close()
    assert parser().parse(["--permit-port-sharing"]).permit_port_sharing


def test_the_flags_of_leaving_reach_the_server() -> None:
    config = configured(
        "--shutdown-send-retry-after", "--shutdown-watch-termination-grace-period=9s", "--shutdown-delay-duration=4s"
    )
    assert (config.shutdown_retry_after, config.watch_grace, config.shutdown_delay) == (True, 9.0, 4.0)


def test_the_flags_of_profiles_reach_the_server(tmp_path: Path) -> None:
    config = configured("--profiling=false", f"--debug-socket-path={tmp_path}/x")
    assert (config.profiling, config.profiling_socket) == (False, f"{tmp_path}/x")
    assert configured().profiling
