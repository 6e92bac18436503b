"""Operations: for each resource its paths, and for each path what can be done there.

An ``Operation`` says it once; ``documents`` renders it in the two versions of the specification.

Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tiphys.api.openapi.parameters import (
    CONNECTING,
    DELETING,
    LOG,
    NAMESPACE,
    PATCHING,
    PATH,
    PRETTY,
    RESOURCE_VERSION,
    SELECTING,
    WATCHING,
    WRITING,
    Parameter,
)
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
CUSTOM = ("application/json", "application/yaml")
"""What custom resources are written in."""
RETURNED = frozenset(
    [("", plural) for plural in ("persistentvolumeclaims", "persistentvolumes", "pods", "podtemplates")]
    + [("", plural) for plural in ("resourcequotas", "serviceaccounts", "services")]
    + [("resource.k8s.io", f"{plural}s") for plural in ("resourceclaim", "resourceclaimtemplate", "resourceslice")]
    + [("resource.k8s.io", "deviceclasses"), ("storage.k8s.io", "csidrivers"), ("storage.k8s.io", "csinodes")]
    + [("storage.k8s.io", plural) for plural in ("storageclasses", "volumeattachments", "volumeattributesclasses")]
)
"""Resources whose deletion answers with the object, by group and plural; that of others answers with a Status."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One HTTP method on one path. ``body`` and ``answer`` are names of definitions, empty if it has none."""

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
    """Under which the operation is shown, if not under its API."""


@dataclass(frozen=True, slots=True)
class Path:
    path: str
    parameters: tuple[Parameter, ...]
    operations: tuple[Operation, ...]


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
        consumes=PRODUCES,
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
            (),
        ),
        _document(
            "openid/v1/jwks",
            "getServiceAccountIssuerOpenIDKeyset",
            f"{issuer} JSON Web Key Set (contains public token verification keys)",
            "string",
            "openid",
            keys,
            (),
        ),
    )


def _document(
    name: str,
    ident: str,
    description: str,
    answer: str,
    tag: str,
    produces: tuple[str, ...] = PRODUCES,
    consumes: tuple[str, ...] | None = None,
) -> Path:
    """``consumes`` is what is produced if nothing is said of it."""
    consumes = produces if consumes is None else consumes
    operation = Operation(
        "get", "", ident, description, GroupVersionKind("", "", ""),
        answer=answer, produces=produces, consumes=consumes, tag=tag,
    )  # fmt: skip
    return Path(f"/{name}/", (), (operation,))


def camel_tag(group: str) -> str:
    """``apps``, ``rbacAuthorization``."""
    first, *others = (group.removesuffix(".k8s.io") or "core").split(".")
    return first + "".join(word.capitalize() for word in others)


def paths_of(resource: Resource, version: str) -> Iterator[Path]:
    """Every path under which a resource is served in one version."""
    base = base_path(resource.group, version)
    prefix = f"{base}/namespaces/{{namespace}}" if resource.namespaced else base
    place = (NAMESPACE, PRETTY) if resource.namespaced else (PRETTY,)
    name = _name_of(resource.kind)
    if operations := tuple(_collection(resource, version)):
        yield Path(f"{prefix}/{resource.plural}", place, operations)
    if resource.namespaced and "list" in resource.verbs:
        everywhere = _list(resource, version, f"{resource.kind}ForAllNamespaces")
        yield Path(f"{base}/{resource.plural}", (PRETTY,), (everywhere,))
    if operations := tuple(_single(resource, version)):
        yield Path(f"{prefix}/{resource.plural}/{{name}}", (name, *place), operations)
    for subresource in resource.subresources_in(version):
        path = f"{prefix}/{resource.plural}/{{name}}/{subresource.name}"
        yield from _parts(path, place, resource, version, subresource)
    if "watch" in resource.verbs and resource.builtin:
        yield from _watches(base, place, resource, version)


def _name_of(kind: str) -> Parameter:
    return Parameter("name", f"name of the {kind}", place="path")


