"""The options of each verb, from the query or the body, checked as upstream checks them.

Source: the query parameters of each operation in the API reference, and
https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

from tiphys.api import errors, fielderrors
from tiphys.api.codec import decode_delete_options
from tiphys.api.fielderrors import FieldError
from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.apiserver.call import Call
from tiphys.apiserver.registry.deleting import DeleteOptions
from tiphys.apiserver.requestinfo import is_true
from tiphys.runtime.remembering import remembered
from tiphys.validation.options import validate_delete_options, validate_patch_options, validate_write_options

_GROUP = "meta.k8s.io"
_MAX_MANAGER = 128
_INTEGER = re.compile("[+-]?[0-9]+").fullmatch
_MAX_DIGITS = 4000
"""Python refuses to read longer numbers; one cut short is out of range all the same."""


@dataclass(slots=True)
class WriteOptions:
    """Of create, update and patch. ``manager`` is the field manager, from the option or the user agent."""

    dry_run: bool = False
    manager: str = ""
    field_validation: str = "Warn"
    force: bool = False
    delete: DeleteOptions | None = None
    """Of a deletion."""


@dataclass(slots=True)
class ListOptions:
    label_selector: str = ""
    field_selector: str = ""
    resource_version: str = ""
    match: str = ""
    limit: int = 0
    continue_: str = ""
    bookmarks: bool = False
    initial_events: bool | None = None
    """None if it was not said, which is not the same as no."""
    timeout: int | None = None


def write_options(call: Call, kind: str, *, apply: bool = False) -> WriteOptions:
    """``kind`` is CreateOptions, UpdateOptions or PatchOptions. Raises 422."""
    parameters = call.parameters
    if not parameters and not apply:
        return WriteOptions(manager=manager_from_user_agent(call.user_agent))
    manager, validation = call.parameter("fieldManager"), call.parameter("fieldValidation")
    dry_run = parameters.get("dryRun", [])
    options: Object = {"fieldManager": manager, "fieldValidation": validation, "dryRun": dry_run}
    if "force" in parameters:
        options["force"] = is_true(parameters, "force")
    check = partial(validate_patch_options, apply=apply) if kind == "PatchOptions" else validate_write_options
    if problems := check(options):
        raise errors.invalid(_GROUP, kind, "", problems)
    named = manager or manager_from_user_agent(call.user_agent)
    return WriteOptions(bool(dry_run), named, validation or "Warn", options.get("force", False))


@remembered(1024, longest=256)
def manager_from_user_agent(agent: str) -> str:
    """The field manager of a client that names none: the product in its user agent."""
    product = agent.partition("/")[0]
    return "".join(c for c in product if c.isprintable())[:_MAX_MANAGER] or "unknown"


def list_options(call: Call, *, watch: bool) -> ListOptions:
    """Raises 400 and 422."""
    parameters = call.parameters
    if not parameters:
        return ListOptions()
    options = ListOptions(
        label_selector=call.parameter("labelSelector"),
        field_selector=call.parameter("fieldSelector"),
        resource_version=call.parameter("resourceVersion"),
        match=call.parameter("resourceVersionMatch"),
        limit=max(integer_parameter(call, "limit") or 0, 0),
        continue_=call.parameter("continue"),
        bookmarks=is_true(parameters, "allowWatchBookmarks"),
        initial_events=is_true(parameters, "sendInitialEvents") if "sendInitialEvents" in parameters else None,
        timeout=integer_parameter(call, "timeoutSeconds"),
    )
    problems = _check_watch(options) if watch else _check_list(options)
    if problems:
        raise errors.invalid(_GROUP, "ListOptions", "", problems)
    return options


def integer_parameter(call: Call, name: str) -> int | None:
    """A whole number of 64 bits. Raises 400."""
    if name not in call.parameters:
        return None
    text = call.parameter(name)
    if not _INTEGER(text):
        raise errors.bad_request(f"strconv.ParseInt: parsing {quote(text)}: invalid syntax")
    if not -(2**63) <= (value := int(text[:_MAX_DIGITS])) < 2**63:
        raise errors.bad_request(f"strconv.ParseInt: parsing {quote(text)}: value out of range")
    return value


def _check_list(options: ListOptions) -> list[FieldError]:
    problems: list[FieldError] = []
    name, match = "resourceVersionMatch", options.match
    if match:
        if not options.resource_version:
            text = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            problems.append(fielderrors.forbidden(name, text))
        if options.continue_:
            problems.append(fielderrors.forbidden(name, "resourceVersionMatch is forbidden when continue is provided"))
        if match not in ("Exact", "NotOlderThan"):
            problems.append(fielderrors.not_supported(name, match, ("Exact", "NotOlderThan", "")))
        if match == "Exact" and options.resource_version == "0":
            text = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            problems.append(fielderrors.forbidden(name, text))
    if options.initial_events is not None:
        problems.append(fielderrors.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return problems


def _check_watch(options: ListOptions) -> list[FieldError]:
    problems: list[FieldError] = []
    name, match = "resourceVersionMatch", options.match
    sent = options.initial_events is not None
    if sent and match != "NotOlderThan":
        text = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        problems.append(fielderrors.forbidden(name, text))
    if match:
        if not sent:
            text = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            problems.append(fielderrors.forbidden(name, text))
        if match != "NotOlderThan":
            problems.append(fielderrors.not_supported(name, match, ("NotOlderThan",)))
    if options.continue_:
        problems.append(fielderrors.forbidden(name, "resourceVersionMatch is forbidden when continue is provided"))
    return problems


def delete_options(call: Call) -> tuple[DeleteOptions, bool]:
    """The options, and whether it is a dry run; from the body if there is one, otherwise from the query."""
    request = call.request
    if request.body:
        source = decode_delete_options(request.body, request.headers.get("content-type", ""))
    else:
        source = _options_query(call)
    # Deleting objects that cannot be read is behind a feature gate that is off.
    source.pop("ignoreStoreReadErrorWithClusterBreakingPotential", None)
    return checked_delete_options(source), bool(source.get("dryRun"))


def checked_delete_options(source: Object) -> DeleteOptions:
    """Raises 422."""
    if problems := validate_delete_options(source):
        raise errors.invalid(_GROUP, "DeleteOptions", "", problems)
    preconditions = source.get("preconditions") or {}
    return DeleteOptions(
        grace=source.get("gracePeriodSeconds"),
        propagation=source.get("propagationPolicy") or "",
        orphan=source.get("orphanDependents"),
        uid=preconditions.get("uid"),
        resource_version=preconditions.get("resourceVersion"),
    )


def _options_query(call: Call) -> Object:
    parameters = call.parameters
    query: Object = {"dryRun": parameters.get("dryRun", [])}
    if "propagationPolicy" in parameters:
        query["propagationPolicy"] = call.parameter("propagationPolicy")
    if "gracePeriodSeconds" in parameters:
        query["gracePeriodSeconds"] = integer_parameter(call, "gracePeriodSeconds")
    if "orphanDependents" in parameters:
        query["orphanDependents"] = is_true(parameters, "orphanDependents")
    # In the query, unlike in a body, an empty precondition is none.
    query["preconditions"] = {name: text for name in ("uid", "resourceVersion") if (text := call.parameter(name))}
    return query
