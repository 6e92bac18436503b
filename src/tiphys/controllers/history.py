"""Controller revisions: the templates that a StatefulSet or DaemonSet had, for rolling back.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/controller-revision-v1/
"""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from tiphys.api.object import Object
from tiphys.controlkit.objects import (
    annotations_of,
    controller_reference,
    copy,
    created_at,
    equal,
    name_of,
    namespace_of,
)
from tiphys.controllers.templates import safe_encode
from tiphys.runtime.binary.fnv import fnv32

HASH_LABEL = "controller-revision-hash"
"""On pods: the revision that they have. On revisions of a DaemonSet: their hash."""
REVISION_HASH_LABEL = "controller.kubernetes.io/hash"
"""On revisions of a StatefulSet."""


def template_patch(owner: Object) -> Object:
    """The revision's data: a strategic merge patch that puts the template in place of another.

    Its keys are sorted, as clients written in Go compare revisions byte by byte.
    """
    patch = {"spec": {"template": {**owner["spec"]["template"], "$patch": "replace"}}}
    result: Object = orjson.loads(orjson.dumps(patch, option=orjson.OPT_SORT_KEYS))
    return result


def same_data(left: Object, right: Object) -> bool:
    return equal(_bare(left), _bare(right))


def _bare(data: Object) -> Object:
    """The data without what old versions wrote and today's leave out."""
    template = dict((data.get("spec") or {}).get("template") or {})
    meta = {key: value for key, value in (template.get("metadata") or {}).items() if value is not None}
    return {**template, "metadata": meta or None}


def hash_of(data: Object, collision_count: int | None) -> str:
    """As upstream: FNV-32 over the patch as Go writes JSON."""
    raw = orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    for plain, escaped in ((b"<", b"\\u003c"), (b">", b"\\u003e"), (b"&", b"\\u0026")):
        raw = raw.replace(plain, escaped)
    if collision_count is not None:
        raw += str(collision_count).encode()
    return safe_encode(str(fnv32(raw)))


def revision_name(owner: str, digest: str) -> str:
    return f"{owner[:223]}-{digest}"


def new_revision(owner: Object, kind: str, revision: int, collision_count: int | None, label: str) -> Object:
    """The revision of the owner's template as it is now, with its hash in ``label``."""
    data = template_patch(owner)
    digest = hash_of(data, collision_count)
    labels = dict((owner["spec"]["template"].get("metadata") or {}).get("labels") or {})
    labels[label] = digest
    return {
        "kind": "ControllerRevision",
        "apiVersion": "apps/v1",
        "metadata": {
            "name": revision_name(name_of(owner), digest),
            "namespace": namespace_of(owner),
            "labels": labels,
            "annotations": dict(annotations_of(owner)),
            "ownerReferences": [controller_reference(owner, "apps/v1", kind)],
        },
        "data": data,
        "revision": revision,
    }


def in_order(revisions: Iterable[Object]) -> list[Object]:
    return sorted(revisions, key=lambda rev: (int(rev.get("revision") or 0), created_at(rev), name_of(rev)))


def applied(owner: Object, revision: Object) -> Object:
    """The owner with the template of a revision."""
    result: Object = copy(owner)
    template = copy(revision["data"]["spec"]["template"])
    template.pop("$patch", None)
    result["spec"]["template"] = template
    return result
