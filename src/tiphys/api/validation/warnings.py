"""Warnings: what is accepted, but should not be written. They go out in ``Warning`` headers."""

from __future__ import annotations

from typing import Any

from tiphys.api.scheme import GroupVersionKind

Object = dict[str, Any]


def warnings(obj: Object, old: Object | None, gvk: GroupVersionKind) -> list[str]:
    return []
