"""The rules: which series of Prometheus are metrics, of which objects, by what name, and how they are asked for. Pure.

Source: https://github.com/kubernetes-sigs/prometheus-adapter/blob/master/docs/config.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.runtime import yamltext
from tiphys.runtime.component import ConfigError

NAMESPACES = ("", "namespaces")
_PIECE = re.compile(r"<<\s*(.*?)\s*>>")
_INDEX = re.compile(r'index\s+\.LabelValuesByName\s+"([a-zA-Z_]\w*)"')
_GROUP_REFERENCE = re.compile(r"\$\{(\w+)\}|\$(\w+)|\$\$")
_RULE_FIELDS = ("seriesQuery", "seriesFilters", "resources", "name", "metricsQuery")
_QUERY_FIELDS = ("Series", "LabelMatchers", "GroupBy")
_LABEL_FIELDS = ("Group", "Resource")

Document = Mapping[str, Any]


class Template:
    """A text with ``<<.Field>>`` in it, and ``<<index .LabelValuesByName "label">>``."""

    def __init__(self, text: str, fields: tuple[str, ...], where: str) -> None:
        """Raises ``ConfigError`` for what else stands between the brackets."""
        self._text = text
        for match in _PIECE.finditer(text):
            inner = match[1]
            if inner.removeprefix(".") not in fields and not (fields is _QUERY_FIELDS and _INDEX.fullmatch(inner)):
                known = ", ".join(f"<<.{name}>>" for name in fields)
                raise ConfigError(f"{where}: {match[0]} is not supported; use {known}")

    def render(self, fields: Mapping[str, str], labels: Mapping[str, str]) -> str:
        """``labels``: the values that ``index .LabelValuesByName`` finds; none is empty."""

        def value(match: re.Match[str]) -> str:
            by_label = _INDEX.fullmatch(match[1])
            return labels.get(by_label[1], "") if by_label else fields[match[1].removeprefix(".")]

        return _PIECE.sub(value, self._text)


@dataclass(frozen=True, slots=True)
class Renaming:
    """How a series' name becomes a metric's: ``matches``, and ``as_`` with ``$1`` or ``${1}`` for its groups."""

    matches: re.Pattern[str]
    as_: str

    def name_of(self, series: str) -> str:
        """As Go's ``ReplaceAllString`` puts it; a series that does not match keeps its name."""
        return self.matches.sub(lambda match: self._expanded(match), series)

    def _expanded(self, match: re.Match[str]) -> str:
        def value(reference: re.Match[str]) -> str:
            if (name := reference[1] or reference[2]) is None:
                return "$"
            try:
                return match[int(name) if name.isdecimal() else name] or ""
            except IndexError:
                return ""

        return _GROUP_REFERENCE.sub(value, self.as_)


@dataclass(frozen=True, slots=True)
class MetricRule:
    """``overrides``: by label, the group and resource (plural or singular) that its values name."""

    series_query: str
    filters: tuple[tuple[re.Pattern[str], bool], ...]
    """Patterns, each with whether a series' name has to match it."""
    overrides: Mapping[str, tuple[str, str]]
    template: Template | None
    is_namespaced: bool
    name: Renaming
    query: Template

    def takes(self, series: str) -> bool:
        return all(bool(pattern.search(series)) is wanted for pattern, wanted in self.filters)


@dataclass(frozen=True, slots=True)
class Rules:
    custom: tuple[MetricRule, ...]
    external: tuple[MetricRule, ...]


def read_rules(text: str | bytes, where: str) -> Rules:
    """The rules of a configuration file. Raises ``ConfigError`` that names file, field and remedy."""
    try:
        document = yamltext.load(text)
    except yamltext.YAMLError as error:
        raise ConfigError(f"{where}: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{where}: the file is no mapping; it has `rules` and `externalRules`")
    _only(document, ("rules", "externalRules"), where, {"resourceRules": "`tiphys metrics-server` serves those"})
    both = [
        tuple(_rule(row, f"{where}: {part}[{index}]") for index, row in enumerate(_list(document, part, where)))
        for part in ("rules", "externalRules")
    ]
    return Rules(*both)


