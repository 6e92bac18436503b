"""`tiphys token`: bootstrap tokens, made, listed and deleted, and the command by which a machine joins.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-token/
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tiphys.cli.console import table
from tiphys.cli.kubeadm import kubeadmflags
from tiphys.cli.kubeadm.kubeadmflags import KubeadmParser
from tiphys.client.errors import NotFound
from tiphys.client.resources import SECRETS
from tiphys.cluster.kubeadm import api, discovery, tokens
from tiphys.cluster.kubeadm.configuration import validate
from tiphys.cluster.kubeadm.configuration.defaults import TOKEN_GROUP
from tiphys.cluster.kubeadm.failures import ConfigurationError, KubeadmError
from tiphys.cluster.kubeadm.phases.showjoin import command
from tiphys.cluster.kubeadm.tokens import BootstrapToken
from tiphys.cluster.tlsbootstrap import new_token
from tiphys.runtime import durations

_USAGE = """usage: tiphys token COMMAND [flags]

  create [TOKEN]     make a token; --print-join-command prints how to join by it
  list               list the tokens of the cluster
  delete TOKEN…      delete tokens, by their ID or whole
  generate           print a token that could be made, and make none"""
_ID = re.compile(r"[a-z0-9]{6}(\.[a-z0-9]{16})?")
_HEADINGS = ("TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS")


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys token``; returns the exit status."""
    return kubeadmflags.run(lambda: _main(list(argv)))


def _main(words: list[str]) -> int:
    match words:
        case ["create", *flags]:
            return _create(flags)
        case ["list", *flags]:
            return _list(flags)
        case ["delete", *flags]:
            return _delete(flags)
        case ["generate"]:
            print(new_token())
            return 0
        case [] | ["-h"] | ["--help"]:
            print(_USAGE)
            return 0
    raise ConfigurationError(f'unknown command {words[0]!r} for "tiphys token"; see tiphys token --help')


def _parser(verb: str, description: str) -> KubeadmParser:
    made = KubeadmParser(f"tiphys token {verb}", description)
    made.text("kubeconfig", "the administrator's kubeconfig (/etc/kubernetes/admin.conf)")
    return made


def _create(flags: list[str]) -> int:
    parser = _parser("create", "Make a bootstrap token.")
    parser.add_argument("token", nargs="?", metavar="TOKEN", help="the token; a random one without it")
    parser.text("description", "what it is for")
    parser.text("ttl", "how long it lives (24h0m0s); 0: for ever")
    parser.many("usages", "signing, authentication")
    parser.many("groups", "groups of whoever logs in with it")
    parser.switch("print-join-command", "print the command by which a machine joins, in place of the token")
    parser.text("certificate-key", "with --print-join-command: for a control plane, with this key")
    parser.switch("dry-run", "make nothing")
    given = parser.values(flags)
    made = _token(given)
    path = kubeadmflags.kubeconfig_of(given, kubeadmflags.places_of(given))
    if given.get("certificate-key") and not given.get("print-join-command"):
        raise ConfigurationError("--certificate-key is of use with --print-join-command only")
    if not given.get("dry-run"):
        asyncio.run(_write(path, made))
    print(_join_command(path, made, given) if given.get("print-join-command") else made.text)
    return 0


def _token(given: Mapping[str, Any]) -> BootstrapToken:
    """Raises ``ConfigurationError``."""
    text = given.get("token") or new_token()
    usages, groups = given.get("usages", ["signing", "authentication"]), given.get("groups", [TOKEN_GROUP])
    try:
        ttl = durations.to_text(durations.parse(given.get("ttl", "24h")))
    except durations.DurationError as error:
        raise ConfigurationError(f"--ttl: {error}; write for example 2h or 30m") from error
    validate.check([*validate.token(text, "token"), *validate.token_use(usages, groups, "token")])
    entry = {"token": text, "description": given.get("description", ""), "ttl": ttl, "usages": usages, "groups": groups}
    return tokens.from_document(entry, datetime.now(UTC))


async def _write(path: Path, token: BootstrapToken) -> None:
    async with api.connection(path) as client:
        try:
            await client.get(SECRETS, f"{tokens.PREFIX}{token.id}", tokens.NAMESPACE)
        except NotFound:
            await client.create(SECRETS, token.secret())
            return
    raise KubeadmError(f'a token with id "{token.id}" already exists; `tiphys token delete {token.id}` removes it')


def _join_command(path: Path, token: BootstrapToken, given: Mapping[str, Any]) -> str:
    cluster = discovery.cluster_of(path.read_bytes(), str(path))
    pins = discovery.pins_of(cluster.authority)
    key = given.get("certificate-key", "")
    return command(cluster.server, token.text, pins, control_plane=bool(key), key=key, folded=False)


def _list(flags: list[str]) -> int:
    parser = _parser("list", "List the bootstrap tokens.")
    parser.add_argument("-o", "--output", dest="output", choices=("text", "json"), help="text or json")
    given = parser.values(flags)
    path = kubeadmflags.kubeconfig_of(given, kubeadmflags.places_of(given))
    listed = asyncio.run(_read(path))
    if given.get("output") == "json":
        for token in listed:
            print(json.dumps(_object(token)))
    elif listed:
        print(table(_HEADINGS, [_row(token) for token in listed]))
    return 0


async def _read(path: Path) -> list[BootstrapToken]:
    async with api.connection(path) as client:
        listed = await client.list(SECRETS, tokens.NAMESPACE, field_selector=f"type={tokens.TYPE}")
    read = [tokens.from_secret(secret) for secret in listed["items"]]
    return [token for token in read if token is not None]


def _row(token: BootstrapToken) -> tuple[str, ...]:
    expires = token.expires.strftime("%Y-%m-%dT%H:%M:%SZ") if token.expires else "<never>"
    shown = (",".join(token.usages), token.description, ",".join(token.groups))
    return (token.text, tokens.time_left(token), expires, *(text or "<none>" for text in shown))


def _object(token: BootstrapToken) -> dict[str, Any]:
    expires = {"expires": token.expires.strftime("%Y-%m-%dT%H:%M:%SZ")} if token.expires else {}
    return {
        "kind": "BootstrapToken",
        "apiVersion": "output.kubeadm.k8s.io/v1alpha3",
        "token": token.text,
        "description": token.description,
        **expires,
        "usages": list(token.usages),
        "groups": list(token.groups),
    }


def _delete(flags: list[str]) -> int:
    parser = _parser("delete", "Delete bootstrap tokens.")
    parser.add_argument("tokens", nargs="*", metavar="TOKEN", help="ID, or ID and secret")
    given = parser.values(flags)
    wanted = given.get("tokens") or []
    if not wanted:
        raise ConfigurationError("missing argument; 'token delete' is missing token of form \"[a-z0-9]{6}\"")
    for text in wanted:
        if not _ID.fullmatch(text):
            raise ConfigurationError(
                f'given token "{text}" didn\'t match pattern "[a-z0-9]{{6}}" or "[a-z0-9]{{6}}.[a-z0-9]{{16}}"'
            )
    asyncio.run(
        _remove(kubeadmflags.kubeconfig_of(given, kubeadmflags.places_of(given)), [text[:6] for text in wanted])
    )
    return 0


async def _remove(path: Path, names: list[str]) -> None:
    async with api.connection(path) as client:
        for name in names:
            try:
                await client.delete(SECRETS, f"{tokens.PREFIX}{name}", tokens.NAMESPACE)
            except NotFound as error:
                raise KubeadmError(f'failed to delete bootstrap token "{name}": it does not exist') from error
            print(f'bootstrap token "{name}" deleted')
