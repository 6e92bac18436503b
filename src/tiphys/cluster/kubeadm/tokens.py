"""Bootstrap tokens, and the Secrets that hold them. Pure.

Source: https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tiphys.api.object import Object
from tiphys.cluster.kubeadm.table_text import duration_words
from tiphys.runtime import durations

NAMESPACE, TYPE, PREFIX = "kube-system", "bootstrap.kubernetes.io/token", "bootstrap-token-"


@dataclass(frozen=True, slots=True)
class BootstrapToken:
    """``text`` is ID and secret with a dot between; without ``expires`` it is good for ever."""

    text: str
    description: str = ""
    expires: datetime | None = None
    usages: tuple[str, ...] = ("signing", "authentication")
    groups: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return self.text.partition(".")[0]

    def secret(self) -> Object:
        """The Secret that makes the token believed."""
        name, _, secret = self.text.partition(".")
        data = {"token-id": name, "token-secret": secret}
        if self.description:
            data["description"] = self.description
        if self.expires is not None:
            data["expiration"] = self.expires.strftime("%Y-%m-%dT%H:%M:%SZ")
        for usage in self.usages:
            data[f"usage-bootstrap-{usage}"] = "true"
        if self.groups:
            data["auth-extra-groups"] = ",".join(sorted(self.groups))
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"{PREFIX}{name}", "namespace": NAMESPACE},
            "type": TYPE,
            "data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()},
        }


def from_document(entry: Object, now: datetime) -> BootstrapToken:
    """The token of a ``bootstrapTokens`` entry that is complete; a lifetime of zero means for ever."""
    expires: datetime | None = None
    if "expires" in entry:
        expires = datetime.fromisoformat(str(entry["expires"]).replace("Z", "+00:00"))
    elif (seconds := durations.seconds(entry.get("ttl", "24h"))) > 0:
        expires = now + timedelta(seconds=seconds)
    return BootstrapToken(
        entry["token"], entry.get("description", ""), expires, tuple(entry["usages"]), tuple(entry["groups"])
    )


def from_secret(secret: Object) -> BootstrapToken | None:
    """The token that a Secret holds; None if it holds none."""
    data = secret.get("data") or {}
    values = {key: _text(value) for key, value in data.items()}
    name, private = values.get("token-id", ""), values.get("token-secret", "")
    if secret["metadata"]["name"] != f"{PREFIX}{name}" or not private:
        return None
    prefix = "usage-bootstrap-"
    usages = [key.removeprefix(prefix) for key, text in values.items() if key.startswith(prefix) and text == "true"]
    groups = tuple(part for part in values.get("auth-extra-groups", "").split(",") if part)
    expiration = values.get("expiration", "")
    try:
        expires = datetime.fromisoformat(expiration.replace("Z", "+00:00")) if expiration else None
    except ValueError:
        return None
    return BootstrapToken(f"{name}.{private}", values.get("description", ""), expires, tuple(sorted(usages)), groups)


def time_left(token: BootstrapToken, now: datetime | None = None) -> str:
    """As `kubeadm token list` shows it: ``23h``, ``<invalid>`` once it is over, ``<forever>``."""
    if token.expires is None:
        return "<forever>"
    return duration_words((token.expires - (now or datetime.now(UTC))).total_seconds())


def _text(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
