"""compaction, defrag, alarm, endpoint, member: what an operator asks of a cluster.

Source: https://github.com/etcd-io/etcd/tree/main/etcdctl
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from tiphys.runtime.clock import SystemClock
from tiphys.store.backend import StoreError
from tiphys.store.etcdctl.flags import Command, Flag, UsageError
from tiphys.store.etcdctl.output import EndpointHealth
from tiphys.store.etcdctl.session import Session, number
from tiphys.store.etcdpb import pb

GET_ALARM, DISARM = 0, 2
_CLUSTER = Flag("cluster", default=False, help="all members of the cluster, by its member list")


async def compaction(session: Session) -> None:
    (text,) = session.expect(1, 1, "compaction command needs 1 argument")
    revision = number(text, "revision")
    await session.call("KV", "Compact", pb.CompactionRequest(revision=revision, physical=session["physical"]))
    session.output.say(f"compacted revision {revision}")


async def defrag(session: Session) -> None:
    if session["data-dir"]:
        await _defrag_directory(session["data-dir"])
        return
    failed = False
    for endpoint, answer in await _at_each(session, "Defragment", pb.DefragmentRequest()):
        if isinstance(answer, StoreError):
            failed = True
            print(f"Failed to defragment etcd member[{endpoint}] ({answer})", file=sys.stderr)
        else:
            session.output.say(f"Finished defragmenting etcd member[{endpoint}]")
    if failed:
        raise UsageError("", 1)


async def _defrag_directory(directory: str) -> None:
    """Of a store that is not running."""
    from tiphys.store.sqlite import SQLiteBackend

    _must_exist(Path(directory))
    store = await SQLiteBackend.open(directory, SystemClock())
    try:
        await store.defragment()
    finally:
        await store.close()


def _must_exist(directory: Path) -> None:
    if not directory.is_dir():
        raise UsageError(f"Failed to defragment etcd data[{directory}] (there is no such directory)", 1)


async def alarm_list(session: Session) -> None:
    session.expect(0, 0, "alarm list command accepts no arguments")
    session.output.alarms(await session.call("Maintenance", "Alarm", pb.AlarmRequest(action=GET_ALARM)))


async def alarm_disarm(session: Session) -> None:
    session.expect(0, 0, "alarm disarm command accepts no arguments")
    alarms = await session.call("Maintenance", "Alarm", pb.AlarmRequest(action=GET_ALARM))
    response = pb.AlarmResponse()  # without a header, as etcd's client has it
    for alarm in alarms.alarms:
        request = pb.AlarmRequest(action=DISARM, memberID=alarm.memberID, alarm=alarm.alarm)
        answer = await session.call("Maintenance", "Alarm", request)
        response.alarms.extend(answer.alarms)
    session.output.alarms(response)


async def endpoint_status(session: Session) -> None:
    await _report(session, "Status", pb.StatusRequest(), "Failed to get the status of endpoint", session.output.status)


async def endpoint_hashkv(session: Session) -> None:
    request = pb.HashKVRequest(revision=session["rev"])
    await _report(session, "HashKV", request, "Failed to get the hash of endpoint", session.output.hash_kv)


async def _report(session: Session, method: str, request: Any, complaint: str, show: Any) -> None:
    """Print what the members answer; complain about those that do not."""
    answers = []
    failed = False
    for endpoint, answer in await _at_each(session, method, request):
        if isinstance(answer, StoreError):
            failed = True
            print(f"{complaint} {endpoint} ({answer})", file=sys.stderr)
        else:
            answers.append((endpoint, answer))
    show(answers)
    if failed:
        raise UsageError("", 1)


async def endpoint_health(session: Session) -> None:
    """Print the health of every endpoint. Raises ``StoreError`` if one is unhealthy."""

    async def check(endpoint: str) -> EndpointHealth:
        channels = session.connect([endpoint])
        began = time.perf_counter()
        try:
            method = channels.method("KV", "Range")
            await channels.unary(method, pb.RangeRequest(key=b"health"), repeatable=False)
            method = channels.method("Maintenance", "Alarm")
            alarms = (await channels.unary(method, pb.AlarmRequest(), repeatable=False)).alarms
            took = time.perf_counter() - began
            if alarms:
                return EndpointHealth(endpoint, took, "Active Alarm(s): NOSPACE")
            return EndpointHealth(endpoint, took)
        except StoreError as error:
            return EndpointHealth(endpoint, time.perf_counter() - began, _short(error))
        finally:
            await channels.close()

    results = list(await asyncio.gather(*(check(endpoint) for endpoint in await _endpoints(session))))
    session.output.health(results)
    if any(each.error for each in results):
        raise StoreError("unhealthy cluster")


def _short(error: StoreError) -> str:
    return "context deadline exceeded" if "connect" in str(error) or "Deadline" in str(error) else str(error)


async def _endpoints(session: Session) -> list[str]:
    """The given endpoints, or with ``--cluster`` those of the member list."""
    if not session["cluster"]:
        return session.endpoints
    members = (await session.call("Cluster", "MemberList", pb.MemberListRequest(), repeatable=True)).members
    return [url for member in members for url in member.clientURLs]


async def _at_each(session: Session, method: str, request: Any) -> list[tuple[str, Any]]:
    endpoints = await _endpoints(session)
    channels = session.connect(endpoints)
    try:
        return list(
            zip(endpoints, await channels.at_each(channels.method("Maintenance", method), request), strict=True)
        )
    finally:
        await channels.close()


async def member_list(session: Session) -> None:
    request = pb.MemberListRequest(linearizable=True)
    session.output.members(await session.call("Cluster", "MemberList", request, repeatable=True))


async def version(session: Session) -> None:
    from tiphys.store.etcdserver import VERSION

    session.output.say(f"etcdctl version: {VERSION}\nAPI version: {VERSION.rsplit('.', 1)[0]}")


_PHYSICAL = (Flag("physical", default=False, help="wait until the work is done"),)
COMMANDS = (
    Command("compaction", "Compacts the event history in etcd", compaction, _PHYSICAL, "[options] <revision>"),
    Command("compact", "Compacts the event history in etcd", compaction, _PHYSICAL, "[options] <revision>"),
    Command(
        "defrag",
        "Defragments the storage of the etcd members with given endpoints",
        defrag,
        (_CLUSTER, Flag("data-dir", "", "of this data directory, which must not be in use")),
    ),
    Command("alarm list", "Lists all alarms", alarm_list),
    Command("alarm disarm", "Disarms all alarms", alarm_disarm),
    Command("endpoint status", "Prints out the status of endpoints", endpoint_status, (_CLUSTER,)),
    Command("endpoint health", "Checks the healthiness of endpoints", endpoint_health, (_CLUSTER,)),
    Command(
        "endpoint hashkv",
        "Prints the KV history hash for each endpoint",
        endpoint_hashkv,
        (_CLUSTER, Flag("rev", 0, "the hash as of this revision")),
    ),
    Command("member list", "Lists all members in the cluster", member_list),
    Command("version", "Prints the version of etcdctl", version),
)
