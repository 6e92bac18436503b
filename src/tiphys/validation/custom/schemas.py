"""Whether a value matches its schema; errors are in upstream's words.

A schema is checked part by part, in a fixed order (type, logical parts, string, format, number, array, enumeration,
object), and every part that applies has its say; what is found of a value that an update leaves as it was counts for
nothing. Sources: OpenAPI v3.0's schema object, https://json-schema.org/draft-04, and KEP-4008 (validation ratcheting).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tiphys.api import fielderrors
from tiphys.api.fielderrors import FieldError
from tiphys.api.gotext import json_text, quote, value_text
from tiphys.api.meta.regexp import matches
from tiphys.api.object import Object
from tiphys.validation.custom.formats import FORMATS, effective_format

Errors = list[FieldError]

INT_OR_STRING = "x-kubernetes-int-or-string"


class _Unknown:
    """Stands for an old value that nothing corresponds to."""


UNKNOWN = _Unknown()


def validate(value: Any, schema: Object | None, path: str = "", old: Any = UNKNOWN) -> Errors:
    """What is wrong with ``value``; ``path`` is where it is in the object. ``old`` is what it replaces."""
    if schema is None:
        return []
    result = _ratcheted(value, schema, "", old)
    return [finding.as_error(path) for finding in result.findings]


@dataclass(frozen=True, slots=True)
class Finding:
    """``place`` is None for what concerns no field in particular."""

    message: str
    place: str | None = None
    make: Callable[[str], FieldError] | None = None
    value: Any = ""

    def as_error(self, path: str) -> FieldError:
        if self.place is None:
            return fielderrors.invalid(path or "<nil>", "", self.message)
        name = self.place.removeprefix(".")
        at = f"{path}.{name}" if path and name else path or name or "<nil>"
        return self.make(at) if self.make is not None else fielderrors.invalid(at, self.value, self.message)


@dataclass(slots=True)
class Result:
    """``matched`` counts what did apply and hold: of several schemas that fail, the best one is reported."""

    findings: list[Finding] = field(default_factory=list)
    matched: int = 0

    def add(self, finding: Finding) -> None:
        if all(known.message != finding.message for known in self.findings):
            self.findings.append(finding)

    def merge(self, other: Result | None) -> None:
        if other is None:
            return
        for finding in other.findings:
            self.add(finding)
        self.matched += other.matched


def _failed(finding: Finding) -> Result:
    return Result([finding])


def _ratcheted(value: Any, schema: Object, path: str, old: Any) -> Result:
    result = _validate(value, schema, path, old)
    if result.findings and old is not UNKNOWN and same(value, old):
        return Result(matched=result.matched)
    return result


def _validate(value: Any, schema: Object, path: str, old: Any) -> Result:
    result = Result()
    if value is None:
        result.merge(_type(value, schema, path))
        result.merge(_enumeration(value, schema, path))
        return result
    for applies, part in _PARTS:
        if applies(value, schema):
            result.merge(part(value, schema, path, old))
            result.matched += 1
    result.matched += 1
    return result


# -- type and format


def _types(schema: Object) -> tuple[str, ...]:
    if schema.get(INT_OR_STRING):
        return ("integer", "string")
    return (schema["type"],) if schema.get("type") else ()


def _kind_of(value: Any) -> tuple[str, str]:
    """The type of a value, and the format that a number has by itself."""
    if isinstance(value, bool):
        return "boolean", ""
    if isinstance(value, str):
        return "string", ""
    if isinstance(value, int):
        return "integer", "int64"
    if isinstance(value, float):
        return "number", "float64"
    return ("array", "") if isinstance(value, list) else ("object", "")


def _type(value: Any, schema: Object, path: str, old: Any = UNKNOWN) -> Result:
    types, form = _types(schema), effective_format(schema)
    if value is None:
        if types and not schema.get("nullable"):
            return _failed(_wrong_type(path, ",".join(types), "null"))
        return Result(matched=1)
    kind, own_form = _kind_of(value)
    fits = (
        kind in types
        or (kind == "number" and "integer" in types and is_whole(value))
        or (kind == "integer" and "number" in types)
    )
    is_text = kind in ("string", "array")
    if not is_text and form and not fits and form != own_form:
        return _failed(_wrong_type(path, form, own_form))
    if form and is_text and not {"number", "integer"} & set(types):
        return Result(matched=1)
    if not fits:
        return _failed(_wrong_type(path, ",".join(types), kind))
    return Result(matched=1)


def _wrong_type(path: str, wanted: str, value: str) -> Finding:
    message = f"{path} in body must be of type {wanted}: {quote(value)}"
    return Finding(message, path, lambda at: fielderrors.type_invalid(at, value, message))


def _format(value: str, schema: Object, path: str, old: Any) -> Result | None:
    form = effective_format(schema)
    return None if FORMATS[form.replace("-", "")](value) else _failed(_wrong_type(path, form, value))


# -- strings


def _string(value: str, schema: Object, path: str, old: Any) -> Result | None:
    longest, shortest, pattern = schema.get("maxLength"), schema.get("minLength"), schema.get("pattern")
    if longest is not None and len(value) > longest:
        message = f"{path} in body should be at most {longest} chars long"
        return _failed(Finding(message, path, lambda at: fielderrors.too_long(at, longest)))
    if shortest is not None and len(value) < shortest:
        return _failed(Finding(f"{path} in body should be at least {shortest} chars long", path, value=value))
    if pattern and not matches(pattern, value):
        return _failed(Finding(f"{path} in body should match '{pattern}'", path, value=value))
    return None


# -- numbers

_BITS = {"int32": 2**31}
_MAX_FLOAT = 3.4028235677973366e38


def _number(value: float, schema: Object, path: str, old: Any) -> Result:
    result = Result(matched=1)
    if not _in_range(value, schema):
        result.add(_out_of_range("Checked", schema, path))
    factor, least, most = schema.get("multipleOf"), schema.get("minimum"), schema.get("maximum")
    if factor is not None:
        _limit(result, value, factor, "MultipleOf", schema, path, _multiple_of)
    if least is not None:
        _limit(result, value, least, "Minimum boundary", schema, path, _minimum)
    if most is not None:
        _limit(result, value, most, "Maximum boundary", schema, path, _maximum)
    return result


def _limit(
    result: Result,
    value: float,
    limit: float,
    name: str,
    schema: Object,
    path: str,
    check: Callable[[float, float, Object], str],
) -> None:
    """A limit that is itself no value of the type is compared as a plain number."""
    if _in_range(limit, schema):
        if isinstance(value, int):
            limit = int(limit)
    else:
        result.add(_out_of_range(name, schema, path))
        value, limit = float(value), float(limit)
    if text := check(value, limit, schema):
        if text.startswith("factor"):
            result.add(Finding(text.format(path), path, value=limit))
        else:
            result.add(Finding(f"{path} in body {text}", path, value=value))


def _multiple_of(value: float, factor: float, schema: Object) -> str:
    if factor <= 0:
        return f"factor MultipleOf declared for {{}} must be positive: {value_text(factor)}"
    if isinstance(value, int) and isinstance(factor, int):
        fits = value % factor == 0
    else:
        fits = is_whole(1 / factor * value if factor < 1 else value / factor)
    return "" if fits else f"should be a multiple of {value_text(factor)}"


_MAX_WHOLE = 2.0**53 - 1


def is_whole(value: float) -> bool:
    """Whether a float is a whole number that a float holds exactly, but for an error in its last digits."""
    if not -_MAX_WHOLE <= value <= _MAX_WHOLE:
        return False
    difference = abs(value - int(value))
    return difference == 0 or difference / (abs(value) + abs(int(value))) < 1e-9


def _maximum(value: float, limit: float, schema: Object) -> str:
    exclusive = schema.get("exclusiveMaximum")
    if value < limit or (value == limit and not exclusive):
        return ""
    return f"should be less than {'' if exclusive else 'or equal to '}{value_text(limit)}"


def _minimum(value: float, limit: float, schema: Object) -> str:
    exclusive = schema.get("exclusiveMinimum")
    if value > limit or (value == limit and not exclusive):
        return ""
    return f"should be greater than {'' if exclusive else 'or equal to '}{value_text(limit)}"


def _in_range(value: float, schema: Object) -> bool:
    """Whether a number is one of the schema's type, and of its size."""
    types, form = _types(schema), effective_format(schema)
    if types == ("integer",):
        bound = _BITS.get(form, 2**63)
        return float(value).is_integer() and -bound <= value < bound
    return form != "float" or abs(value) < _MAX_FLOAT


