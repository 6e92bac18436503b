"""Label and field selectors: their text forms, the LabelSelector object, and matching.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/ and .../field-selectors/. The
grammar of label selectors, with upstream's wording of errors::

    selector    = [ requirement *( "," requirement ) ]
    requirement = [ "!" ] KEY / KEY ( "in" / "notin" ) "(" values ")" / KEY ( "=" / "==" / "!=" / ">" / "<" ) VALUE
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.api import fielderrors
from tiphys.api.fielderrors import FieldError, aggregate
from tiphys.api.gotext import quote
from tiphys.api.meta.names import label_key, label_value

Labels = Mapping[str, str]

IN, NOT_IN, EQUALS, DOUBLE_EQUALS, NOT_EQUALS = "in", "notin", "=", "==", "!="
EXISTS, DOES_NOT_EXIST, GREATER, LESS = "exists", "!", "gt", "lt"
_OPERATORS = (IN, NOT_IN, EQUALS, DOUBLE_EQUALS, NOT_EQUALS, GREATER, LESS, EXISTS, DOES_NOT_EXIST)
_SYMBOLS = {GREATER: ">", LESS: "<"}
_BINARY = (IN, NOT_IN, EQUALS, DOUBLE_EQUALS, NOT_EQUALS, GREATER, LESS)
_INT64 = re.compile(r"[+-]?[0-9]+").fullmatch


class SelectorError(ValueError):
    """The text or object is not a selector; the message is upstream's."""


@dataclass(frozen=True, slots=True)
class Requirement:
    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Labels) -> bool:
        """Whether labels satisfy the requirement; ``Gt`` and ``Lt`` compare integers, and fail for other values."""
        value = labels.get(self.key)
        match self.operator:
            case "in" | "=" | "==":
                return value is not None and value in self.values
            case "notin" | "!=":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        left, right = _integer(value), _integer(self.values[0])
        if left is None or right is None:
            return False
        return left > right if self.operator == GREATER else left < right

    def __str__(self) -> str:
        if self.operator == EXISTS:
            return self.key
        if self.operator == DOES_NOT_EXIST:
            return f"!{self.key}"
        values = ",".join(sorted(self.values))
        if self.operator in (IN, NOT_IN):
            return f"{self.key} {self.operator} ({values})"
        return f"{self.key}{_SYMBOLS.get(self.operator, self.operator)}{values}"


def _integer(text: str | None) -> int | None:
    if text is None or len(text) > 20 or not _INT64(text):
        return None
    value = int(text)
    return value if -(2**63) <= value < 2**63 else None


class Selector:
    """All requirements hold. Ordered by key, so that equal selectors print alike."""

    __slots__ = ("_nothing", "requirements")

    def __init__(self, requirements: Iterable[Requirement] = (), *, nothing: bool = False) -> None:
        self.requirements = tuple(sorted(requirements, key=lambda r: r.key))
        self._nothing = nothing

    def matches(self, labels: Labels | None) -> bool:
        if self._nothing:
            return False
        labels = labels or {}
        return all(requirement.matches(labels) for requirement in self.requirements)

    @property
    def empty(self) -> bool:
        """Whether every object matches."""
        return not self.requirements and not self._nothing

    def exact(self, key: str) -> str | None:
        """The one value that the label must have, if the selector says so."""
        for requirement in self.requirements:
            if requirement.key == key:
                exact = requirement.operator in (EQUALS, DOUBLE_EQUALS, IN) and len(requirement.values) == 1
                return requirement.values[0] if exact else None
        return None

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Selector) and self.requirements == other.requirements and self._nothing == other._nothing
        )

    def __hash__(self) -> int:
        return hash((self.requirements, self._nothing))


EVERYTHING = Selector()
NOTHING = Selector(nothing=True)


def new_requirement(key: str, operator: str, values: Iterable[str]) -> Requirement:
    """A checked requirement. Raises ``SelectorError``."""
    values_ = tuple(values)
    errors: list[FieldError] = []
    if messages := label_key(key):
        errors.append(fielderrors.invalid("key", key, "; ".join(messages)))
    errors += _check_count(operator, values_)
    for index, value in enumerate(values_):
        if messages := label_value(value):
            errors.append(fielderrors.invalid(f"values[{index}][{key}]", value, "; ".join(messages)))
    if errors:
        raise SelectorError(aggregate(errors))
    return Requirement(key, operator, values_)


