"""Defaults of the authentication.k8s.io group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#tokenrequest-v1-authentication-k8s-io
"""

from __future__ import annotations

from typing import Any

from tiphys.api.defaults.common import child, if_missing


def token_request(obj: dict[str, Any]) -> None:
    if_missing(child(obj, "spec"), expirationSeconds=3600)
