"""Pods of one template: what is right about one of them is right about all.

The pods of a ReplicaSet or a Job differ in their names, and in the name of the volume that admission adds for the
token, and in nothing else that the rules for a specification look at. So it is remembered, by the text of all that they
look at, that a check found nothing. What a check finds is never remembered: it is found again, with this pod's values.
Text tells ``true`` from 1, 1 from 1.0, and absent from empty.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import orjson

from tiphys.api.object import Object
from tiphys.runtime.remembering import Recent

Finding = TypeVar("Finding")

_TOKEN_VOLUME = re.compile(rb'"kube-api-access-[a-z0-9]{5}"').search
_NAMED_BY_THE_POD = b'"ephemeral":'
"""Volumes whose claims have the pod's name in theirs."""
_ENTRIES, _LONGEST = 256, 8192


class Unobjectionable:
    """The specifications, with their annotations, about which a check had nothing to say lately."""

    def __init__(self) -> None:
        self._texts: Recent[None] = Recent(_ENTRIES, _LONGEST)

    def check(self, pod: Object, check: Callable[[Object], list[Finding]]) -> list[Finding]:
        """What ``check`` finds, which looks at nothing of the pod but its specification and its annotations."""
        text = likeness(pod)
        if text is not None and text in self._texts:
            return []
        findings = check(pod)
        if text is not None and not findings:
            self._texts.put(text, None)
        return findings


def likeness(pod: Object) -> bytes | None:
    """The text of a pod's specification and annotations, the same for pods that differ in the name of the volume for
    their token only; None if it depends on the pod's name what is right."""
    annotations = (pod.get("metadata") or {}).get("annotations")
    try:
        text = orjson.dumps((pod.get("spec"), annotations) if annotations else pod.get("spec"))
    except TypeError:  # a number of more than 64 bits, or half a character
        return None
    if _NAMED_BY_THE_POD in text:
        return None
    name = _TOKEN_VOLUME(text)
    # The text of JSON has no NUL, so that no other name can be taken for this one.
    return text if name is None else text.replace(name[0], b"\0")
