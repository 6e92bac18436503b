"""The commands of ``tiphys etcdctl``, and how one is run.

Source: https://github.com/etcd-io/etcd/tree/main/etcdctl
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from tiphys.store.backend import StoreError
from tiphys.store.etcdctl.flags import Command, Parsed, UsageError, environment, parse, usage

_REFUSED = {
    "auth": "users and roles",
    "user": "users and roles",
    "role": "users and roles",
    "lock": "locks",
    "elect": "elections",
    "make-mirror": "mirrors",
    "migrate": "the store of API version 2",
    "move-leader": "elections",
    "downgrade": "downgrades",
    "completion": "completion scripts",
    "check datascale": "this check",
}
"""etcdctl's commands that are not here, and what they are about."""


def commands() -> dict[str, Command]:
    from tiphys.store.etcdctl import check, keys, lease, maintenance, snapshot, txn, watch

    modules = (keys, txn, watch, lease, maintenance, snapshot, check)
    return {command.name: command for module in modules for command in module.COMMANDS}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command of ``tiphys etcdctl``; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    known = commands()
    if not words or words[0] in ("help", "-h", "--help"):
        print("USAGE:\n\tetcdctl [flags]\n\nCOMMANDS:")
        print("\n".join(f"\t{name}\t{command.help}" for name, command in known.items()))
        return 0
    version = environment().get("ETCDCTL_API", "3")
    if version != "3":
        print(f"Error: ETCDCTL_API={version} is not supported; only version 3 of the API is", file=sys.stderr)
        return 1
    try:
        if "--help" in words or "-h" in words:
            words = [word for word in words if word not in ("--help", "-h")]
            print(usage(parse(words, known, {}).command))
            return 0
        return asyncio.run(_run(parse(words, known, environment())))
    except UsageError as error:
        _complain(_refusal(words) or str(error))
        return error.status
    except StoreError as error:
        _complain(_as_etcdctl(error))
        return 1
    except OSError as error:
        _complain(str(error))
        return 1
    except KeyboardInterrupt:
        return 130


async def _run(parsed: Parsed) -> int:
    from tiphys.store.etcdctl.session import Session

    session = Session(parsed)
    try:
        await parsed.command.run(session)
    finally:
        await session.close()
    return 0


def _complain(message: str) -> None:
    if message:
        print(f"Error: {message}", file=sys.stderr)


def _refusal(words: Sequence[str]) -> str:
    """Why a command of upstream is not here."""
    names = [word for word in words if not word.startswith("-")]
    for count in (2, 1):
        about = _REFUSED.get(" ".join(names[:count]))
        if about is not None:
            return f"etcdctl {names[0]} is not supported by tiphys etcdctl, which does not do {about}"
    return ""


def _as_etcdctl(error: StoreError) -> str:
    """What etcdctl says if nobody answers."""
    text = str(error)
    return "context deadline exceeded" if "failed to connect" in text or text == "Deadline Exceeded" else text
