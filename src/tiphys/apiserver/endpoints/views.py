"""Other views of objects: as rows of a table, and as their metadata only.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""

from __future__ import annotations

from typing import Any

from tiphys.apiserver.endpoints.negotiation import PARTIAL, Form
from tiphys.apiserver.endpoints.target import Target

Object = dict[str, Any]


def partial(obj: Object, form: Form) -> Object:
    """A PartialObjectMetadata."""
    return {"kind": PARTIAL, "apiVersion": f"meta.k8s.io/{form.version}", "metadata": obj["metadata"]}


def table(target: Target, objects: list[Object], form: Form, revision: str) -> Object:
    """A Table of objects in the version of the call."""
    from tiphys.api.tables import table_for

    found = table_for(target.resource, objects, target.registry.clock.now(), include=form.include)
    found["apiVersion"] = f"meta.k8s.io/{form.version}"
    found.setdefault("metadata", {})["resourceVersion"] = revision
    return found
