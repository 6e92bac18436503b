"""Kubeconfig files: what is in one, and the user's, into which the cluster's context is merged.

Source: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import yaml

from tiphys.cluster.settings import write_private
from tiphys.runtime import yamltext

Config = dict[str, Any]


def point_at(path: Path, server: str) -> None:
    """Let a kubeconfig that is there lead to ``server``: the API server's machine may get another address."""
    if not path.exists():
        return
    config = load(path)
    for entry in config.get("clusters") or []:
        entry["cluster"]["server"] = server
    if config != load(path):
        write_private(path, dump(config))


def make(cluster: str, server: str, ca: Path, user: str, certificate: bytes, key: bytes) -> Config:
    """A kubeconfig with one cluster, one user with a certificate, and one context of the cluster's name."""
    credentials = {"client-certificate-data": _b64(certificate), "client-key-data": _b64(key)}
    return _with_user(cluster, server, ca, user, credentials)


def make_with_token(cluster: str, server: str, ca: Path, user: str, token: str) -> Config:
    """The same with a bearer token."""
    return _with_user(cluster, server, ca, user, {"token": token})


def _with_user(cluster: str, server: str, ca: Path, user: str, credentials: dict[str, str]) -> Config:
    login = f"{cluster}-{user}" if user != cluster else user
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": cluster, "cluster": {"server": server, "certificate-authority-data": _b64(ca.read_bytes())}}
        ],
        "users": [{"name": login, "user": credentials}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": login}}],
        "current-context": cluster,
    }


def dump(config: Config) -> bytes:
    return yaml.dump(config, Dumper=yaml.CSafeDumper, sort_keys=False).encode()


def load(path: Path) -> Config:
    """The kubeconfig in a file. Raises ``ValueError`` if the file is none."""
    config = yamltext.load(path.read_bytes())
    if config is None:
        return {"apiVersion": "v1", "kind": "Config"}
    if not isinstance(config, dict):
        raise ValueError(f"{path} is not a kubeconfig; move it away or set KUBECONFIG to another file")
    return config


def credentials(config: Config) -> tuple[str, bytes, bytes, bytes]:
    """Server URL, CA, client certificate and key (PEM) of the current context."""
    server, authority = server_and_authority(config)
    context = _entry(config, "contexts", config["current-context"])["context"]
    user = _entry(config, "users", context["user"])["user"]
    certificate, key = (base64.b64decode(user[part]) for part in ("client-certificate-data", "client-key-data"))
    return server, authority, certificate, key


def server_and_authority(config: Config) -> tuple[str, bytes]:
    """Server URL and CA (PEM) of the current context, whatever its user shows."""
    context = _entry(config, "contexts", config["current-context"])["context"]
    cluster = _entry(config, "clusters", context["cluster"])["cluster"]
    return cluster["server"], base64.b64decode(cluster["certificate-authority-data"])


def merged(user: Config, ours: Config) -> Config:
    """The user's configuration with our cluster, user and context in it, and ours the current one."""
    result = dict(user) or {"apiVersion": "v1", "kind": "Config"}
    for part in ("clusters", "users", "contexts"):
        names = {entry["name"] for entry in ours[part]}
        result[part] = [e for e in user.get(part) or [] if e.get("name") not in names] + ours[part]
    result["current-context"] = ours["current-context"]
    return result


def removed(user: Config, cluster: str) -> Config:
    """The user's configuration without the cluster called ``cluster``, its user and its context."""
    result = dict(user)
    contexts = [e for e in user.get("contexts") or [] if e.get("name") == cluster]
    logins = {e["context"].get("user") for e in contexts}
    drop = {"clusters": {cluster}, "contexts": {cluster}, "users": logins}
    for part, names in drop.items():
        result[part] = [e for e in user.get(part) or [] if e.get("name") not in names]
    if result.get("current-context") == cluster:
        result["current-context"] = result["contexts"][0]["name"] if result["contexts"] else ""
    return result


def user_file() -> Path:
    """Where kubectl reads: the first file of $KUBECONFIG, or ~/.kube/config."""
    first = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    return Path(first) if first else Path.home() / ".kube" / "config"


def with_server(config: Config, server: str) -> Config:
    """The same for whoever reaches the API server at another address."""
    clusters = [{**entry, "cluster": {**entry["cluster"], "server": server}} for entry in config["clusters"]]
    return {**config, "clusters": clusters}


def merge_into(path: Path, ours: Config) -> None:
    """Merge our context into the user's file; written only if it changes."""
    existing = load(path) if path.exists() else {}
    wanted = merged(existing, ours)
    if wanted != existing:
        write_private(path, dump(wanted))


def remove_from(path: Path, cluster: str) -> None:
    """Take the cluster's context out of the user's file, if it is in it."""
    if not path.exists():
        return
    existing = load(path)
    wanted = removed(existing, cluster)
    if wanted != existing:
        write_private(path, dump(wanted))


def _entry(config: Config, part: str, name: str) -> Config:
    entry = next((e for e in config.get(part) or [] if e["name"] == name), None)
    if entry is None:
        raise KeyError(f"{part}: no entry {name!r}")
    return dict(entry)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
