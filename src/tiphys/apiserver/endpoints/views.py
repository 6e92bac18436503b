"""Other views of objects: as rows of a table, and as their metadata only.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""

from __future__ import annotations

from typing import Any

from tiphys.api.tables import table_for
from tiphys.apiserver.endpoints.negotiation import PARTIAL, Form
from tiphys.apiserver.endpoints.target import Target

Object = dict[str, Any]


def partial(obj: Object, form: Form) -> Object:
    """A PartialObjectMetadata."""
    return {"kind": PARTIAL, "apiVersion": f"meta.k8s.io/{form.version}", "metadata": obj["metadata"]}


def table(target: Target, objects: list[Object], form: Form, meta: Object, headers: bool = True) -> Object:
    """A Table of objects in the version of the call; ``meta`` is that of the list."""
    include = form.include
    found = table_for(
        target.resource, objects, target.registry.clock.now(), list_meta=meta, include=include, headers=headers
    )
    found["apiVersion"] = f"meta.k8s.io/{form.version}"
    return found
