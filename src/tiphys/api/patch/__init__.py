"""Patches: JSON Patch, JSON Merge Patch, strategic merge patch."""

from tiphys.api.patch.failures import BadPatch, PatchError
from tiphys.api.patch.jsonpatch import json_patch
from tiphys.api.patch.mergepatch import merge_patch
from tiphys.api.patch.requests import (
    APPLY_PATCH,
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_MERGE_PATCH,
    patch_object,
)
from tiphys.api.patch.strategic import strategic_merge_patch

__all__ = [
    "APPLY_PATCH",
    "JSON_PATCH",
    "MERGE_PATCH",
    "STRATEGIC_MERGE_PATCH",
    "BadPatch",
    "PatchError",
    "json_patch",
    "merge_patch",
    "patch_object",
    "strategic_merge_patch",
]
