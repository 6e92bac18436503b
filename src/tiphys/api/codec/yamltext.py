"""YAML bodies, turned into JSON as upstream does it before it decodes them.

Only the first document counts. Scalars are resolved by YAML 1.1's rules in the variant of ``yaml.v2``: ``yes``, ``on``
and ``y`` are booleans, dates stay text. Merge keys and aliases work; what aliases add up to is bounded.
Source: https://yaml.org/spec/1.1/, the documentation of ``sigs.k8s.io/yaml``.
"""

from __future__ import annotations

import base64
import binascii
import re
from functools import cache
from typing import Any

import orjson

from tiphys.api.gotext import json_text, quote, value_text

MAX_NODES = 1_000_000


class YAMLError(ValueError):
    """The text is not YAML, or not what JSON can say; the message is upstream's."""


_BOOLEANS = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_NULLS = {"", "~", "null", "Null", "NULL"}
_INFINITE = {".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF"}
_NOT_NUMBERS = {".nan", ".NaN", ".NAN"}
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?").fullmatch
_INTEGER = re.compile(r"[-+]?(0b[01]+|0o[0-7]+|0x[0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)").fullmatch
_TAG = "tag:yaml.org,2002:"
PLAIN, TEXT, MERGED = "plain", "text", "merged"
_RESOLVED = {PLAIN, f"{_TAG}int", f"{_TAG}float", f"{_TAG}bool", f"{_TAG}null"}


def to_json(data: bytes) -> tuple[bytes, list[str]]:
    """The first document as JSON, keys sorted, and the keys that are repeated. Raises ``YAMLError``."""
    converter = _Converter()
    node = _compose(data)
    value = converter.value(node) if node is not None else None
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS), converter.duplicates
    except TypeError as error:
        raise YAMLError(f"yaml: {error}") from error


def from_json(data: bytes, *, sort: bool = True) -> bytes:
    """JSON as YAML, keys sorted: how the API answers a request for YAML."""
    import yaml

    text: bytes = yaml.dump(
        orjson.loads(data),
        Dumper=_dumper(),
        default_flow_style=False,
        allow_unicode=True,
        encoding="utf-8",
        sort_keys=sort,
    )
    return text


@cache
def _dumper() -> Any:
    """Quotes what would be read as another type, and writes text of several lines as such."""
    import yaml

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        """Its own class, so that its representer is its own."""

    def text(dumper: Any, value: str) -> Any:
        style = "|" if "\n" in value else '"' if _reads_otherwise(value) else None
        return dumper.represent_scalar(f"{_TAG}str", value, style=style)

    Dumper.add_representer(str, text)
    return Dumper


_TIME_LIKE = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*").fullmatch


def _reads_otherwise(text: str) -> bool:
    try:
        return not isinstance(resolve(text), str) or bool(_TIME_LIKE(text))
    except YAMLError:
        return True


