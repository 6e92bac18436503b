"""What the API server shows to admission webhooks: the users of a kubeconfig, named after the webhooks' hosts.

Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#authenticate-apiservers
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tiphys.client.kubeconfig import Credentials, users_from_file


class WebhookCredentials:
    """By exact host and port, then ``*.`` and the rest of the name, both also without port 443; then ``*``, and the
    user of the current context."""

    def __init__(self, kubeconfig: Path) -> None:
        """Raises ``KubeconfigError``."""
        self._users, self._current = users_from_file(kubeconfig)

    def of(self, host: str, port: int) -> Credentials | None:
        names = (*_names(host, port), "*", self._current)
        return next((self._users[name] for name in names if name and name in self._users), None)


def _names(host: str, port: int) -> Iterator[str]:
    shown = f"[{host}]" if ":" in host else host
    for target in (f"{shown}:{port}", *((host,) if port == 443 else ())):
        yield target
        steps = target.split(".")
        yield from (f"*.{'.'.join(steps[n:])}" for n in range(1, len(steps)))