def _check_count(operator: str, values: tuple[str, ...]) -> list[FieldError]:
    def wrong(text: str) -> list[FieldError]:
        return [fielderrors.invalid("values", list(values), text)]

    if operator in (IN, NOT_IN):
        return [] if values else wrong("for 'in', 'notin' operators, values set can't be empty")
    if operator in (EQUALS, DOUBLE_EQUALS, NOT_EQUALS):
        return [] if len(values) == 1 else wrong("exact-match compatibility requires one single value")
    if operator in (EXISTS, DOES_NOT_EXIST):
        return wrong("values set must be empty for exists and does not exist") if values else []
    if operator in (GREATER, LESS):
        text = "for 'Gt', 'Lt' operators, the value must be an integer"
        errors = [] if len(values) == 1 else wrong("for 'Gt', 'Lt' operators, exactly one value is required")
        return errors + [
            fielderrors.invalid(f"values[{index}]", value, text)
            for index, value in enumerate(values)
            if _integer(value) is None
        ]
    return [fielderrors.not_supported("operator", operator, _OPERATORS)]


# --- the text form of label selectors ---

_END, _IDENTIFIER, _ERROR = "end", "identifier", "error"
_KEYWORDS = {")", ",", "!", "==", "=", ">", "in", "<", "!=", "notin", "("}
_SPECIAL = frozenset("=!(),><")
_SPACE = frozenset(" \t\r\n")
_DELIMITERS = _SPECIAL | _SPACE | {"\0"}
Token = tuple[str, str]
"""Kind and text; the kind of a keyword is the keyword itself."""


def _tokens(text: str) -> list[Token]:
    """A NUL byte ends the text where a token would start, and elsewhere the token before it, as upstream does."""
    tokens: list[Token] = []
    at = 0
    while True:
        while at < len(text) and text[at] in _SPACE:
            at += 1
        if at == len(text) or text[at] == "\0":
            return [*tokens, (_END, "")]
        start = at
        if text[at] in _SPECIAL:
            token, at = _symbol(text, start)
            tokens.append(token)
        else:
            while at < len(text) and text[at] not in _DELIMITERS:
                at += 1
            word = text[start:at]
            tokens.append((word if word in _KEYWORDS else _IDENTIFIER, word))
        if text[at : at + 1] == "\0":
            at += 1


def _symbol(text: str, start: int) -> tuple[Token, int]:
    """The longest keyword of special characters."""
    for length in (2, 1):
        word = text[start : start + length]
        if len(word) == length and word in _KEYWORDS:
            return (word, word), start + length
    at = start
    while at < len(text) and text[at] in _SPECIAL:
        at += 1
    return (_ERROR, f"error expected: keyword found '{text[start:at]}'"), at


class _Parser:
    def __init__(self, text: str) -> None:
        self._items = _tokens(text)
        self._at = 0

    def _peek(self) -> Token:
        kind, text = self._items[self._at]
        return (_IDENTIFIER, text) if kind in (IN, NOT_IN) else (kind, text)

    def _take(self) -> Token:
        token = self._peek()
        self._at = min(self._at + 1, len(self._items) - 1)
        return token

    def parse(self) -> list[Requirement]:
        """The requirements, in the order of the text. Raises ``SelectorError``."""
        requirements: list[Requirement] = []
        while True:
            kind, text = self._peek()
            if kind == _END:
                return requirements
            if kind not in (_IDENTIFIER, "!"):
                raise SelectorError(f"found '{text}', expected: !, identifier, or 'end of string'")
            try:
                requirements.append(self._requirement())
            except SelectorError as error:
                raise SelectorError(f"unable to parse requirement: {error}") from error
            kind, text = self._take()
            if kind == _END:
                return requirements
            if kind != ",":
                raise SelectorError(f"found '{text}', expected: ',' or 'end of string'")
            kind, text = self._peek()
            if kind not in (_IDENTIFIER, "!"):
                raise SelectorError(f"found '{text}', expected: identifier after ','")

    def _requirement(self) -> Requirement:
        kind, key = self._take()
        negated = kind == "!"
        if negated:
            kind, key = self._take()
        if kind != _IDENTIFIER:
            raise SelectorError(f"found '{key}', expected: identifier")
        if messages := label_key(key):
            raise SelectorError(str(fielderrors.invalid("<nil>", key, "; ".join(messages))))
        if negated:
            return new_requirement(key, DOES_NOT_EXIST, ())
        if self._peek()[0] in (_END, ","):
            return new_requirement(key, EXISTS, ())
        operator = self._operator()
        values = self._values() if operator in (IN, NOT_IN) else {self._exact_value()}
        return new_requirement(key, operator, sorted(values))

    def _operator(self) -> str:
        kind, text = self._items[self._at]
        self._take()
        operator = {">": GREATER, "<": LESS}.get(kind, kind)
        if operator not in _BINARY or kind in (GREATER, LESS):
            raise SelectorError(f"found '{text}', expected: {', '.join(_BINARY)}")
        return operator

    def _exact_value(self) -> str:
        if self._peek()[0] in (_END, ","):
            return ""
        kind, text = self._take()
        if kind != _IDENTIFIER:
            raise SelectorError(f"found '{text}', expected: identifier")
        return text

    def _values(self) -> set[str]:
        kind, text = self._take()
        if kind != "(":
            raise SelectorError(f"found '{text}' expected: '('")
        kind, text = self._peek()
        if kind == ")":
            self._take()
            return {""}
        if kind not in (_IDENTIFIER, ","):
            raise SelectorError(f"found '{text}', expected: ',', ')' or identifier")
        values = self._identifiers()
        if self._take()[0] != ")":
            raise SelectorError(f"found '{text}', expected: ')'")
        return values

    def _identifiers(self) -> set[str]:
        values: set[str] = set()
        while True:
            kind, text = self._take()
            if kind == _IDENTIFIER:
                values.add(text)
                kind, text = self._peek()
                if kind == ")":
                    return values
                if kind != ",":
                    raise SelectorError(f"found '{text}', expected: ',' or ')'")
            elif kind == ",":
                if not values:
                    values.add("")
                following = self._peek()[0]
                if following in (")", ","):
                    values.add("")
                if following == ")":
                    return values
            else:
                raise SelectorError(f"found '{text}', expected: ',', or identifier")


