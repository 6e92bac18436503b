"""Load balancers of this machine: haproxy on addresses of a pool, which this machine has on its loopback interface.

What there is stands in a file for each, so that a load balancer is found again by whoever starts after this one.
haproxy runs for as long as the provider does. Source: https://docs.haproxy.org/2.6/management.html
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tiphys.api.meta.addresspools import AddressPool
from tiphys.api.object import Object
from tiphys.cloud.provider import CloudError, RetryAfter
from tiphys.cloud.providers.local.allocation import allocate
from tiphys.cloud.providers.local.balancers import AGAIN_SECONDS
from tiphys.cloud.providers.local.frontends import Balancer, backends_of, balancer_of, configuration, read_balancer
from tiphys.controlkit import haproxy
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.system import hosttools
from tiphys.runtime.system.forks import die_with_parent
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)

_UID = re.compile(r"[A-Za-z0-9-]{1,64}")
_STOP_SECONDS = 5.0


class ProxiedBalancers:
    """``folder`` is its own. One change at a time, as all are in one configuration."""

    def __init__(self, pool: AddressPool, folder: Path) -> None:
        self._pool, self._folder = pool, folder
        self._changes = asyncio.Lock()
        self._known: dict[str, Balancer] | None = None
        self._runner: Runner | None = None
        self._served: tuple[Balancer, ...] | None = None
        """What haproxy serves; None if that is not known."""

    async def get(self, cluster: str, service: Object) -> Object | None:
        async with self._changes:
            balancer = (await self._read()).get(_uid(service))
        return None if balancer is None else _status(balancer)

    async def ensure(self, cluster: str, service: Object, nodes: Sequence[Object]) -> Object:
        async with self._changes:
            known = await self._read()
            uid = _uid(service)
            has = known[uid].addresses if uid in known else ()
            taken = {
                address: other.service for other in known.values() if other.uid != uid for address in other.addresses
            }
            try:
                addresses = allocate(service, self._pool, taken, has)
            except CloudError as error:
                raise RetryAfter(str(error), AGAIN_SECONDS) from error
            await self._put(balancer_of(service, addresses, nodes))
            return _status(known[uid])

    async def update(self, cluster: str, service: Object, nodes: Sequence[Object]) -> Object | None:
        async with self._changes:
            balancer = (await self._read()).get(_uid(service))
            if balancer is None:
                raise CloudError("the Service has no load balancer on this machine")
            await self._put(replace(balancer, backends=backends_of(service, nodes)))
        return None

    async def delete(self, cluster: str, service: Object) -> None:
        async with self._changes:
            known = await self._read()
            balancer = known.pop(_uid(service), None)
            if balancer is None:
                return
            try:
                await self._serve()
                await self._set_addresses("del", balancer.addresses)
            except CloudError:
                known[balancer.uid] = balancer
                raise
            self._file(balancer.uid).unlink(missing_ok=True)

    async def close(self) -> None:
        """End haproxy, and give the addresses up; the files stay."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.close()
        for balancer in (self._known or {}).values():
            try:
                await self._set_addresses("del", balancer.addresses)
            except CloudError as error:
                log.warning("an address of %s stays on this machine: %s", balancer.service, error)

    async def _put(self, balancer: Balancer) -> None:
        """Serve this one, and then let it be known: what haproxy does not take is not kept."""
        known = await self._read()
        before = known.get(balancer.uid)
        if before == balancer and self._served is not None:
            return
        known[balancer.uid] = balancer
        try:
            await self._set_addresses("replace", balancer.addresses)
            await self._serve()
        except CloudError:
            if before is None:
                del known[balancer.uid]
            else:
                known[balancer.uid] = before
            raise
        _write(self._file(balancer.uid), json.dumps(balancer.as_dict()))
        if before is not None and (given_up := [a for a in before.addresses if a not in balancer.addresses]):
            await self._set_addresses("del", given_up)

    async def _read(self) -> dict[str, Balancer]:
        """What there is, from the files at first; then haproxy serves it again."""
        if self._known is None:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            read = [read_balancer(json.loads(path.read_bytes())) for path in sorted(self._folder.glob("*.json"))]
            self._known = {balancer.uid: balancer for balancer in read}
            for balancer in read:
                await self._set_addresses("replace", balancer.addresses)
            if read:
                await self._serve()
        return self._known

    async def _serve(self) -> None:
        """Let haproxy do what is known now. Raises ``CloudError``."""
        wanted = tuple((self._known or {}).values())
        if wanted == self._served:
            return
        new = self._folder / "haproxy.new"
        _write(new, configuration(wanted))
        self._served = None
        try:
            await haproxy.check(new)
            new.replace(self._configuration)
            if self._runner is None:
                await self._start()
            else:
                await haproxy.reload(self._master)
        except (haproxy.ProxyError, OSError) as error:
            raise CloudError(str(error)) from error
        self._served = wanted

    @property
    def _configuration(self) -> Path:
        return self._folder / "haproxy.cfg"

    @property
    def _master(self) -> Path:
        return self._folder / "master.sock"

    async def _start(self) -> None:
        self._runner = Runner(SystemClock(), "load balancers ")
        self._master.unlink(missing_ok=True)
        self._runner.supervise(self._run, "haproxy")
        await haproxy.wait_started(self._master)

    async def _run(self) -> None:
        """One run of haproxy; whoever supervises this starts it again."""
        argv = haproxy.command(self._configuration, self._master)
        with (self._folder / "haproxy.log").open("ab") as said:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=said,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )  # fmt: skip
        try:
            status = await process.wait()
            raise haproxy.ProxyError(f"haproxy ended with {status}; see {self._folder / 'haproxy.log'}")
        finally:
            if process.returncode is None:
                process.terminate()
                try:
                    async with asyncio.timeout(_STOP_SECONDS):
                        await process.wait()
                except TimeoutError:
                    process.kill()
                    await process.wait()

    async def _set_addresses(self, verb: str, addresses: Sequence[str]) -> None:
        """``replace`` or ``del`` addresses of this machine's own. Raises ``CloudError``."""
        for address in addresses:
            length = 128 if ":" in address else 32
            more = ("nodad",) if ":" in address and verb == "replace" else ()
            try:
                await hosttools.run(("ip", "address", verb, f"{address}/{length}", "dev", "lo", *more))
            except hosttools.CommandError as error:
                if verb == "del" and "Cannot assign" in str(error):
                    continue
                raise CloudError(str(error)) from error

    def _file(self, uid: str) -> Path:
        return self._folder / f"{uid}.json"


def _uid(service: Object) -> str:
    uid = str(service["metadata"]["uid"])
    if not _UID.fullmatch(uid):
        raise CloudError(f"{uid!r} is no uid of a Service")
    return uid


def _status(balancer: Balancer) -> Object:
    """Who wants to reach it goes through it: it lets in, and counts, whom the Service wants."""
    return {"ingress": [{"ip": address, "ipMode": "Proxy"} for address in balancer.addresses]}


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text)
    temporary.replace(path)
