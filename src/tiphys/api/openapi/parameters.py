"""The parameters of operations, in the query and in the path.

Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query or the path."""

    name: str
    description: str
    type: str = "string"
    place: str = "query"


PRETTY = Parameter("pretty", "Whether to indent the answer; on by default for browsers, curl and wget.")
NAMESPACE = Parameter("namespace", "object name and auth scope, such as for teams and projects", place="path")
PATH = Parameter("path", "the rest of the URL, which is asked for at the other end", place="path")
_DRY_RUN = Parameter("dryRun", "`All` runs every stage of the request and stores nothing.")
_MANAGER = "The name that owns what this request sets, of at most 128 printable characters"
MANAGER = Parameter("fieldManager", f"{_MANAGER}; the user agent's without it.")
_PATCHING = Parameter("fieldManager", f"{_MANAGER}; apply needs it, other patches have the user agent's without it.")
FIELD_VALIDATION = Parameter(
    "fieldValidation", "What to do about unknown and duplicate fields: `Ignore`, `Warn` (the default) or `Strict`."
)
_FORCE = Parameter("force", "For apply: take fields over that other managers own.", "boolean")
RESOURCE_VERSION = Parameter("resourceVersion", "The version of the data that may, or must, be served.")
SELECTING = (
    Parameter("continue", "The token of the next page, from the list before."),
    Parameter("fieldSelector", "Restricts the list of returned objects to those whose fields match."),
    Parameter("labelSelector", "Restricts the list of returned objects to those whose labels match."),
    Parameter("limit", "The most objects that one answer is to hold.", "integer"),
    RESOURCE_VERSION,
    Parameter("resourceVersionMatch", "How resourceVersion is meant: `NotOlderThan` or `Exact`."),
    Parameter("sendInitialEvents", "For a watch: begin with what exists, then a bookmark.", "boolean"),
    Parameter("shardSelector", "Behind a feature gate that is off: restricts the objects to those of a shard."),
    Parameter("timeoutSeconds", "Ends the call after so many seconds, whatever it is doing.", "integer"),
)
WATCHING = (
    Parameter("allowWatchBookmarks", "For a watch: allow events of type BOOKMARK.", "boolean"),
    *SELECTING,
    Parameter("watch", "Watch for changes to the described resources instead of answering once.", "boolean"),
)
DELETING = (
    _DRY_RUN,
    Parameter("gracePeriodSeconds", "Seconds that the object has left; 0 deletes at once.", "integer"),
    Parameter(
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "Behind a feature gate that is off: deletes an object that cannot be read, as if there was nothing to be done.",
        "boolean",
    ),
    Parameter("orphanDependents", "Deprecated in favour of propagationPolicy.", "boolean"),
    Parameter("propagationPolicy", "What becomes of dependents: `Orphan`, `Background` or `Foreground`."),
)
WRITING = (_DRY_RUN, MANAGER, FIELD_VALIDATION)
PATCHING = (_DRY_RUN, _PATCHING, FIELD_VALIDATION, _FORCE)

LOG = (
    Parameter("container", "Whose log to show; the pod's only container without it."),
    Parameter("follow", "Show what is logged from now on, too, until the container ends.", "boolean"),
    Parameter(
        "insecureSkipTLSVerifyBackend",
        "Do not check the certificate of the node: what is shown may then come from somebody else.",
        "boolean",
    ),
    Parameter("limitBytes", "The most bytes to show; the last line may be cut.", "integer"),
    Parameter("previous", "Show the log of the container's run before the current one.", "boolean"),
    Parameter("sinceSeconds", "Show lines of the last so many seconds only.", "integer"),
    Parameter("stream", "`All` (the default), `Stdout` or `Stderr`."),
    Parameter("tailLines", "The most lines to show, from the end.", "integer"),
    Parameter("timestamps", "Begin each line with its time in RFC 3339.", "boolean"),
)
_CONTAINER = Parameter("container", "Which container; the pod's only one without it.")
_STREAMS = (
    Parameter("stderr", "Carry the standard error stream.", "boolean"),
    Parameter("stdin", "Carry the standard input stream; not by default.", "boolean"),
    Parameter("stdout", "Carry the standard output stream.", "boolean"),
    Parameter("tty", "Give the process a terminal; not by default.", "boolean"),
)
_PROXIED = (Parameter("path", "The path to ask for at the other end."),)
CONNECTING: dict[str, tuple[Parameter, ...]] = {
    "PodAttachOptions": (_CONTAINER, *_STREAMS),
    "PodExecOptions": (
        Parameter("command", "The program and, each in a parameter of its own, its arguments; no shell reads them."),
        _CONTAINER,
        *_STREAMS,
    ),
    "PodPortForwardOptions": (Parameter("ports", "The ports to carry; needed over WebSocket.", "integer"),),
    "NodeProxyOptions": _PROXIED,
    "PodProxyOptions": _PROXIED,
    "ServiceProxyOptions": _PROXIED,
}
"""By the kind of the options of a connection."""