def _compose(data: bytes) -> Any:
    import yaml

    try:
        loader = _loader()(data)
        try:
            return loader.get_node() if loader.check_node() else None
        finally:
            loader.dispose()
    except yaml.composer.ComposerError as error:
        raise YAMLError(f"yaml: {_alias(error, data) or error.problem}") from error
    except yaml.MarkedYAMLError as error:
        raise YAMLError(f"yaml: {_where(error, yaml)}{error.problem}") from error
    except yaml.reader.ReaderError as error:
        raise YAMLError(f"yaml: {error.reason}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise YAMLError(f"yaml: {error}") from error


@cache
def _loader() -> Any:
    """A parser that leaves untagged scalars alone: their tag is ``PLAIN`` or ``TEXT``."""
    import yaml

    class Resolver:
        def descend_resolver(self, parent: object, index: object) -> None:
            """No paths here."""

        def ascend_resolver(self) -> None:
            """No paths here."""

        def resolve(self, kind: object, value: str, implicit: Any) -> str:
            if kind is yaml.ScalarNode:
                return PLAIN if implicit[0] else TEXT
            return MERGED

    parser = getattr(yaml.cyaml, "CParser", None) if hasattr(yaml, "cyaml") else None
    if parser is not None:
        return type("Loader", (parser, Resolver), {})

    class Loader(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser, yaml.composer.Composer, Resolver):
        def __init__(self, stream: bytes) -> None:
            yaml.reader.Reader.__init__(self, stream)
            yaml.scanner.Scanner.__init__(self)
            yaml.parser.Parser.__init__(self)
            yaml.composer.Composer.__init__(self)

    return Loader


def _alias(error: Any, data: bytes) -> str:
    """The parser does not say which alias it is: that stands in the text, where the parser stopped."""
    mark = error.problem_mark
    if "undefined alias" not in str(error.problem) or mark is None:
        return ""
    line = data.decode("utf-8", "replace").splitlines()[mark.line]
    alias = re.match(r"\*([^\s,\[\]{}]+)", line[mark.column :])
    return f"unknown anchor '{alias[1] if alias else ''}' referenced"


def _where(error: Any, yaml: Any) -> str:
    """The line as upstream counts it: of the problem if that is not the first, else of the context."""
    scanner = isinstance(error, yaml.scanner.ScannerError)
    for mark in (error.problem_mark, error.context_mark):
        if mark is not None and mark.line:
            return f"line {mark.line + (1 if scanner else 0)}: "
    return ""


class _Converter:
    def __init__(self) -> None:
        self.duplicates: list[str] = []
        self._count = 0
        self._open: set[int] = set()

    def value(self, node: Any) -> Any:
        """A YAML node as a JSON value.

        Raises ``YAMLError`` beyond ``MAX_NODES`` values or a depth of 200, and for cycles.
        """
        self._count += 1
        if self._count > MAX_NODES:
            raise YAMLError("yaml: document contains excessive aliasing")
        if node.id == "scalar":
            return scalar(node)
        if id(node) in self._open:
            raise YAMLError("yaml: anchor contains itself")
        if len(self._open) > 200:
            raise YAMLError("yaml: exceeded max depth")
        self._open.add(id(node))
        try:
            if node.id == "sequence":
                return [self.value(item) for item in node.value]
            return self._mapping(node)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: Any) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.id == "scalar" and key_node.value == "<<" and key_node.tag in (PLAIN, f"{_TAG}merge"):
                self._merge(merged, value_node)
                continue
            value = self.value(value_node)
            key = self._key(key_node, value)
            if key in entries:
                line = key_node.start_mark.line + 1
                self.duplicates.append(f"line {line}: key {quote(key)} already set in map")
            entries[key] = value
        return {**merged, **entries} if merged else entries

    def _merge(self, merged: dict[str, Any], node: Any) -> None:
        sources = node.value if node.id == "sequence" else [node]
        for source in reversed(sources):
            if source.id != "mapping":
                raise YAMLError("yaml: map merge requires map or sequence of maps as the value")
            merged.update(self.value(source))

    def _key(self, node: Any, value: Any) -> str:
        if node.id != "scalar":
            shown = "[]interface {}" if node.id == "sequence" else "map[interface {}]interface {}"
            inner = ", ".join(json_text(v) for v in self.value(node))
            raise YAMLError(f"yaml: invalid map key: {shown}{{{inner}}}")
        key = scalar(node)
        if isinstance(key, str):
            return key
        if key is None:
            shown = json_text(value) if isinstance(value, str) else value_text(value)
            raise YAMLError(f"unsupported map key of type: %!s(<nil>), key: <nil>, value: {shown}")
        return value_text(key)


def scalar(node: Any) -> Any:
    """The value of a scalar, by its tag or, if it is plain, by its text."""
    tag, text = node.tag, node.value
    if tag == f"{_TAG}binary":
        try:
            return base64.b64decode(text, validate=True).decode("utf-8", "replace")
        except binascii.Error as error:
            raise YAMLError("yaml: !!binary value contains invalid base64 data") from error
    return resolve(text) if tag in _RESOLVED else text


def resolve(text: str) -> Any:
    """The value of a plain scalar."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text[0] not in "+-.0123456789":
        return text
    return _number(text)


def _number(text: str) -> Any:
    if text in _INFINITE:
        raise YAMLError(f"json: unsupported value: {'-' if text[0] == '-' else '+'}Inf")
    if text in _NOT_NUMBERS:
        raise YAMLError("json: unsupported value: NaN")
    bare = text.replace("_", "")
    if len(bare) > 400:
        return text
    if _INTEGER(bare):
        value = _integer(bare)
        return value if -(2**63) <= value < 2**64 else float(value)
    if _FLOAT(bare):
        real = float(bare)
        if real in (float("inf"), float("-inf")):
            return text
        return int(real) if real.is_integer() and abs(real) < 2**63 else real
    return text


def _integer(text: str) -> int:
    digits = text.lstrip("+-")
    sign = -1 if text[0] == "-" else 1
    if len(digits) > 1 and digits[0] == "0" and digits[1] in "01234567":
        return sign * int(digits, 8)
    return sign * int(digits, 0)