def parse_label_selector(text: str) -> Selector:
    """Raises ``SelectorError``. The API server adds ``unable to parse requirement`` cases to a 400 as they are."""
    return Selector(_Parser(text).parse())


# --- the LabelSelector object and plain maps ---

_OBJECT_OPERATORS = {"In": IN, "NotIn": NOT_IN, "Exists": EXISTS, "DoesNotExist": DOES_NOT_EXIST}


def selector_from_object(selector: Mapping[str, Any] | None) -> Selector:
    """A ``LabelSelector`` of the API: ``None`` matches nothing, an empty one everything. Raises ``SelectorError``."""
    if selector is None:
        return NOTHING
    requirements = [new_requirement(k, EQUALS, (v,)) for k, v in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        operator = expression.get("operator", "")
        if operator not in _OBJECT_OPERATORS:
            raise SelectorError(f"{quote(operator)} is not a valid label selector operator")
        values = expression.get("values") or ()
        requirements.append(new_requirement(expression.get("key", ""), _OBJECT_OPERATORS[operator], values))
    return Selector(requirements)


def selector_from_labels(labels: Labels | None) -> Selector:
    """What has all these labels, unchecked; with no labels, everything."""
    return Selector(Requirement(key, EQUALS, (value,)) for key, value in (labels or {}).items())


# --- field selectors ---


@dataclass(frozen=True, slots=True)
class FieldTerm:
    field: str
    value: str
    equal: bool = True

    def __str__(self) -> str:
        return f"{self.field}{'=' if self.equal else '!='}{escape_field_value(self.value)}"


@dataclass(frozen=True, slots=True)
class FieldSelector:
    terms: tuple[FieldTerm, ...] = ()

    def matches(self, fields: Mapping[str, str]) -> bool:
        """``fields`` are the selectable ones of an object, by path; an absent one counts as empty."""
        return all((fields.get(term.field, "") == term.value) == term.equal for term in self.terms)

    @property
    def empty(self) -> bool:
        return not self.terms

    def exact(self, field: str) -> str | None:
        """The one value that the field must have, if the selector says so."""
        return next((term.value for term in self.terms if term.equal and term.field == field), None)

    def transform(self, rename: Callable[[str, str], tuple[str, str]]) -> FieldSelector:
        """Each term's field and value mapped; a term whose two become empty is left out."""
        terms = []
        for term in self.terms:
            field, value = rename(term.field, term.value)
            if field or value:
                terms.append(FieldTerm(field, value, term.equal))
        return FieldSelector(tuple(terms))

    def __str__(self) -> str:
        return ",".join(str(term) for term in self.terms)


def escape_field_value(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


def parse_field_selector(text: str) -> FieldSelector:
    """``metadata.name=a,spec.nodeName!=b``, with backslashes before commas, equals signs and backslashes in values."""
    terms = []
    for part in sorted(_split_terms(text)):
        if not part:
            continue
        operator = re.search("!=|==|=", part)
        if operator is None:
            raise SelectorError(f"invalid selector: '{text}'; can't understand '{part}'")
        field, value = part[: operator.start()], _unescape(part[operator.end() :])
        if field or value:
            terms.append(FieldTerm(field, value, operator[0] != "!="))
    return FieldSelector(tuple(terms))


def _split_terms(text: str) -> list[str]:
    return re.findall(r"(?:[^\\,]|\\.|\\\Z)+", text, re.S)


def _unescape(text: str) -> str:
    letters: list[str] = []
    characters = iter(text)
    for character in characters:
        if character in ",=":
            raise SelectorError(f"invalid field selector: unescaped character in value: {ord(character)}")
        if character == "\\":
            escaped = next(characters, "")
            if escaped not in ("\\", ",", "="):
                raise SelectorError(f"invalid field selector: invalid escape sequence: \\{escaped}")
            character = escaped
        letters.append(character)
    return "".join(letters)
