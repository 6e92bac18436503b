"""Why a patch does not apply.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply
"""

from __future__ import annotations


class PatchError(ValueError):
    """The patch does not fit the object; the message is upstream's."""


class BadPatch(PatchError):
    """The patch is malformed in itself: the API answers 400."""
