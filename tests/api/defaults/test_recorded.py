"""Defaults against what a v1.36 server made of the same bodies."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from tests.recorded.conversations import cases
from tiphys.api.defaults import apply_defaults
from tiphys.api.scheme import GroupVersionKind

LATER = re.compile(
    r"""
    metadata\.(uid|resourceVersion|creationTimestamp|managedFields|generation|namespace|labels)
    |status(\..*)? |rules
    |(.*\.)?template\.metadata
    |(.*\.)?(initContainers|containers)\[\d+\]\.(resources|volumeMounts)
    |spec\.(tolerations|serviceAccountName|serviceAccount|priority|preemptionPolicy|volumes|taints|selector)
    |spec\.(ipFamilyPolicy|ipFamilies|clusterIPs?|ports\[\d+\]\.nodePort)
    """,
    re.VERBOSE,
)
"""What the registry, admission and the codec add."""


def _created() -> list[Any]:
    return [
        pytest.param(step["body"], answer["body"], id=f"{case['name']}-{i}")
        for case in cases("defaults")
        for i, (step, answer) in enumerate(zip(case["steps"], case["answers"], strict=True))
        if step["method"] == "POST" and not step.get("compare") and answer["status"] == 201
    ]


def differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = []
        for key in sorted(ours.keys() | theirs.keys()):
            at = f"{path}.{key}" if path else key
            if key not in ours:
                found += [] if LATER.fullmatch(at) else [f"missing {at}"]
            elif key not in theirs:
                found.append(f"extra {at}")
            else:
                found += differences(ours[key], theirs[key], at)
        return found
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [d for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) for d in differences(a, b, f"{path}[{i}]")]
    same = ours == theirs or (isinstance(theirs, str) and theirs.startswith("<"))
    return [] if same or LATER.fullmatch(path) else [f"{path}: {ours} is not {theirs}"]


@pytest.mark.parametrize(("body", "answer"), _created())
def test_case(body: dict[str, Any], answer: dict[str, Any]) -> None:
    obj = copy.deepcopy(body)
    group, _, version = obj["apiVersion"].rpartition("/")
    apply_defaults(obj, GroupVersionKind(group, version, obj["kind"]))
    assert differences(obj, answer) == []