def _parts(
    path: str, place: tuple[Parameter, ...], resource: Resource, version: str, sub: Subresource
) -> Iterator[Path]:
    """The path of a subresource; what is proxied has those below it, too."""
    kind = sub.kind.kind if sub.kind else resource.kind
    if not kind.endswith("Options"):
        more = LOG if sub.name == "log" else ()
        yield Path(path, (_name_of(kind), *place, *more), tuple(_sub(resource, version, sub)))
        return
    parameters = (_name_of(kind), *(p for p in place if p is not PRETTY), *CONNECTING[kind])
    yield Path(path, parameters, tuple(_connect(resource, version, sub)))
    if sub.name == "proxy":
        below = tuple(_connect(resource, version, sub, "WithPath"))
        yield Path(f"{path}/{{path}}", (*parameters, PATH), below)


def _watches(base: str, place: tuple[Parameter, ...], resource: Resource, version: str) -> Iterator[Path]:
    """The older way to watch: by the path."""
    plural, kind = resource.plural, resource.kind
    if resource.namespaced:
        everywhere = _watch(resource, version, f"{kind}ListForAllNamespaces", "watchlist")
        yield Path(f"{base}/watch/{plural}", (PRETTY, *WATCHING), (everywhere,))
    prefix = f"{base}/watch/namespaces/{{namespace}}" if resource.namespaced else f"{base}/watch"
    listed = _watch(resource, version, f"{_noun(resource)}List", "watchlist")
    yield Path(f"{prefix}/{plural}", (*place, *WATCHING), (listed,))
    if "get" in resource.verbs:
        single = _watch(resource, version, _noun(resource), "watch")
        yield Path(f"{prefix}/{plural}/{{name}}", (_name_of(kind), *place, *WATCHING), (single,))


def _watch(resource: Resource, version: str, noun: str, action: str) -> Operation:
    what = f"one {resource.kind}" if action == "watch" else f"objects of kind {resource.kind}"
    return Operation(
        "get",
        action,
        f"watch{camel(resource.group, version)}{noun}",
        f"watch {what}; deprecated: list with the parameter 'watch' and, for one object, 'fieldSelector'",
        resource.gvk(version),
        answer=f"{META}.WatchEvent",
        produces=PRODUCES_WATCH,
    )


def _collection(resource: Resource, version: str) -> Iterator[Operation]:
    """The operations on a collection: delete, list and create."""
    noun = _noun(resource)
    if "deletecollection" in resource.verbs:
        yield Operation(
            "delete",
            "deletecollection",
            f"delete{camel(resource.group, version)}Collection{noun}",
            f"delete collection of {resource.kind}",
            resource.gvk(version),
            tuple(sorted((*SELECTING, *DELETING), key=lambda p: p.name)) if resource.builtin else WATCHING,
            body=f"{META}.DeleteOptions" if resource.builtin else "",
            answer=f"{META}.Status",
            produces=_media(resource),
            consumes=_read(resource),
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
            WRITING,
            body=resource.definitions[version],
            answer=resource.definitions[version],
            created=True,
            accepted=True,
            produces=_media(resource),
            consumes=_read(resource),
        )


def _list(resource: Resource, version: str, noun: str) -> Operation:
    return Operation(
        "get",
        "list",
        f"list{camel(resource.group, version)}{noun}",
        f"list or watch objects of kind {resource.kind}",
        resource.gvk(version),
        WATCHING,
        answer=f"{resource.definitions[version]}List",
        produces=PRODUCES_WATCH if resource.builtin else CUSTOM,
        consumes=_read(resource),
    )


def _single(resource: Resource, version: str) -> Iterator[Operation]:
    """The operations on one object: get, put, patch and delete."""
    ident, noun, gvk = camel(resource.group, version), _noun(resource), resource.gvk(version)
    kind, media = resource.definitions[version], _media(resource)
    if "get" in resource.verbs:
        yield _get(resource, f"read{ident}{noun}", f"read the specified {resource.kind}", gvk, kind)
    if "update" in resource.verbs:
        yield _put(resource, f"replace{ident}{noun}", f"replace the specified {resource.kind}", gvk, kind)
    if "patch" in resource.verbs:
        yield _patch(resource, f"patch{ident}{noun}", f"partially update the specified {resource.kind}", gvk, kind)
    if "delete" in resource.verbs:
        yield Operation(
            "delete",
            "delete",
            f"delete{ident}{noun}",
            f"delete {_article(resource.kind)} {resource.kind}",
            gvk,
            DELETING,
            body=f"{META}.DeleteOptions",
            answer=kind if (resource.group, resource.plural) in RETURNED else f"{META}.Status",
            accepted=True,
            produces=media,
            consumes=_read(resource),
        )


