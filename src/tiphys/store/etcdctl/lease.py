"""lease grant, revoke, timetolive, list, keep-alive.

Source: https://github.com/etcd-io/etcd/tree/main/etcdctl
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from tiphys.store.backend import StoreError
from tiphys.store.etcdchannel import translate
from tiphys.store.etcdctl.flags import Command, Flag
from tiphys.store.etcdctl.session import Session, number
from tiphys.store.etcdpb import pb


async def grant(session: Session) -> None:
    (ttl,) = session.expect(1, 1, "lease grant command needs TTL argument")
    request = pb.LeaseGrantRequest(TTL=number(ttl, "TTL"))
    try:
        response = await session.call("Lease", "LeaseGrant", request)
    except StoreError as error:
        raise StoreError(f"failed to grant lease ({error})") from error
    session.output.grant(response)


async def revoke(session: Session) -> None:
    (text,) = session.expect(1, 1, "lease revoke command needs 1 argument")
    id = number(text, "lease ID arg", 16)
    try:
        response = await session.call("Lease", "LeaseRevoke", pb.LeaseRevokeRequest(ID=id))
    except StoreError as error:
        raise StoreError(f"failed to revoke lease ({error})") from error
    session.output.revoke(id, response)


async def time_to_live(session: Session) -> None:
    (text,) = session.expect(1, 1, "lease timetolive command needs lease ID as argument")
    request = pb.LeaseTimeToLiveRequest(ID=number(text, "lease ID arg", 16), keys=session["keys"])
    response = await session.call("Lease", "LeaseTimeToLive", request, repeatable=True)
    session.output.time_to_live(response, keys=session["keys"])


async def list_all(session: Session) -> None:
    session.expect(0, 0, "lease list command needs no arguments")
    session.output.lease_list(await session.call("Lease", "LeaseLeases", pb.LeaseLeasesRequest(), repeatable=True))


async def keep_alive(session: Session) -> None:
    """Renew a lease every third of its time to live until it ends; once with ``--once``. Raises ``StoreError``."""
    (text,) = session.expect(1, 1, "lease keep-alive command needs lease ID as argument")
    id = number(text, "lease ID arg", 16)
    channels = session.channels
    _, call = channels.stream(channels.method("Lease", "LeaseKeepAlive"))
    try:
        while True:
            await call.write(pb.LeaseKeepAliveRequest(ID=id))
            response: Any = await call.read()
            if response is grpc.aio.EOF or response.TTL <= 0:
                if session["once"]:
                    raise StoreError("etcdserver: requested lease not found")
                session.output.say(f"lease {id:016x} expired or revoked.")
                return
            session.output.keep_alive(response)
            if session["once"]:
                return
            await asyncio.sleep(response.TTL / 3)
    except grpc.aio.AioRpcError as error:
        raise translate(error) from error
    finally:
        call.cancel()


COMMANDS = (
    Command("lease grant", "Creates leases", grant, (), "<ttl>"),
    Command("lease revoke", "Revokes leases", revoke, (), "<leaseID>"),
    Command(
        "lease timetolive",
        "Get lease information",
        time_to_live,
        (Flag("keys", default=False, help="the keys that are attached, too"),),
        "<leaseID> [options]",
    ),
    Command("lease list", "List all active leases", list_all),
    Command(
        "lease keep-alive",
        "Keeps leases alive (renew)",
        keep_alive,
        (Flag("once", default=False, help="renew once and end"),),
        "[options] <leaseID>",
    ),
)
