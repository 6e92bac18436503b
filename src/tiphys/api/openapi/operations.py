"""Operations: for each resource its paths, and for each path what can be done there.

An ``Operation`` says it once; ``documents`` renders it in the two versions of the specification.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tiphys.api.scheme import GroupVersionKind, Resource, Subresource

META = "io.k8s.apimachinery.pkg.apis.meta.v1"
VERSION_INFO = "io.k8s.apimachinery.pkg.version.Info"
PRODUCES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
PRODUCES_WATCH = (*PRODUCES, "application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")
PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
CUSTOM_PATCH_TYPES = tuple(t for t in PATCH_TYPES if not t.startswith("application/strategic"))


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query or the path."""

    name: str
    description: str
    type: str = "string"
    place: str = "query"


@dataclass(frozen=True, slots=True)
class Operation:
    """One HTTP method on one path. ``body`` and ``answer`` are names of definitions, empty where there is none."""

    method: str
    action: str
    """As ``x-kubernetes-action`` names it; empty for what is no resource."""
    id: str
    description: str
    gvk: GroupVersionKind
    parameters: tuple[Parameter, ...] = ()
    body: str = ""
    answer: str = ""
    created: bool = False
    """Whether 201 may be answered."""
    accepted: bool = False
    """Whether 202 may be answered."""
    consumes: tuple[str, ...] = ("*/*",)
    produces: tuple[str, ...] = PRODUCES
    tag: str = ""
    """Under which the operation is shown, where not under its API."""


@dataclass(frozen=True, slots=True)
class Path:
    path: str
    parameters: tuple[Parameter, ...]
    operations: tuple[Operation, ...]


