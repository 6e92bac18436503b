"""get, put, del.

Source: https://github.com/etcd-io/etcd/tree/main/etcdctl
"""

from __future__ import annotations

import sys
from typing import Any

from tiphys.store.backend import prefix_end
from tiphys.store.etcdctl.flags import BAD_ARGUMENTS, Command, Flag, UsageError
from tiphys.store.etcdctl.session import Session, number, raw
from tiphys.store.etcdpb import pb

_ORDERS = {"": 0, "ASCEND": 1, "DESCEND": 2}
_TARGETS = {"": 0, "KEY": 0, "VERSION": 1, "CREATE": 2, "MODIFY": 3, "VALUE": 4}


def span(session: Session) -> tuple[bytes, bytes]:
    """Key and end of the range that the arguments and ``--prefix`` or ``--from-key`` mean."""
    words = session.arguments
    key = raw(words[0])
    end = raw(words[1]) if len(words) > 1 else b""
    if session["prefix"] and session["from-key"]:
        raise UsageError("`--prefix` and `--from-key` cannot be set at the same time, choose one", BAD_ARGUMENTS)
    if end and (session["prefix"] or session["from-key"]):
        raise UsageError("too many arguments, only accept one argument when `--prefix` or `--from-key` is set")
    if session["prefix"]:
        return (key, prefix_end(key)) if key else (b"\0", b"\0")
    if session["from-key"]:
        return key or b"\0", b"\0"
    return key, end


def range_request(session: Session) -> Any:
    """The request that the flags of ``get`` describe. Raises ``UsageError``."""
    key, end = span(session)
    order, target = session["order"].upper(), session["sort-by"].upper()
    if order not in _ORDERS:
        raise UsageError(f"bad sort order {session['order']}", 1)
    if target not in _TARGETS:
        raise UsageError(f"bad sort target {session['sort-by']}", 1)
    if session["consistency"] not in ("l", "s"):
        raise UsageError(f"unknown consistency flag {session['consistency']!r}", 3)
    if session["keys-only"] and session["count-only"]:
        raise UsageError("`--keys-only` and `--count-only` cannot be set at the same time, choose one")
    return pb.RangeRequest(
        key=key,
        range_end=end,
        limit=session["limit"],
        revision=session["rev"],
        sort_order=_ORDERS[order],
        sort_target=_TARGETS[target],
        serializable=session["consistency"] == "s",
        keys_only=session["keys-only"],
        count_only=session["count-only"],
    )


async def get(session: Session) -> None:
    session.expect(1, 2, "get command needs one argument as key and an optional argument as range_end")
    response = await session.call("KV", "Range", range_request(session), repeatable=True)
    session.output.get(response)


def put_request(session: Session, *, stdin: bool = True) -> Any:
    """The request that the arguments of ``put`` describe, the value from standard input if missing.

    Raises ``UsageError``.
    """
    words = session.arguments
    value = b""
    if not words:
        raise UsageError("put command needs 1 argument and input from stdin or 2 arguments")
    if session["ignore-value"]:
        if len(words) > 1:
            raise UsageError("put command needs only 1 argument when 'ignore-value' is set")
    elif len(words) > 1:
        value = raw(words[1])
    elif stdin:
        value = sys.stdin.buffer.read()
    else:
        raise UsageError("put command needs 1 argument and input from stdin or 2 arguments")
    return pb.PutRequest(
        key=raw(words[0]),
        value=value,
        lease=number(session["lease"], "lease ID", 16),
        prev_kv=session["prev-kv"],
        ignore_value=session["ignore-value"],
        ignore_lease=session["ignore-lease"],
    )


async def put(session: Session) -> None:
    session.output.put(await session.call("KV", "Put", put_request(session)))


def delete_request(session: Session) -> Any:
    key, end = span(session)
    return pb.DeleteRangeRequest(key=key, range_end=end, prev_kv=session["prev-kv"])


async def delete(session: Session) -> None:
    session.expect(1, 2, "del command needs one argument as key and an optional argument as range_end")
    session.output.delete(await session.call("KV", "DeleteRange", delete_request(session)))


_PREFIX = Flag("prefix", default=False, help="keys that begin with the given key")
_FROM_KEY = Flag("from-key", default=False, help="keys that are equal to the given key or come after it")
_PREV_KV = Flag("prev-kv", default=False, help="print what was there before")

GET_FLAGS = (
    _PREFIX,
    _FROM_KEY,
    Flag("consistency", "l", "linearizable (l) or serializable (s)"),
    Flag("order", "", "ASCEND or DESCEND"),
    Flag("sort-by", "", "CREATE, KEY, MODIFY, VALUE or VERSION"),
    Flag("limit", 0, "how many results at most"),
    Flag("rev", 0, "read as of this revision"),
    Flag("keys-only", default=False, help="only the keys"),
    Flag("count-only", default=False, help="only the count"),
    Flag("print-value-only", default=False, help="only the values, in the simple format"),
)
PUT_FLAGS = (
    Flag("lease", "0", "attach the key to this lease (in hexadecimal)"),
    _PREV_KV,
    Flag("ignore-value", default=False, help="keep the value that is there"),
    Flag("ignore-lease", default=False, help="keep the lease that is there"),
)
DEL_FLAGS = (_PREFIX, _FROM_KEY, _PREV_KV)

COMMANDS = (
    Command("get", "Gets the key or a range of keys", get, GET_FLAGS, "[options] <key> [range_end]"),
    Command("put", "Puts the given key into the store", put, PUT_FLAGS, "[options] <key> <value>"),
    Command("del", "Removes the specified key or range of keys", delete, DEL_FLAGS, "[options] <key> [range_end]"),
)
