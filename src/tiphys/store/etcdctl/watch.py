"""watch: prints changes as they happen, or runs a command for each.

Source: https://github.com/etcd-io/etcd/tree/main/etcdctl
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from typing import Any

import grpc.aio

from tiphys.store.backend import StoreError, prefix_end
from tiphys.store.etcdchannel import translate
from tiphys.store.etcdctl.flags import Command, Flag, UsageError, parse
from tiphys.store.etcdctl.gotext import quote
from tiphys.store.etcdctl.output import EVENT_NAMES
from tiphys.store.etcdctl.session import Session, raw
from tiphys.store.etcdpb import pb


def create_request(session: Session) -> Any:
    """The request that the arguments of ``watch`` describe. Raises ``UsageError``."""
    words = list(session.arguments)
    if not words and os.environ.get("ETCDCTL_WATCH_KEY"):
        words = [os.environ["ETCDCTL_WATCH_KEY"]]
        if os.environ.get("ETCDCTL_WATCH_RANGE_END"):
            words.append(os.environ["ETCDCTL_WATCH_RANGE_END"])
    if not words or len(words) > 2:
        raise UsageError("watch in non-interactive mode requires one or two arguments as key or prefix, with range end")
    key, end = raw(words[0]), raw(words[1]) if len(words) > 1 else b""
    if session["prefix"]:
        if end:
            raise UsageError("`range_end` and `--prefix` are mutually exclusive")
        key, end = (key, prefix_end(key)) if key else (b"\0", b"\0")
    return pb.WatchCreateRequest(
        key=key,
        range_end=end,
        start_revision=session["rev"],
        prev_kv=session["prev-kv"],
        progress_notify=session["progress-notify"],
    )


async def watch(session: Session) -> None:
    """Print changes until the server ends the watch. Raises ``StoreError``."""
    channels = session.channels
    _, call = channels.stream(channels.method("Watch", "Watch"))
    try:
        asker = None
        if session["interactive"]:
            asker = asyncio.create_task(_ask(session, call))
        else:
            await call.write(pb.WatchRequest(create_request=create_request(session)))
        while (response := await call.read()) is not grpc.aio.EOF:
            if response.canceled:
                _report_cancel(response)
            elif response.events:
                session.output.watch(response)
                await _run_for_each(session.after_dashes, response)
            elif not response.created:
                session.output.say(f"progress notify: {response.header.revision}")
        if asker is not None:
            await asker
        raise StoreError("watch is canceled by the server")
    except grpc.aio.AioRpcError as error:
        raise translate(error) from error
    finally:
        call.cancel()


def _report_cancel(response: Any) -> None:
    reason = response.cancel_reason
    if response.compact_revision:
        reason = "etcdserver: mvcc: required revision has been compacted"
    print(f"watch was canceled ({reason})", file=sys.stderr)
    raise StoreError("watch is canceled by the server")


async def _ask(session: Session, call: Any) -> None:
    """Interactive: each line of standard input is a ``watch`` command, or ``progress``."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        words = shlex.split(line)
        if words == ["progress"]:
            await call.write(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))
        elif words and words[0] == "watch":
            inner = Session(parse(words, {"watch": COMMANDS[0]}, {}))
            await call.write(pb.WatchRequest(create_request=create_request(inner)))
        elif words:
            print(f"Invalid command {line.strip()}", file=sys.stderr)


async def _run_for_each(command: list[str], response: Any) -> None:
    """Run a command for each event, with the event in its environment."""
    if not command:
        return
    for event in response.events:
        about = {
            "ETCD_WATCH_REVISION": str(response.header.revision),
            "ETCD_WATCH_EVENT_TYPE": quote(EVENT_NAMES[event.type]),
            "ETCD_WATCH_KEY": quote(event.kv.key),
            "ETCD_WATCH_VALUE": quote(event.kv.value),
        }
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **about})
        if await process.wait():
            raise StoreError(f"command {command[0]!r} ended with status {process.returncode}")


COMMANDS = (
    Command(
        "watch",
        "Watches events stream on keys or prefixes",
        watch,
        (
            Flag("interactive", default=False, help="read watch commands from standard input", short="i"),
            Flag("prefix", default=False, help="watch the keys that begin with the given key"),
            Flag("rev", 0, "the revision to begin with"),
            Flag("prev-kv", default=False, help="print what was there before each change"),
            Flag("progress-notify", default=False, help="have the server report now and then how far the watch is"),
        ),
        "[options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
    ),
)
