"""Which addresses of a node take NodePort traffic."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import pytest

from tiphys.proxy import nodeports
from tiphys.proxy.health.ports import HealthPorts
from tiphys.proxy.health.reports import Health
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.system import hosttools

NODE_IPS = ("192.0.2.7", "2001:db8::7", "192.0.2.8")


@pytest.mark.parametrize(
    ("given", "v4", "v6"),
    [
        ((), (), ()),
        (("primary",), ("192.0.2.7/32",), ("2001:db8::7/128",)),
        (("10.0.0.0/8", "192.0.2.0/24"), ("10.0.0.0/8", "192.0.2.0/24"), ()),
        (("10.0.0.0/8", "fd00::/8"), ("10.0.0.0/8",), ("fd00::/8",)),
        (("10.0.0.0/8", "0.0.0.0/0", "fd00::/8"), (), ("fd00::/8",)),
    ],
)
def test_ranges_by_family(given: tuple[str, ...], v4: tuple[str, ...], v6: tuple[str, ...]) -> None:
    assert nodeports.ranges(given, "ip", NODE_IPS) == v4
    assert nodeports.ranges(given, "ip6", NODE_IPS) == v6


def test_primary_without_an_address_of_the_family_is_any() -> None:
    assert nodeports.ranges(("primary",), "ip6", ("192.0.2.7",)) == ()


def test_this_machines_addresses_within_ranges() -> None:
    async def main() -> None:
        assert "127.0.0.1" in await nodeports.hosts(("127.0.0.0/8",), "ip", hosttools.run)
        assert await nodeports.hosts(("198.51.100.0/24",), "ip", hosttools.run) == []
        assert await nodeports.hosts((), "ip6", hosttools.run) == ["::"]

    asyncio.run(main())


def test_a_health_check_listens_on_these_addresses_only() -> None:
    with socket.socket() as free:
        free.bind(("127.0.99.81", 0))
        number = free.getsockname()[1]

    async def hosts() -> Sequence[str]:
        return ["127.0.99.81", "127.0.99.82"]

    async def main() -> None:
        ports = HealthPorts(Health(SystemClock(), 60), lambda *taken: pytest.fail(str(taken)), hosts)
        await ports._listen(("default", "web"), number)
        for host in await hosts():
            _, writer = await asyncio.open_connection(host, number)
            writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", number)
        await ports.close()

    asyncio.run(main())
