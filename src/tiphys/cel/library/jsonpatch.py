"""What JSON patches need: keys in paths.

Source: https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-cel-libraries
"""

from __future__ import annotations

from tiphys.cel.checking.declarations import Library, overload

_ESCAPES = str.maketrans({"/": "~1", "~": "~0"})
LIBRARY = Library(
    [
        overload(
            "string_jsonpatch_escapeKey_string",
            "jsonpatch.escapeKey",
            "string -> string",
            lambda key: key.translate(_ESCAPES),
        )
    ]
)
