"""Set but empty is set: fields that may be absent are tested by ``is None``, where zero or empty means something.

A pointer in the published types tells an absent value from a zero one. A truth test of such a field
(``if spec.get(…)``, ``spec.get(…) or 1``) takes them for one; places where that is right are listed with their reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

SOURCE = Path(__file__).parent.parent / "src" / "tiphys"
NOT_EMPTY = "validation refuses an empty or zero value"
AS_ABSENT = "upstream takes an empty value for an absent one here, too"
ALLOWED = {
    ("authz/relations.py", "secretNamespace"): AS_ABSENT,
    ("endpointslice/hints.py", "zone"): AS_ABSENT,
    ("podautoscaler/behavior.py", "selectPolicy"): NOT_EMPTY,
    ("volumes/matching.py", "volumeMode"): NOT_EMPTY,
    ("container/runtime_config.py", "stopSignal"): NOT_EMPTY,
    ("container/security.py", "supplementalGroupsPolicy"): NOT_EMPTY,
    ("container/security.py", "localhostProfile"): NOT_EMPTY,
    ("container/mounts.py", "recursiveReadOnly"): NOT_EMPTY,
    ("node/network.py", "hostnameOverride"): NOT_EMPTY,
    ("pod/admission.py", "supplementalGroupsPolicy"): "a boolean of the runtime's, of the same name",
    ("volumes/payloads.py", "expirationSeconds"): NOT_EMPTY,
    ("plugins/pod_topology_spread.py", "minDomains"): NOT_EMPTY,
    ("validation/coordination.py", "preferredHolder"): AS_ABSENT,
    ("cel/schema/openapitypes.py", "$ref"): "a reference of a schema, which is never empty",
    ("registry/updating.py", "deletionGracePeriodSeconds"): "zero seconds are over",
    ("provisioner/plan.py", "volumeAttributesClassName"): AS_ABSENT,
    ("provisioner/plan.py", "reclaimPolicy"): NOT_EMPTY,
    ("provisioner/plan.py", "volumeMode"): NOT_EMPTY,
    ("provisioner/sources.py", "volumeMode"): NOT_EMPTY,
    ("snapshots/plan.py", "volumeMode"): NOT_EMPTY,
    ("csi/requests.py", "fsGroupPolicy"): NOT_EMPTY,
    ("csi/requests.py", "expirationSeconds"): NOT_EMPTY,
}


def pointers() -> set[str]:
    """The fields that are pointers to a number or a text wherever they occur."""
    paragraphs = (SOURCE / "api/data/types.txt").read_text().rstrip("\n").split("\n\n")[1:]
    lines = [line.split(" ", 1) for paragraph in paragraphs for line in paragraph.splitlines()[1:]]
    rows = [(name, (*orjson.loads(described), "")) for name, described in lines]
    optional = {name for name, row in rows if "p" in row[1] and row[0][0] in ("integer", "string")}
    return optional - {name for name, row in rows if "p" not in row[1] or row[0][0] == "boolean"}


def field_of(node: ast.expr) -> str | None:
    """The name in ``….get("name")`` or ``…["name"]``."""
    match node:
        case ast.NamedExpr(value=value):
            return field_of(value)
        case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(value=str(name))]):
            return name
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            return name
    return None


def is_zero(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=value):
            return not value
        case ast.List(elts=[]) | ast.Tuple(elts=[]) | ast.Dict(keys=[]):
            return True
    return False


def truth_tests(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        match node:
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
                yield from parts(test)
            case ast.comprehension(ifs=ifs):
                for test in ifs:
                    yield from parts(test)
            case ast.BoolOp(op=ast.Or(), values=[*values, last]) if not is_zero(last):
                for value in values:
                    yield from parts(value)


def parts(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield from parts(operand)
        case ast.BoolOp(values=values):
            for value in values:
                yield from parts(value)
        case _:
            yield node


def wrong(tree: ast.AST, fields: set[str]) -> Iterator[tuple[str, int]]:
    for node in truth_tests(tree):
        if (name := field_of(node)) in fields and name is not None:
            yield name, node.lineno


def test_absent_is_told_from_empty() -> None:
    fields = pointers()
    assert {"replicas", "uid", "defaultMode", "mode", "gracePeriodSeconds", "resourceVersion"} & fields
    found = []
    for path in SOURCE.rglob("*.py"):
        place = path.relative_to(SOURCE).as_posix()
        for name, line in wrong(ast.parse(path.read_text()), fields):
            if not any(place.endswith(file) and name == field for file, field in ALLOWED):
                found.append(f"{place}:{line}: {name}")
    assert found == [], "test these by `is None`, or say in ALLOWED why an empty value is none"


@pytest.mark.parametrize(
    ("code", "is_wrong"),
    [
        ('if spec.get("minReplicas"): pass', True),
        ('x = spec.get("minReplicas") or 1', True),
        ('x = spec.get("minReplicas") or 0', False),
        ('if spec.get("minReplicas") is not None: pass', False),
        ('x = [s for s in specs if not s["minReplicas"]]', True),
        ('if (n := spec.get("minReplicas")) and n > 1: pass', True),
    ],
)
def test_the_check_finds_what_it_is_for(code: str, is_wrong: bool) -> None:
    assert bool(list(wrong(ast.parse(code), {"minReplicas"}))) is is_wrong
