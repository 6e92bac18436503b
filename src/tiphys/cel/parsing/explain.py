"""What is wrong with the form of a text that is no expression, in the words and at the places clients know.

Upstream's parser is generated from its grammar. If a token does not fit it tries, in this order: to leave that
one out ("extraneous input"), to put the expected one in ("missing"), and else gives up the rule ("mismatched input",
"no viable alternative"), skips to something that can come after it, and continues without a word until a token fits
again. This module walks the same grammar with the same strategy; it makes no tree.
Source: the grammar of the CEL specification; "The Definitive ANTLR 4 Reference", chapter 9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tiphys.cel.parsing.lexer import BYTES, EOF, ESCAPED, FLOAT, IDENTIFIER, INT, STRING, UINT, Token
from tiphys.cel.parsing.source import Problem

_ORDER = (
    "EOF == != in < <= >= > && || [ ] { } ( ) . , - ! ? : + * / % true false null NUM_FLOAT NUM_INT NUM_UINT STRING "
    "BYTES IDENTIFIER ESC_IDENTIFIER"
)
_RANK = {kind: rank for rank, kind in enumerate(_ORDER.split())}
_NAMED = frozenset((FLOAT, INT, UINT, STRING, BYTES, IDENTIFIER, ESCAPED))
_MAX_ERRORS = 100

Set = frozenset[str]
_END = "<end of the rule>"
"""In a set: the rule may end here, and what may come is what may come after it."""


def _set(*kinds: str) -> Set:
    return frozenset(kinds)


_LITERAL = _set("true", "false", "null", FLOAT, INT, UINT, STRING, BYTES, "-")
_MEMBER = _LITERAL | _set("[", "{", "(", ".", IDENTIFIER)
_UNARY = _MEMBER | _set("!")
_OPTIONAL = _UNARY | _set("?")
_NAME = _set(IDENTIFIER, ESCAPED)
_RELATIONS = _set("<", "<=", ">=", ">", "==", "!=", "in")
_FACTORS, _TERMS = _set("*", "/", "%"), _set("+", "-")
_AFTER_UNARY = _FACTORS | _TERMS | _set(_END)
_AFTER_PRIMARY = _set(".", "[", _END)
_AFTER_MEMBER = _set(_END)


class _GiveUp(Exception):
    """The rule cannot continue; ``message`` says why, at token ``at``."""

    def __init__(self, message: str, at: Token) -> None:
        self.message, self.at = message, at
        super().__init__(message)


class _TooMany(Exception):
    """More errors than are reported."""


def explain(tokens: list[Token]) -> list[Problem]:
    walker = _Walker(tokens)
    try:
        walker.start()
    except _TooMany:
        walker.problems.append(Problem(walker.token.pos, f"Syntax error: More than {_MAX_ERRORS} syntax errors"))
    return walker.problems + ([walker.nameless] if walker.nameless else [])


def _shown(token: Token) -> str:
    text = token.text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return f"'{text}'"


def _names(kinds: Set) -> str:
    def name(kind: str) -> str:
        if kind == EOF:
            return "<EOF>"
        return kind if kind in _NAMED else f"'{kind}'"

    shown = [name(kind) for kind in sorted(kinds - {_END}, key=_RANK.__getitem__)]
    return shown[0] if len(shown) == 1 else "{" + ", ".join(shown) + "}"


class _Walker:
    def __init__(self, tokens: list[Token]) -> None:
        self.tokens, self.at = tokens, 0
        self.follow: list[Set] = []
        """For each rule that we are in, what may come after it where it was called."""
        self.problems: list[Problem] = []
        self.quiet = False
        """An error was reported, and no token has fitted since."""
        self.nameless: Problem | None = None
        """A field that is selected has no name: reported once more, after what was wrong with the form."""
        self.last_error = -1
        self.last_places: set[str] = set()

    # Tokens and errors

    def ahead(self, count: int) -> Token:
        return self.tokens[min(self.at + count, len(self.tokens) - 1)]

    @property
    def token(self) -> Token:
        return self.ahead(0)

    @property
    def kind(self) -> str:
        return self.token.kind

    def consume(self) -> None:
        if self.kind != EOF:
            self.at += 1

    def report(self, message: str, token: Token) -> None:
        if len(self.problems) >= _MAX_ERRORS:
            raise _TooMany
        self.problems.append(Problem(token.pos, f"Syntax error: {message}"))

    def report_once(self, message: str, token: Token) -> None:
        if not self.quiet:
            self.quiet = True
            self.report(message, token)

    def in_context(self, kinds: Set) -> Set:
        """What may really come, given the rules that we are in."""
        for after in reversed(self.follow):
            if _END not in kinds:
                return kinds
            kinds = (kinds - {_END}) | after
        return (kinds - {_END}) | {EOF} if _END in kinds else kinds

    def leave_out(self, expected: Set) -> bool:
        """Whether it continues without this token."""
        if self.ahead(1).kind not in expected:
            return False
        self.report_once(f"extraneous input {_shown(self.token)} expecting {_names(expected)}", self.token)
        self.consume()
        self.quiet = False
        return True

    def mismatch(self, expected: Set) -> _GiveUp:
        return _GiveUp(f"mismatched input {_shown(self.token)} expecting {_names(expected)}", self.token)

    def no_alternative(self, start: int, stop: int) -> _GiveUp:
        """No rule continues after the tokens from here to there."""
        last = self.ahead(stop)
        if self.ahead(start).kind == EOF:
            return _GiveUp("no viable alternative at input '<EOF>'", last)
        text = _between(self.tokens, self.at + start, min(self.at + stop, len(self.tokens) - 1))
        if text in (".true", ".false", ".null"):
            return _GiveUp(f"mismatched input '{text[1:]}' expecting IDENTIFIER", last)
        return _GiveUp(f"no viable alternative at input '{text}'", last)

    def match(self, kind: str, then: Set) -> None:
        if self.kind == kind:
            self.quiet = False
            self.consume()
            return
        if self.leave_out(_set(kind)):
            self.consume()
            return
        if self.kind in self.in_context(then):
            self.report_once(f"missing {_names(_set(kind))} at {_shown(self.token)}", self.token)
            return
        raise self.mismatch(_set(kind))

    def sync(self, expected: Set) -> None:
        """At a choice: makes sure that there is one."""
        if self.quiet or _END in expected or self.kind in expected:
            return
        if not self.leave_out(expected):
            raise self.mismatch(expected)

    def sync_loop(self, expected: Set) -> None:
        """At the end of a turn of a loop: skips what can be neither another turn nor what comes after."""
        if self.quiet or _END in expected or self.kind in expected:
            return
        self.report_once(f"extraneous input {_shown(self.token)} expecting {_names(expected)}", self.token)
        self.skip_to(expected | self.recovery_set())

    def recovery_set(self) -> Set:
        return frozenset().union(*self.follow) - {_END}

    def skip_to(self, kinds: Set) -> None:
        while self.kind != EOF and self.kind not in kinds:
            self.consume()

    @contextmanager
    def rule(self, name: str, then: Set) -> Iterator[None]:
        """A rule; what it cannot parse is reported and skipped."""
        self.follow.append(then)
        try:
            yield
        except _GiveUp as wrong:
            self.report_once(wrong.message, wrong.at)
            place = f"{name} {wrong.message}"
            if self.last_error == self.at and place in self.last_places:
                self.consume()
            if self.last_error != self.at:
                self.last_places = set()
            self.last_error = self.at
            self.last_places.add(place)
            self.skip_to(self.recovery_set())
        finally:
            self.follow.pop()

    # The grammar

    def start(self) -> None:
        with self.rule("start", _set(_END)):
            self.expr(_set(EOF))
            self.match(EOF, _set(_END))

    def expr(self, then: Set) -> None:
        with self.rule("expr", then):
            self.chain("||", _set("?", _END))
            if self.kind == "?":
                self.match("?", _UNARY)
                self.chain("||", _set(":"))
                self.match(":", _UNARY)
                self.expr(_set(_END))

    def chain(self, sign: str, then: Set) -> None:
        with self.rule(sign, then):
            self.link(sign)
            while self.kind == sign:
                self.match(sign, _UNARY)
                self.link(sign)

    def link(self, sign: str) -> None:
        if sign == "||":
            self.chain("&&", _set("||", _END))
        else:
            self.relation(_set("&&", _END), 0)

    def relation(self, then: Set, precedence: int) -> None:
        with self.rule("relation", then):
            self.calc(_RELATIONS | _set(_END), 0)
            while self.kind in _RELATIONS and precedence <= 1:
                self.match(self.kind, _UNARY)
                self.relation(_RELATIONS | _set(_END), 2)

    def calc(self, then: Set, precedence: int) -> None:
        with self.rule("calc", then):
            self.unary(_AFTER_UNARY)
            while (self.kind in _FACTORS and precedence <= 2) or (self.kind in _TERMS and precedence <= 1):
                next_precedence = 3 if self.kind in _FACTORS else 2
                self.match(self.kind, _UNARY)
                self.calc(_AFTER_UNARY, next_precedence)

    def unary(self, then: Set) -> None:
        with self.rule("unary", then):
            self.sync(_UNARY)
            if self.kind == "!":
                while self.kind == "!":
                    self.match("!", _UNARY)
                    self.sync_loop(_UNARY)
            elif self.kind == "-":
                self.minus()
            elif self.kind not in _MEMBER:
                raise self.no_alternative(0, 0)
            self.member(_AFTER_MEMBER)

    def minus(self) -> None:
        """The signs before an operand, but for the one that belongs to a number."""
        if self.ahead(1).kind in (INT, FLOAT):
            return
        while self.kind == "-":
            if self.ahead(1).kind not in _MEMBER:
                raise self.no_alternative(0, 1)
            self.match("-", _MEMBER)

    def member(self, then: Set) -> None:
        """A primary expression and the selections, calls and indexes that follow it."""
        with self.rule("member", then):
            self.primary(_AFTER_PRIMARY)
            while self.kind in (".", "["):
                if self.kind == "[":
                    self.index()
                elif self.ahead(1).kind == IDENTIFIER and self.ahead(2).kind == "(":
                    self.match(".", _set(IDENTIFIER))
                    self.match(IDENTIFIER, _set("("))
                    self.arguments(_AFTER_PRIMARY)
                elif self.ahead(1).kind in _NAME | {"?"}:
                    self.match(".", _NAME)
                    self.optional_mark(_NAME)
                    if self.kind not in _NAME:
                        self.nameless = Problem(self.token.pos, "unsupported ident kind")
                    self.name(_AFTER_PRIMARY)
                else:
                    raise self.no_alternative(0, 1)

    def index(self) -> None:
        self.match("[", _OPTIONAL)
        self.optional_mark(_UNARY)
        self.expr(_set("]"))
        self.match("]", _AFTER_PRIMARY)

    def optional_mark(self, before: Set) -> None:
        self.sync(before | {"?"})
        if self.kind == "?":
            self.match("?", before)

    def name(self, then: Set) -> None:
        with self.rule("name", then):
            self.sync(_NAME)
            if self.kind not in _NAME:
                raise self.no_alternative(0, 0)
            self.match(self.kind, _set(_END))

    def primary(self, then: Set) -> None:
        """A name, a parenthesis, a list, a map or a literal."""
        with self.rule("primary", then):
            self.sync(_MEMBER)
            match self.kind:
                case "." | "IDENTIFIER":
                    self.named()
                case "(":
                    self.match("(", _UNARY)
                    self.expr(_set(")"))
                    self.match(")", _set(_END))
                case "[":
                    self.match("[", _OPTIONAL | _set(",", "]"))
                    self.items(_OPTIONAL, "]", self.element)
                case "{":
                    self.match("{", _OPTIONAL | _set(",", "}"))
                    self.items(_OPTIONAL, "}", self.map_entry)
                case kind if kind in _LITERAL:
                    self.literal(_set(_END))
                case _:
                    raise self.no_alternative(0, 0)

    def named(self) -> None:
        """An identifier, a call, or a message with its fields, whichever the tokens ahead show."""
        first = 1 if self.kind == "." else 0
        if self.ahead(first).kind != IDENTIFIER:
            raise self.no_alternative(0, first)
        end = first + 1
        while self.ahead(end).kind == "." and self.ahead(end + 1).kind == IDENTIFIER:
            end += 2
        is_message = self.ahead(end).kind == "{"
        if first:
            self.match(".", _set(IDENTIFIER))
        self.match(IDENTIFIER, _set(_END))
        if is_message:
            while self.kind == ".":
                self.match(".", _set(IDENTIFIER))
                self.match(IDENTIFIER, _set(".", "{"))
            self.match("{", _NAME | _set("?", ",", "}"))
            self.items(_NAME | {"?"}, "}", self.field)
        elif self.kind == "(":
            self.arguments(_set(_END))

    def arguments(self, then: Set) -> None:
        self.match("(", _UNARY | {")"})
        self.sync(_UNARY | {")"})
        if self.kind in _UNARY:
            with self.rule("arguments", _set(")")):
                self.expr(_set(",", _END))
                while self.kind == ",":
                    self.match(",", _UNARY)
                    self.expr(_set(",", _END))
        self.match(")", then)

    def items(self, first: Set, closing: str, item: Callable[[], None]) -> None:
        """Items with commas between, maybe one more comma, and the closing sign."""
        self.sync(first | {",", closing})
        if self.kind in first:
            with self.rule("items", _set(",", closing)):
                item()
                while self.kind == "," and self.ahead(1).kind in first:
                    self.match(",", first)
                    item()
        self.sync(_set(",", closing))
        if self.kind == ",":
            self.match(",", _set(closing))
        self.match(closing, _set(_END))

    def element(self, then: Set = frozenset((",", _END))) -> None:
        with self.rule("element", then):
            self.optional_mark(_UNARY)
            self.expr(_set(_END))

    def map_entry(self) -> None:
        self.element(_set(":"))
        self.match(":", _UNARY)
        self.expr(_set(",", _END))

    def field(self) -> None:
        with self.rule("field", _set(":")):
            self.optional_mark(_NAME)
            self.name(_set(_END))
        self.match(":", _UNARY)
        self.expr(_set(",", _END))

    def literal(self, then: Set) -> None:
        with self.rule("literal", then):
            self.sync(_LITERAL)
            if self.kind == "-":
                if self.ahead(1).kind not in (INT, FLOAT):
                    raise self.no_alternative(0, 1)
                self.match("-", _set(INT, FLOAT))
            self.match(self.kind, _set(_END))


def _between(tokens: list[Token], start: int, stop: int) -> str:
    """The text from one token to another, with the space between them as it was."""
    between = [token for token in tokens[start : stop + 1] if token.kind != EOF]
    return "".join(token.hidden + token.text for token in between).removeprefix(tokens[start].hidden)