def _media(resource: Resource) -> tuple[str, ...]:
    return PRODUCES if resource.builtin else CUSTOM


def _read(resource: Resource) -> tuple[str, ...]:
    """What bodies are read in; built-in kinds leave it open."""
    return ("*/*",) if resource.builtin else CUSTOM


def _sub(resource: Resource, version: str, sub: Subresource) -> Iterator[Operation]:
    """The operations on a subresource, by its verbs."""
    ident, noun = camel(resource.group, version), _noun(resource) + sub.name[:1].upper() + sub.name[1:]
    gvk = sub.kind if sub.kind and resource.builtin else resource.gvk(version)
    kind = _definition(sub.kind) if sub.kind else resource.definitions[version]
    what, tag = f"{sub.name} of the specified {resource.kind}", tag_of(resource.group, version)
    if sub.name == "log":
        yield Operation(
            "get", "get", f"read{ident}{noun}", f"read {what}", gvk,
            answer="string", produces=("text/plain", *PRODUCES), tag=tag,
        )  # fmt: skip
        return
    if "get" in sub.verbs:
        yield _get(resource, f"read{ident}{noun}", f"read {what}", gvk, kind, tag)
    if "update" in sub.verbs:
        yield _put(resource, f"replace{ident}{noun}", f"replace {what}", gvk, kind, tag)
    if "patch" in sub.verbs:
        yield _patch(resource, f"patch{ident}{noun}", f"partially update {what}", gvk, kind, tag)
    if "create" in sub.verbs:
        yield Operation(
            "post", "post", f"create{ident}{noun}", f"create {what}", gvk, WRITING,
            body=kind, answer=kind, created=True, accepted=True, tag=tag,
        )  # fmt: skip


_METHODS = {"get": "get", "create": "post", "update": "put", "patch": "patch", "delete": "delete"}


def _connect(resource: Resource, version: str, sub: Subresource, suffix: str = "") -> Iterator[Operation]:
    ident, noun = camel(resource.group, version), _noun(resource) + sub.name[:1].upper() + sub.name[1:]
    methods = [_METHODS[verb] for verb in sub.verbs] + (["head", "options"] if sub.name == "proxy" else [])
    for method in methods:
        yield Operation(
            method,
            "connect",
            f"connect{ident}{method.capitalize()}{noun}{suffix}",
            f"connect {method.upper()} requests to {sub.name} of {resource.kind}",
            sub.kind or resource.gvk(version),
            answer="string",
            produces=("*/*",),
            tag=tag_of(resource.group, version),
        )


def _get(
    resource: Resource, ident: str, description: str, gvk: GroupVersionKind, kind: str, tag: str = ""
) -> Operation:
    parameters = () if resource.builtin else (RESOURCE_VERSION,)
    return Operation(
        "get", "get", ident, description, gvk, parameters, answer=kind, produces=_media(resource), tag=tag,
        consumes=_read(resource),
    )  # fmt: skip


def _put(
    resource: Resource, ident: str, description: str, gvk: GroupVersionKind, kind: str, tag: str = ""
) -> Operation:
    media = _media(resource)
    return Operation(
        "put", "put", ident, description, gvk, WRITING, body=kind, answer=kind, created=True, produces=media,
        consumes=_read(resource), tag=tag,
    )  # fmt: skip


def _patch(
    resource: Resource, ident: str, description: str, gvk: GroupVersionKind, kind: str, tag: str = ""
) -> Operation:
    types = PATCH_TYPES if resource.builtin else CUSTOM_PATCH_TYPES
    return Operation(
        "patch", "patch", ident, description, gvk, PATCHING, body=f"{META}.Patch", answer=kind,
        created=resource.builtin, consumes=types, produces=_media(resource), tag=tag,
    )  # fmt: skip


def tag_of(group: str, version: str) -> str:
    """Under what the operations of an API are shown: ``core_v1``."""
    return f"{camel_tag(group)}_{version}"


def _definition(gvk: GroupVersionKind) -> str:
    from tiphys.api.resources import definition_name

    return definition_name(gvk)


def _noun(resource: Resource) -> str:
    return f"Namespaced{resource.kind}" if resource.namespaced else resource.kind


def _article(kind: str) -> str:
    return "an" if kind[0] in "AEIOU" else "a"