PRETTY = Parameter("pretty", "Whether to indent the answer; on by default for browsers, curl and wget.")
NAMESPACE = Parameter("namespace", "object name and auth scope, such as for teams and projects", place="path")
_DRY_RUN = Parameter("dryRun", "`All` runs every stage of the request and stores nothing.")
_MANAGER = Parameter(
    "fieldManager", "The name that owns what this request sets, of at most 128 printable characters; apply needs it."
)
_FIELD_VALIDATION = Parameter(
    "fieldValidation", "What to do about unknown and duplicate fields: `Ignore`, `Warn` (the default) or `Strict`."
)
_FORCE = Parameter("force", "For apply: take fields over that other managers own.", "boolean")
_SELECTING = (
    Parameter("continue", "The token of the next page, from the list before."),
    Parameter("fieldSelector", "Restricts the objects to those whose fields match."),
    Parameter("labelSelector", "Restricts the objects to those whose labels match."),
    Parameter("limit", "The most objects that one answer is to hold.", "integer"),
    Parameter("resourceVersion", "The version of the data that may, or must, be served."),
    Parameter("resourceVersionMatch", "How resourceVersion is meant: `NotOlderThan` or `Exact`."),
    Parameter("sendInitialEvents", "For a watch: begin with what exists, then a bookmark.", "boolean"),
    Parameter("shardSelector", "Behind a feature gate that is off: restricts the objects to those of a shard."),
    Parameter("timeoutSeconds", "Ends the call after so many seconds, whatever it is doing.", "integer"),
)
_WATCHING = (
    Parameter("allowWatchBookmarks", "For a watch: allow events of type BOOKMARK.", "boolean"),
    *_SELECTING,
    Parameter("watch", "Follow the changes instead of answering once.", "boolean"),
)
_DELETING = (
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
_WRITING = (_DRY_RUN, _MANAGER, _FIELD_VALIDATION)


def base_path(group: str, version: str) -> str:
    return f"/apis/{group}/{version}" if group else f"/api/{version}"


def camel(group: str, version: str) -> str:
    """``AppsV1``, ``CoreV1``, ``RbacAuthorizationV1``: the part of operation ids that names the API."""
    words = (group.removesuffix(".k8s.io") or "core").split(".")
    return "".join(word[:1].upper() + word[1:] for word in words) + version[:1].upper() + version[1:]


def root_path(group: str, version: str) -> Path:
    """The path that lists a version's resources."""
    operation = Operation(
        "get",
        "",
        f"get{camel(group, version)}APIResources",
        "get available resources",
        GroupVersionKind(group, version, "APIResourceList"),
        answer=f"{META}.APIResourceList",
        produces=PRODUCES,
    )
    return Path(f"{base_path(group, version)}/", (), (operation,))


def group_path(group: str) -> Path:
    """The path that lists a group's versions."""
    ident = f"get{camel(group, '')}APIGroup"
    return _document(f"apis/{group}", ident, "get information of a group", f"{META}.APIGroup", tag=camel_tag(group))


def server_paths() -> tuple[Path, ...]:
    """The paths that say what is served, and by whom."""
    versions = "get available API versions"
    json, keys = ("application/json",), ("application/jwk-set+json",)
    issuer = "get service account issuer OpenID"
    return (
        _document("api", "getCoreAPIVersions", versions, f"{META}.APIVersions", "core"),
        _document("apis", "getAPIVersions", versions, f"{META}.APIGroupList", "apis"),
        _document(
            "version", "getCodeVersion", "get the version information for this server", VERSION_INFO, "version", json
        ),
        _document(
            ".well-known/openid-configuration",
            "getServiceAccountIssuerOpenIDConfiguration",
            f"{issuer} configuration, also known as the 'OIDC discovery doc'",
            "string",
            "WellKnown",
            json,
        ),
        _document(
            "openid/v1/jwks",
            "getServiceAccountIssuerOpenIDKeyset",
            f"{issuer} JSON Web Key Set (contains public token verification keys)",
            "string",
            "openid",
            keys,
        ),
    )


def _document(
    name: str, ident: str, description: str, answer: str, tag: str, produces: tuple[str, ...] = PRODUCES
) -> Path:
    nothing = GroupVersionKind("", "", "")
    return Path(
        f"/{name}/", (), (Operation("get", "", ident, description, nothing, answer=answer, produces=produces, tag=tag),)
    )


def camel_tag(group: str) -> str:
    """``apps``, ``rbacAuthorization``."""
    first, *others = (group.removesuffix(".k8s.io") or "core").split(".")
    return first + "".join(word.capitalize() for word in others)


def paths_of(resource: Resource, version: str) -> Iterator[Path]:
    """Every path under which a resource is served in one version."""
    base = base_path(resource.group, version)
    prefix = f"{base}/namespaces/{{namespace}}" if resource.namespaced else base
    place = (NAMESPACE, PRETTY) if resource.namespaced else (PRETTY,)
    name = Parameter("name", f"name of the {resource.kind}", place="path")
    if operations := tuple(_collection(resource, version)):
        yield Path(f"{prefix}/{resource.plural}", place, operations)
    if resource.namespaced and "list" in resource.verbs:
        everywhere = _list(resource, version, f"{resource.kind}ForAllNamespaces")
        yield Path(f"{base}/{resource.plural}", (PRETTY,), (everywhere,))
    if operations := tuple(_single(resource, version)):
        yield Path(f"{prefix}/{resource.plural}/{{name}}", (name, *place), operations)
    for subresource in resource.subresources_in(version):
        path = f"{prefix}/{resource.plural}/{{name}}/{subresource.name}"
        yield Path(path, (name, *place), tuple(_sub(resource, version, subresource)))


def _collection(resource: Resource, version: str) -> Iterator[Operation]:
    noun = _noun(resource)
    if "deletecollection" in resource.verbs:
        yield Operation(
            "delete",
            "deletecollection",
            f"delete{camel(resource.group, version)}Collection{noun}",
            f"delete collection of {resource.kind}",
            resource.gvk(version),
            tuple(sorted((*_SELECTING, *_DELETING), key=lambda parameter: parameter.name)),
            body=f"{META}.DeleteOptions",
            answer=f"{META}.Status",
        )
    if "list" in resource.verbs:
        yield _list(resource, version, noun)
    if "create" in resource.verbs:
        yield Operation(
            "post",
            "post",
            f"create{camel(resource.group, version)}{noun}",
            f"create {_article(resource.kind)} {resource.kind}",
            resource.gvk(version),
            _WRITING,
            body=resource.definitions[version],
            answer=resource.definitions[version],
            created=True,
            accepted=True,
        )


def _list(resource: Resource, version: str, noun: str) -> Operation:
    return Operation(
        "get",
        "list",
        f"list{camel(resource.group, version)}{noun}",
        f"list or watch objects of kind {resource.kind}",
        resource.gvk(version),
        _WATCHING,
        answer=f"{resource.definitions[version]}List",
        produces=PRODUCES_WATCH,
    )


def _single(resource: Resource, version: str) -> Iterator[Operation]:
    ident, noun, gvk = camel(resource.group, version), _noun(resource), resource.gvk(version)
    kind = resource.definitions[version]
    if "get" in resource.verbs:
        yield Operation("get", "get", f"read{ident}{noun}", f"read the specified {resource.kind}", gvk, answer=kind)
    if "update" in resource.verbs:
        yield _put(f"replace{ident}{noun}", f"replace the specified {resource.kind}", gvk, kind)
    if "patch" in resource.verbs:
        patching = f"partially update the specified {resource.kind}"
        yield _patch(f"patch{ident}{noun}", patching, gvk, kind, resource.builtin)
    if "delete" in resource.verbs:
        yield Operation(
            "delete",
            "delete",
            f"delete{ident}{noun}",
            f"delete {_article(resource.kind)} {resource.kind}",
            gvk,
            _DELETING,
            body=f"{META}.DeleteOptions",
            answer=f"{META}.Status",
            accepted=True,
        )


def _sub(resource: Resource, version: str, sub: Subresource) -> Iterator[Operation]:
    ident, noun = camel(resource.group, version), _noun(resource) + sub.name[:1].upper() + sub.name[1:]
    gvk = sub.kind or resource.gvk(version)
    kind = _definition(sub.kind) if sub.kind else resource.definitions[version]
    what = f"{sub.name} of the specified {resource.kind}"
    if sub.kind and sub.kind.kind.endswith(("Options",)):
        yield from _connect(ident, noun, sub, resource, gvk)
        return
    if "get" in sub.verbs:
        yield Operation("get", "get", f"read{ident}{noun}", f"read {what}", gvk, answer=kind)
    if "update" in sub.verbs:
        yield _put(f"replace{ident}{noun}", f"replace {what}", gvk, kind)
    if "patch" in sub.verbs:
        yield _patch(f"patch{ident}{noun}", f"partially update {what}", gvk, kind, resource.builtin)
    if "create" in sub.verbs:
        creating = (f"create{ident}{noun}", f"create {what}", gvk, _WRITING)
        yield Operation("post", "post", *creating, body=kind, answer=kind, created=True, accepted=True)


def _connect(ident: str, noun: str, sub: Subresource, resource: Resource, gvk: GroupVersionKind) -> Iterator[Operation]:
    methods = {"get": "get", "create": "post", "update": "put", "patch": "patch", "delete": "delete"}
    for verb in sub.verbs:
        method = methods[verb]
        yield Operation(
            method,
            "connect",
            f"connect{ident}{method.capitalize()}{noun}",
            f"connect {method.upper()} requests to {sub.name} of {resource.kind}",
            gvk,
            answer="string",
            produces=("*/*",),
        )


def _put(ident: str, description: str, gvk: GroupVersionKind, kind: str) -> Operation:
    return Operation("put", "put", ident, description, gvk, _WRITING, body=kind, answer=kind, created=True)


def _patch(ident: str, description: str, gvk: GroupVersionKind, kind: str, builtin: bool) -> Operation:
    types = PATCH_TYPES if builtin else CUSTOM_PATCH_TYPES
    parameters = (*_WRITING, _FORCE)
    patch = f"{META}.Patch"
    return Operation(
        "patch", "patch", ident, description, gvk, parameters, body=patch, answer=kind, created=True, consumes=types
    )


def _definition(gvk: GroupVersionKind) -> str:
    from tiphys.api.resources import definition_name

    return definition_name(gvk)


def _noun(resource: Resource) -> str:
    return f"Namespaced{resource.kind}" if resource.namespaced else resource.kind


def _article(kind: str) -> str:
    return "an" if kind[0] in "AEIOU" else "a"
