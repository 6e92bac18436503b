"""txn: a transaction from standard input: comparisons, what to do if they hold, and if they do not.

Source: https://github.com/etcd-io/etcd/tree/main/etcdctl
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from typing import Any

from tiphys.store.etcdctl import keys
from tiphys.store.etcdctl.flags import Command, Flag, UsageError, parse
from tiphys.store.etcdctl.gotext import unquote
from tiphys.store.etcdctl.session import Session, raw
from tiphys.store.etcdpb import pb

_COMPARISON = re.compile(r"""^\s*(\w+)\(\s*("(?:[^"\\]|\\.)*"|'[^']*'|[^)]*?)\s*\)\s*(=|!=|<|>)\s*(.+?)\s*$""", re.S)
_TARGETS = {
    "ver": (0, "version"),
    "version": (0, "version"),
    "c": (1, "create_revision"),
    "create": (1, "create_revision"),
    "m": (2, "mod_revision"),
    "mod": (2, "mod_revision"),
    "val": (3, "value"),
    "value": (3, "value"),
    "lease": (4, "lease"),
}
_RESULTS = {"=": 0, ">": 1, "<": 2, "!=": 3}
_OPERATIONS = {command.name: command for command in keys.COMMANDS}


def comparison(line: str) -> Any:
    """``mod("key") > "0"``."""
    match = _COMPARISON.match(line)
    if match is None or match[1] not in _TARGETS:
        raise UsageError(f"malformed comparison: {line}", 3)
    target, field = _TARGETS[match[1]]
    value = unquote(match[4])
    compare = pb.Compare(key=raw(unquote(match[2])), target=target, result=_RESULTS[match[3]])
    try:
        setattr(compare, field, raw(value) if field == "value" else int(value, 16 if field == "lease" else 10))
    except ValueError as error:
        raise UsageError(f"invalid txn compare request: {line}", 3) from error
    return compare


def operation(line: str) -> Any:
    """``put key value``, ``get key``, ``del key``, with the flags of these commands."""
    words = shlex.split(line)
    if not words or words[0] not in _OPERATIONS:
        raise UsageError(f"invalid txn request: {line}", 3)
    inner = Session(parse(words, _OPERATIONS, {}))
    if words[0] == "put":
        return pb.RequestOp(request_put=keys.put_request(inner, stdin=False))
    if words[0] == "get":
        return pb.RequestOp(request_range=keys.range_request(inner))
    return pb.RequestOp(request_delete_range=keys.delete_request(inner))


def _section(lines: Iterator[str], prompt: str) -> list[str]:
    """Lines up to an empty one."""
    if prompt:
        print(prompt)
    requests = []
    for line in lines:
        if not line.strip():
            break
        requests.append(line.rstrip("\n"))
    return requests


async def txn(session: Session) -> None:
    session.expect(0, 0, "txn command does not accept argument")
    lines = iter(sys.stdin)
    asked = session["interactive"]
    request = pb.TxnRequest(
        compare=[comparison(line) for line in _section(lines, "compares:" if asked else "")],
        success=[operation(line) for line in _section(lines, "success requests (get, put, del):" if asked else "")],
        failure=[operation(line) for line in _section(lines, "failure requests (get, put, del):" if asked else "")],
    )
    session.output.txn(await session.call("KV", "Txn", request))


COMMANDS = (
    Command(
        "txn",
        "Txn processes all the requests in one transaction",
        txn,
        (Flag("interactive", default=False, help="ask for each part", short="i"),),
        "[options]",
    ),
)
