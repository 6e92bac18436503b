"""Where a webhook is: by its URL, or by a service in the cluster.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#webhookclientconfig-v1-admissionregistration-k8s-io
"""

from __future__ import annotations

from urllib.parse import urlsplit

from tiphys.api import fielderrors as field
from tiphys.api.gotext import quote
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.validation.shared.common import (
    Errors,
)

_FORM = "; desired format: https://host[/path]"


def client_config(errs: Errors, config: Object, path: str) -> None:
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        errs.append(field.required(path, "exactly one of url or service is required"))
    elif url is not None:
        webhook_url(errs, url, f"{path}.url")
    elif service is not None:
        webhook_service(errs, service, f"{path}.service")


def webhook_url(errs: Errors, url: str, path: str) -> None:
    """Validate a webhook's URL: https, with a host, without user, query or fragment. Appends to ``errs``."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        _ = parts.port
    except ValueError as e:
        errs.append(field.required(path, f"url must be a valid URL: parse {quote(url)}: {e}{_FORM}"))
        return
    if parts.scheme != "https":
        errs.append(field.invalid(path, parts.scheme, f"'https' is the only allowed URL scheme{_FORM}"))
    if not host:
        errs.append(field.invalid(path, host, f"host must be specified{_FORM}"))
    if "@" in parts.netloc:
        user = parts.netloc.rpartition("@")[0]
        errs.append(field.invalid(path, user, "user information is not permitted in the URL"))
    if parts.fragment:
        errs.append(field.invalid(path, parts.fragment, "fragments are not permitted in the URL"))
    if parts.query:
        errs.append(field.invalid(path, parts.query, "query parameters are not permitted in the URL"))


def webhook_service(errs: Errors, service: Object, path: str) -> None:
    """A missing name is reported as a missing namespace and vice versa, as upstream does."""
    namespace, name = service.get("name"), service.get("namespace")
    if not name:
        errs.append(field.required(f"{path}.name"))
    if not namespace:
        errs.append(field.required(f"{path}.namespace"))
    port = service.get("port") or 0
    if problems := names.port_number(port):
        errs.append(field.invalid(f"{path}.port", port, f"port is not valid: {', '.join(problems)}"))
    url_path = service.get("path")
    if url_path and url_path != "/":
        _url_path(errs, url_path, f"{path}.path")


def _url_path(errs: Errors, url_path: str, path: str) -> None:
    if url_path == "//":
        errs.append(field.invalid(path, url_path, "segment[0] may not be empty"))
        return
    if not url_path.startswith("/"):
        errs.append(field.invalid(path, url_path, "must start with a '/'"))
    for i, step in enumerate(url_path[1:].removesuffix("/").split("/")):
        if not step:
            errs.append(field.invalid(path, url_path, f"segment[{i}] may not be empty"))
            continue
        for text in names.dns1123_subdomain(step):
            errs.append(field.invalid(path, url_path, f"segment[{i}]: {text}"))