def _rule(row: Any, where: str) -> MetricRule:
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: a rule is a mapping with {', '.join(_RULE_FIELDS)}")
    _only(row, _RULE_FIELDS, where)
    resources, name = _mapping(row, "resources", where), _mapping(row, "name", where)
    _only(resources, ("overrides", "template", "namespaced"), f"{where}.resources")
    template = _text(resources, "template", f"{where}.resources")
    labels_by = Template(template, _LABEL_FIELDS, f"{where}.resources.template") if template else None
    is_namespaced = resources.get("namespaced", True)
    if not isinstance(is_namespaced, bool):
        raise ConfigError(f"{where}.resources.namespaced: {is_namespaced!r} is neither true nor false")
    query = _text(row, "metricsQuery", where, is_needed=True)
    return MetricRule(
        series_query=_text(row, "seriesQuery", where, is_needed=True),
        filters=tuple(_filter(each, f"{where}.seriesFilters") for each in _list(row, "seriesFilters", where)),
        overrides=_overrides(resources, f"{where}.resources"),
        template=labels_by,
        is_namespaced=is_namespaced,
        name=_renaming(name, f"{where}.name"),
        query=Template(query, _QUERY_FIELDS, f"{where}.metricsQuery"),
    )


def _overrides(resources: Document, where: str) -> dict[str, tuple[str, str]]:
    overrides = {}
    for label, about in _mapping(resources, "overrides", where).items():
        place = f"{where}.overrides[{label}]"
        if not isinstance(about, dict):
            raise ConfigError(f"{place}: write {{group: …, resource: …}}")
        _only(about, ("group", "resource"), place)
        overrides[str(label)] = _text(about, "group", place), _text(about, "resource", place, is_needed=True).lower()
    return overrides


def _filter(each: Any, where: str) -> tuple[re.Pattern[str], bool]:
    if not isinstance(each, dict) or len(each) != 1 or not each.keys() <= {"is", "isNot"}:
        raise ConfigError(f"{where}: a filter is {{is: PATTERN}} or {{isNot: PATTERN}}")
    (kind,) = each
    return _pattern(_text(each, kind, where, is_needed=True), where), kind == "is"


def _renaming(name: Document, where: str) -> Renaming:
    """Without ``as``, the name is the only group's, or the whole of what matches."""
    _only(name, ("matches", "as"), where)
    matches, as_ = _pattern(_text(name, "matches", where) or "^.*$", where), _text(name, "as", where)
    if not as_:
        if matches.groups > 1:
            raise ConfigError(f"{where}.as: `matches` has {matches.groups} groups; say which makes the name: ${{1}}")
        as_ = f"${{{matches.groups}}}"
    return Renaming(matches, as_)


def _pattern(text: str, where: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ConfigError(f"{where}: {text!r} is no regular expression: {error}") from error


def _only(mapping: Document, known: tuple[str, ...], where: str, hints: Mapping[str, str] | None = None) -> None:
    for key in mapping:
        if key not in known:
            hint = (hints or {}).get(key, f"there are {', '.join(known)}")
            raise ConfigError(f"{where}: unknown field {key!r}; {hint}")


def _mapping(owner: Document, key: str, where: str) -> Document:
    value = owner.get(key)
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f"{where}.{key} is no mapping")
    return value or {}


def _list(owner: Document, key: str, where: str) -> list[Any]:
    value = owner.get(key)
    if value is not None and not isinstance(value, list):
        raise ConfigError(f"{where}: {key} is no list")
    return value or []


def _text(owner: Document, key: str, where: str, *, is_needed: bool = False) -> str:
    value = owner.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{where}.{key} is no text")
    if is_needed and not value:
        raise ConfigError(f"{where}.{key} is needed")
    return value or ""
