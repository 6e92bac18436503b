"""The file ``--authorization-config``: which authorizers are asked, in order, and how the webhooks among them are.

Source: https://kubernetes.io/docs/reference/config-api/apiserver-config.v1/#apiserver-config-k8s-io-v1-AuthorizationConfiguration
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from tiphys.api import fielderrors
from tiphys.api.fielderrors import FieldError
from tiphys.api.meta.names import dns1123_subdomain
from tiphys.api.object import Object
from tiphys.apiserver import configfile
from tiphys.apiserver.authz.conditions import condition_problems
from tiphys.apiserver.authz.settings import MODES, AuthorizerSettings
from tiphys.apiserver.config import WebhookSettings
from tiphys.apiserver.configfile import ConfigFileError
from tiphys.client.kubeconfig import SERVICE_ACCOUNT, KubeconfigError, server_of
from tiphys.runtime import durations

_WEBHOOK = {
    **dict.fromkeys(("authorizedTTL", "unauthorizedTTL", "timeout", "failurePolicy"), str),
    **dict.fromkeys(("subjectAccessReviewVersion", "matchConditionSubjectAccessReviewVersion"), str),
    "cacheAuthorizedRequests": bool,
    "cacheUnauthorizedRequests": bool,
    "connectionInfo": {"type": str, "kubeConfigFile": str},
    "matchConditions": [{"expression": str}],
}
_SHAPE = {"authorizers": [{"type": str, "name": str, "webhook": _WEBHOOK}]}
_KINDS = {
    (f"apiserver.config.k8s.io/{version}", "AuthorizationConfiguration"): _SHAPE
    for version in ("v1", "v1beta1", "v1alpha1")
}
_TIMES = {"timeout": "0s", "authorizedTTL": "5m", "unauthorizedTTL": "30s"}
_LONGEST = 30.0


def read_authorizers(text: bytes, required: Collection[str] = ()) -> tuple[AuthorizerSettings, ...]:
    """``required`` are types that must be there, as they were from the start. Raises ``ConfigFileError``."""
    document = configfile.typed(configfile.parsed(text), _KINDS)
    rows = document.get("authorizers") or []
    if problems := list(_problems(rows)):
        raise ConfigFileError("; ".join(map(str, problems)))
    if missing := sorted(set(required) - {row["type"] for row in rows}):
        raise ConfigFileError(f"missing required types: {', '.join(missing)}; they were there when the server started")
    return tuple(AuthorizerSettings(row["type"], row["name"], _webhook(row.get("webhook"))) for row in rows)


def _webhook(row: Object | None) -> WebhookSettings | None:
    if row is None:
        return None
    seconds = {name: durations.seconds(_time(row, name)) for name in _TIMES}
    return WebhookSettings(
        kubeconfig=Path(row["connectionInfo"].get("kubeConfigFile") or SERVICE_ACCOUNT),
        version=row["subjectAccessReviewVersion"],
        timeout=seconds["timeout"],
        authorized=seconds["authorizedTTL"] if row.get("cacheAuthorizedRequests", True) else 0.0,
        unauthorized=seconds["unauthorizedTTL"] if row.get("cacheUnauthorizedRequests", True) else 0.0,
        denies=row["failurePolicy"] == "Deny",
        conditions=tuple(condition["expression"] for condition in row.get("matchConditions") or ()),
    )


def _problems(rows: list[Object]) -> Iterator[FieldError]:
    """The errors of the list of authorizers."""
    if not rows:
        yield fielderrors.required("authorizers", "at least one authorization mode must be defined")
    types, names = set[str](), set[str]()
    for number, row in enumerate(rows):
        path, type, name = f"authorizers[{number}]", row.get("type") or "", row.get("name") or ""
        if not type:
            yield fielderrors.required(f"{path}.type")
            continue
        if type not in MODES:
            yield fielderrors.not_supported(f"{path}.type", type, MODES)
            continue
        if type in types and type != "Webhook":
            yield fielderrors.duplicate(f"{path}.type", type)
            continue
        yield from _name_problems(type, name, f"{path}.name", names)
        types.add(type)
        names.add(name)
        webhook = row.get("webhook")
        if type != "Webhook" and webhook is not None:
            yield fielderrors.invalid(f"{path}.webhook", "non-null", "may only be specified when type=Webhook")
        elif type == "Webhook" and webhook is None:
            yield fielderrors.required(f"{path}.webhook", "required when type=Webhook")
        elif webhook is not None:
            yield from _webhook_problems(webhook, path)


def _name_problems(type: str, name: str, path: str, names: Collection[str]) -> Iterator[FieldError]:
    if not name:
        yield fielderrors.required(path)
    elif name in names:
        yield fielderrors.duplicate(path, name)
    elif problems := dns1123_subdomain(name):
        yield fielderrors.invalid(path, name, f"authorizer name is invalid: {', '.join(problems)}")
    elif type != "Webhook" and name != type.lower():
        yield fielderrors.invalid(path, name, f"expected name {type.lower()} for authorizer {type}")


def _time(row: Object, name: str) -> str:
    """What is not set, or to nothing, has a default, but for the timeout. Raises ``DurationError``."""
    text: str = row.get(name, "0s")
    return _TIMES[name] if durations.parse(text) == 0 else text


def _webhook_problems(row: Object, path: str) -> Iterator[FieldError]:
    for name in _TIMES:
        yield from _time_problems(row, name, f"{path}.{name}")
    yield from _choice(row, "subjectAccessReviewVersion", path, ("v1", "v1beta1"))
    if row.get("matchConditionSubjectAccessReviewVersion"):
        yield from _choice(row, "matchConditionSubjectAccessReviewVersion", path, ("v1",))
    elif row.get("matchConditions"):
        text = "required if match conditions are specified"
        yield fielderrors.required(f"{path}.matchConditionSubjectAccessReviewVersion", text)
    yield from _choice(row, "failurePolicy", path, ("NoOpinion", "Deny"))
    yield from _connection_problems(row.get("connectionInfo") or {}, f"{path}.connectionInfo")
    yield from condition_problems([one.get("expression") or "" for one in row.get("matchConditions") or ()], path)


def _time_problems(row: Object, name: str, path: str) -> Iterator[FieldError]:
    try:
        text = _time(row, name)
        seconds = durations.seconds(text)
    except durations.DurationError as error:
        yield fielderrors.invalid(path, row[name], str(error))
        return
    if seconds == 0:
        yield fielderrors.required(path)
    elif name == "timeout" and not 0 < seconds <= _LONGEST:
        yield fielderrors.invalid(path, text, "must be > 0s and <= 30s")
    elif seconds < 0:
        yield fielderrors.invalid(path, text, "must be > 0s")


def _choice(row: Object, name: str, path: str, choices: tuple[str, ...]) -> Iterator[FieldError]:
    value = row.get(name) or ""
    if not value:
        yield fielderrors.required(f"{path}.{name}")
    elif value not in choices:
        yield fielderrors.not_supported(f"{path}.{name}", value, choices)


def _no_cluster() -> str:
    """Why this process is not in a pod with a service account; empty if it is in one."""
    try:
        server_of(SERVICE_ACCOUNT)
    except KubeconfigError:
        return "this process is not in a pod with a service account"
    return ""


def _connection_problems(connection: Object, path: str) -> Iterator[FieldError]:
    type, file = connection.get("type") or "", connection.get("kubeConfigFile")
    if not type:
        yield fielderrors.required(f"{path}.type")
    elif type == "InClusterConfig":
        if file is not None:
            yield fielderrors.invalid(f"{path}.kubeConfigFile", file, "can only be set when type=KubeConfigFile")
        elif problem := _no_cluster():
            yield fielderrors.invalid(f"{path}.type", type, problem)
    elif type != "KubeConfigFile":
        yield fielderrors.not_supported(f"{path}.type", type, ("InClusterConfig", "KubeConfigFile"))
    elif not file:
        yield fielderrors.required(f"{path}.kubeConfigFile")
    elif not Path(file).is_absolute():
        yield fielderrors.invalid(f"{path}.kubeConfigFile", file, "must be an absolute path")
    elif not Path(file).is_file():
        text = "must be a regular file" if Path(file).exists() else "error loading file: no such file or directory"
        yield fielderrors.invalid(f"{path}.kubeConfigFile", file, text)
