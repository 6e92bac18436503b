"""The options of each verb, from the query or the body, checked as upstream checks them.

Source: the query parameters of each operation in the API reference, and
https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from tiphys.api import errors, fielderrors, protobuf
from tiphys.api.fielderrors import FieldError
from tiphys.apiserver.call import Call
from tiphys.apiserver.registry.deleting import DeleteOptions
from tiphys.apiserver.requestinfo import Parameters, is_true

Object = dict[str, Any]

_GROUP = "meta.k8s.io"
_FIELD_VALIDATIONS = ("", "Ignore", "Strict", "Warn")
_PROPAGATIONS = ("Foreground", "Background", "Orphan", "nil")
_MAX_MANAGER = 128


@dataclass(slots=True)
class WriteOptions:
    """Of create, update and patch. ``manager`` is the field manager, from the option or the user agent."""

    dry_run: bool = False
    manager: str = ""
    field_validation: str = "Warn"
    force: bool = False


@dataclass(slots=True)
class ListOptions:
    label_selector: str = ""
    field_selector: str = ""
    resource_version: str = ""
    match: str = ""
    limit: int = 0
    continue_: str = ""
    bookmarks: bool = False
    initial_events: bool = False
    timeout: int | None = None


def write_options(call: Call, kind: str, apply: bool = False) -> WriteOptions:
    """``kind`` is CreateOptions, UpdateOptions or PatchOptions. Raises 422."""
    parameters = call.parameters
    if not parameters and not apply:
        return WriteOptions(manager=manager_from_user_agent(call.user_agent))
    dry_run = parameters.get("dryRun", [])
    manager = call.parameter("fieldManager")
    validation = call.parameter("fieldValidation")
    found: list[FieldError] = []
    if kind == "PatchOptions":
        found += _check_force(parameters, manager, apply)
    found += _check_manager(manager) + _check_dry_run(dry_run)
    if validation not in _FIELD_VALIDATIONS:
        found.append(fielderrors.not_supported("fieldValidation", validation, _FIELD_VALIDATIONS))
    if found:
        raise errors.invalid(_GROUP, kind, "", found)
    force = is_true(parameters, "force")
    named = manager or manager_from_user_agent(call.user_agent)
    return WriteOptions(bool(dry_run), named, validation or "Warn", force)


def _check_force(parameters: Parameters, manager: str, apply: bool) -> list[FieldError]:
    if not apply:
        forced = "force" in parameters
        return [fielderrors.forbidden("force", "may not be specified for non-apply patch")] if forced else []
    return [] if manager else [fielderrors.required("fieldManager", "is required for apply patch")]


def _check_manager(manager: str) -> list[FieldError]:
    found: list[FieldError] = []
    if len(manager.encode()) > _MAX_MANAGER:
        found.append(fielderrors.too_long("fieldManager", _MAX_MANAGER))
    for index, character in enumerate(manager):
        if not character.isprintable():
            at = len(manager[:index].encode())
            text = f"invalid character U+{ord(character):04X} (at position {at})"
            found.append(fielderrors.invalid("fieldManager", manager, text))
    return found


def _check_dry_run(values: list[str]) -> list[FieldError]:
    if set(values) <= {"All"}:
        return []
    return [fielderrors.not_supported("dryRun", values, ("All",))]


def manager_from_user_agent(agent: str) -> str:
    """The field manager of a client that names none: the product in its user agent."""
    product = "".join(c for c in agent.partition("/")[0] if c.isprintable())
    return product.encode()[:_MAX_MANAGER].decode(errors="ignore") or "unknown"


def list_options(call: Call, watch: bool) -> ListOptions:
    """Raises 400 and 422."""
    parameters = call.parameters
    if not parameters:
        return ListOptions()
    options = ListOptions(
        label_selector=call.parameter("labelSelector"),
        field_selector=call.parameter("fieldSelector"),
        resource_version=call.parameter("resourceVersion"),
        match=call.parameter("resourceVersionMatch"),
        limit=_integer(call, "limit") or 0,
        continue_=call.parameter("continue"),
        bookmarks=is_true(parameters, "allowWatchBookmarks"),
        initial_events=is_true(parameters, "sendInitialEvents"),
        timeout=_integer(call, "timeoutSeconds"),
    )
    sent = "sendInitialEvents" in parameters
    found = _check_watch(options, sent) if watch else _check_list(options, sent)
    if found:
        raise errors.invalid(_GROUP, "ListOptions", "", found)
    return options


def _integer(call: Call, name: str) -> int | None:
    text = call.parameter(name)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise errors.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def _check_list(options: ListOptions, sent: bool) -> list[FieldError]:
    found: list[FieldError] = []
    name, match = "resourceVersionMatch", options.match
    if match:
        if not options.resource_version:
            text = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            found.append(fielderrors.forbidden(name, text))
        if options.continue_:
            found.append(fielderrors.forbidden(name, "resourceVersionMatch is forbidden when continue is provided"))
        if match not in ("Exact", "NotOlderThan"):
            found.append(fielderrors.not_supported(name, match, ("Exact", "NotOlderThan", "")))
        if match == "Exact" and options.resource_version == "0":
            text = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            found.append(fielderrors.forbidden(name, text))
    if sent:
        found.append(fielderrors.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return found


def _check_watch(options: ListOptions, sent: bool) -> list[FieldError]:
    found: list[FieldError] = []
    name, match = "resourceVersionMatch", options.match
    if sent and match != "NotOlderThan":
        text = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        found.append(fielderrors.forbidden(name, text))
    if match:
        if not sent:
            text = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            found.append(fielderrors.forbidden(name, text))
        if match != "NotOlderThan":
            found.append(fielderrors.not_supported(name, match, ("NotOlderThan",)))
        if options.continue_:
            found.append(fielderrors.forbidden(name, "resourceVersionMatch is forbidden when continue is provided"))
    return found


def delete_options(call: Call) -> tuple[DeleteOptions, bool]:
    """The options, and whether it is a dry run; from the body where there is one, otherwise from the query."""
    body = call.request.body
    source = _options_body(call) if body else _options_query(call)
    preconditions = source.get("preconditions") or {}
    options = DeleteOptions(
        grace=source.get("gracePeriodSeconds"),
        propagation=source.get("propagationPolicy") or "",
        orphan=source.get("orphanDependents"),
        uid=preconditions.get("uid") or "",
        resource_version=preconditions.get("resourceVersion") or "",
        ignore_read_error=bool(source.get("ignoreStoreReadErrorWithClusterBreakingPotential")),
    )
    dry_run = source.get("dryRun") or []
    found = _check_propagation(options) + _check_dry_run(dry_run)
    if found:
        raise errors.invalid(_GROUP, "DeleteOptions", "", found)
    return options, bool(dry_run)


def _check_propagation(options: DeleteOptions) -> list[FieldError]:
    found: list[FieldError] = []
    if options.orphan is not None and options.propagation:
        text = "orphanDependents and deletionPropagation cannot be both set"
        found.append(fielderrors.invalid("propagationPolicy", options.propagation, text))
    if options.propagation not in ("", "Foreground", "Background", "Orphan"):
        found.append(fielderrors.not_supported("propagationPolicy", options.propagation, _PROPAGATIONS))
    return found


def _options_body(call: Call) -> Object:
    body = call.request.body
    content_type = call.request.headers.get("content-type", "")
    if "yaml" in content_type:
        import yaml

        try:
            found = yaml.load(body, Loader=yaml.CSafeLoader)
        except yaml.YAMLError as error:
            raise errors.bad_request(str(error)) from None
    elif content_type.startswith(protobuf.CONTENT_TYPE):
        try:
            found = protobuf.decode(body)
        except protobuf.ProtobufError as error:
            raise errors.bad_request(str(error)) from None
    else:
        try:
            found = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise errors.bad_request(str(error)) from None
    if not isinstance(found, dict) or not _well_typed(found):
        raise errors.bad_request("the body of a delete must be a DeleteOptions object")
    if found.get("kind", "DeleteOptions") != "DeleteOptions":
        raise errors.bad_request("decoded object cannot be converted to DeleteOptions")
    return found


_TYPES: dict[str, type | tuple[type, ...]] = {
    "gracePeriodSeconds": int,
    "propagationPolicy": str,
    "orphanDependents": bool,
    "preconditions": dict,
    "dryRun": list,
}


def _well_typed(options: Object) -> bool:
    return all(options.get(name) is None or isinstance(options[name], kind) for name, kind in _TYPES.items())


def _options_query(call: Call) -> Object:
    parameters = call.parameters
    found: Object = {name: parameters[name][0] for name in ("propagationPolicy",) if name in parameters}
    if "gracePeriodSeconds" in parameters:
        found["gracePeriodSeconds"] = _integer(call, "gracePeriodSeconds")
    if "orphanDependents" in parameters:
        found["orphanDependents"] = is_true(parameters, "orphanDependents")
    found["dryRun"] = parameters.get("dryRun", [])
    return found