def _out_of_range(name: str, schema: Object, path: str) -> Finding:
    kind, form = schema.get("type", ""), effective_format(schema)
    size = f"with format {form}" if form else "(default format)"
    return Finding(f"{name} value must be of type {kind} {size} in {path}")


# -- arrays, enumerations, objects


def _array(value: list[Any], schema: Object, path: str, old: Any) -> Result:
    result = Result(matched=1)
    items = schema.get("items")
    if isinstance(items, dict):
        before = _by_keys(schema, old) if old is not UNKNOWN else {}
        for i, item in enumerate(value):
            known = before.get(_keys_of(schema, item), UNKNOWN) if before else UNKNOWN
            result.merge(_ratcheted(item, items, f"{path}[{i}]", known))
    least, most, size = schema.get("minItems"), schema.get("maxItems"), len(value)
    if least is not None and size < least:
        result.add(Finding(f"{path} in body should have at least {least} items", path, value=size))
    if most is not None and size > most:
        message = f"{path} in body should have at most {most} items"
        result.add(Finding(message, path, lambda at: fielderrors.too_many(at, size, most)))
    if schema.get("uniqueItems") and any(same(item, other) for i, item in enumerate(value) for other in value[:i]):
        result.add(Finding(f"{path} in body shouldn't contain duplicates", path))
    return result


def _by_keys(schema: Object, old: Any) -> dict[str, Any]:
    """The old items of a list by what identifies them; only those of a ``map`` list have an identity."""
    if schema.get("x-kubernetes-list-type") != "map" or not isinstance(old, list):
        return {}
    return {_keys_of(schema, item): item for item in old if isinstance(item, dict)}


def _keys_of(schema: Object, item: Any) -> str:
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    return json_text([item.get(key) for key in keys]) if isinstance(item, dict) else ""


def _enumeration(value: Any, schema: Object, path: str, old: Any = UNKNOWN) -> Result | None:
    allowed = schema.get("enum")
    if not allowed or any(same(value, other) for other in allowed if value is not None):
        return None
    shown = [other if isinstance(other, str) else json_text(other) for other in allowed]
    message = f"{path} in body should be one of {value_text(allowed)}"
    return _failed(Finding(message, path, lambda at: fielderrors.not_supported(at, value, shown)))


def _object(value: Object, schema: Object, path: str, old: Any) -> Result:
    """Validate an object against its properties; unchanged invalid parts are tolerated."""
    result = Result()
    size = len(value)
    least, most = schema.get("minProperties"), schema.get("maxProperties")
    if least is not None and size < least:
        result.add(Finding(f"{path} in body should have at least {least} properties", path, value=size))
    if most is not None and size > most:
        message = f"{path} in body should have at most {most} properties"
        result.add(Finding(message, path, lambda at: fielderrors.too_many(at, size, most)))
    properties, more = schema.get("properties") or {}, schema.get("additionalProperties")
    for name in value:
        if name in properties:
            continue
        if more is False:
            result.add(Finding(f"{path}.{name} in body is a forbidden property", path, value=name))
        elif isinstance(more, dict):
            result.merge(_ratcheted(value[name], more, f"{path}.{name}", _old_field(old, name, path)))
    for name, inner in properties.items():
        if name in value:
            here = f"{path}.{name}" if path else name
            result.merge(_ratcheted(value[name], inner, here, _old_field(old, name, path)))
    for name in schema.get("required") or ():
        if name not in value:
            here = f"{path}.{name}"
            result.add(Finding(f"{here} in body is required", here, fielderrors.required))
    return result


def _old_field(old: Any, name: str, path: str) -> Any:
    if not path and name in ("kind", "apiVersion"):
        return UNKNOWN
    return old.get(name, UNKNOWN) if isinstance(old, dict) else UNKNOWN


# -- logical parts


def _logic(value: Any, schema: Object, path: str, old: Any) -> Result:
    result = Result()
    if schema.get("anyOf"):
        _any_of(result, value, schema["anyOf"], path, old)
    if schema.get("oneOf"):
        _one_of(result, value, schema["oneOf"], path, old)
    if schema.get("allOf"):
        _all_of(result, value, schema["allOf"], path, old)
    if schema.get("not") is not None and not _validate(value, schema["not"], path, old).findings:
        result.add(Finding(f"{quote(path)} must not validate the schema (not)"))
    result.matched += 1
    return result


def _best(results: list[Result]) -> Result:
    return max(results, key=lambda result: result.matched)


def _any_of(total: Result, value: Any, schemas: list[Object], path: str, old: Any) -> None:
    failed: list[Result] = []
    for schema in schemas:
        result = _validate(value, schema, path, old)
        if not result.findings:
            total.merge(result)
            return
        failed.append(result)
    total.add(Finding(f"{quote(path)} must validate at least one schema (anyOf)"))
    total.merge(_best(failed))


def _one_of(total: Result, value: Any, schemas: list[Object], path: str, old: Any) -> None:
    results = [_validate(value, schema, path, old) for schema in schemas]
    valid = [result for result in results if not result.findings]
    if len(valid) == 1:
        total.merge(valid[0])
        return
    message = f"Found {len(valid)} valid alternatives" if valid else "Found none valid"
    total.add(Finding(f"{quote(path)} must validate one and only one schema (oneOf). {message}"))
    if not valid:
        total.merge(_best(results))


def _all_of(total: Result, value: Any, schemas: list[Object], path: str, old: Any) -> None:
    results = [_validate(value, schema, path, old) for schema in schemas]
    for result in results:
        total.merge(result)
    valid = sum(not result.findings for result in results)
    if valid < len(results):
        message = "" if valid else ". None validated"
        total.add(Finding(f"{quote(path)} must validate all the schemas (allOf){message}"))


def same(one: Any, other: Any) -> bool:
    """Equality of JSON values: true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


Applies = Callable[[Any, Object], bool]
Part = Callable[[Any, Object, str, Any], Result | None]


def _always(value: Any, schema: Object) -> bool:
    return True


def _is_number(value: Any, schema: Object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _has_format(value: Any, schema: Object) -> bool:
    return isinstance(value, str) and effective_format(schema).replace("-", "") in FORMATS


_PARTS: tuple[tuple[Applies, Part], ...] = (
    (lambda value, schema: bool(_types(schema) or effective_format(schema)), _type),
    (_always, _logic),
    (lambda value, schema: isinstance(value, str), _string),
    (_has_format, _format),
    (_is_number, _number),
    (lambda value, schema: isinstance(value, list), _array),
    (_always, _enumeration),
    (lambda value, schema: isinstance(value, dict), _object),
)
