"""Tokens to a syntax tree, by recursive descent.

A text that is no expression is left to ``explain``, which works out what was expected where; this module only
finds that it is none. What is wrong with a well-formed text (a reserved word, a number out of range, a macro that is
misused) is collected, so that one answer reports everything.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from tiphys.cel.parsing import lexer, literals
from tiphys.cel.parsing.escaping import RESERVED
from tiphys.cel.parsing.explain import explain
from tiphys.cel.parsing.lexer import EOF, ESCAPED, IDENTIFIER, Token
from tiphys.cel.parsing.source import Problem, Problems, Source
from tiphys.cel.syntax import (
    AND,
    BINARY,
    CONDITIONAL,
    INDEX,
    NEGATE,
    NOT,
    OPTIONAL_INDEX,
    OPTIONAL_SELECT,
    OR,
    Call,
    FieldInit,
    Ident,
    ListNode,
    Literal,
    MapEntry,
    MapNode,
    Node,
    Select,
    StructNode,
)

MAX_DEPTH = 250
MAX_LENGTH = 100_000
_RELATIONS = frozenset(("<", "<=", ">", ">=", "==", "!=", "in"))
_PRECEDENCE = {"*": 2, "/": 2, "%": 2, "+": 1, "-": 1}
_LITERALS = frozenset((lexer.INT, lexer.UINT, lexer.FLOAT, lexer.STRING, lexer.BYTES, "true", "false", "null"))

# A tree of the depth that is allowed takes some frames per level in each of the steps.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 12_000))


class MacroError(Exception):
    """A macro cannot be expanded with these arguments."""

    def __init__(self, at: Node, message: str) -> None:
        self.pos = at.pos
        super().__init__(message)


Macro = Callable[[int, Node | None, list[Node]], Node | None]
"""Position of the call, target and arguments to what it stands for; None if it is a plain call."""
Macros = Mapping[tuple[str, int, bool], Macro]
"""By name, number of arguments, and whether it is called on a target."""


class _SyntaxError(Exception):
    """The text is no expression."""


class _TooDeep(Exception):
    """Nested deeper than is allowed."""


def parse(source: Source, macros: Macros, problems: Problems) -> Node | None:
    """The tree; None, and what is wrong in ``problems``."""
    if len(source.text) > MAX_LENGTH:
        message = f"expression code point size exceeds limit: size: {len(source.text)}, limit {MAX_LENGTH}"
        problems.add(-1, message)
        return None
    tokens, unknown = lexer.tokenize(source.text)
    try:
        tree = _Parser(tokens, macros, problems).whole()
    except _TooDeep as wrong:
        problems.all[:] = [Problem(-1, str(wrong))]
        return None
    except _SyntaxError:
        # Problems collected so far follow what is wrong with the form, by position.
        problems.all[:0] = unknown + explain(tokens)
        return None
    problems.all[:0] = unknown
    return None if problems else tree


class _Parser:
    def __init__(self, tokens: list[Token], macros: Macros, problems: Problems) -> None:
        self.tokens, self.macros, self.problems = tokens, macros, problems
        self.at = 0
        self.token = tokens[0]
        self.depth = 0

    # Tokens

    def next(self) -> Token:
        token = self.token
        self.at += 1
        self.token = self.tokens[min(self.at, len(self.tokens) - 1)]
        return token

    def expect(self, kind: str) -> Token:
        if self.token.kind != kind:
            raise _SyntaxError
        return self.next()

    def take(self, kind: str) -> bool:
        if self.token.kind != kind:
            return False
        self.next()
        return True

    def high(self, node: Node, *below: Node, step: int = 1) -> Node:
        """The node, which stands on these; steps of selection and of operators may not go up too far."""
        node.height = step + max((child.height for child in below), default=0)
        if node.height > MAX_DEPTH:
            raise _TooDeep("max recursion depth exceeded")
        return node

    # Rules of the grammar, loosest binding first

    def whole(self) -> Node:
        tree = self.expr()
        self.expect(EOF)
        return tree

    def expr(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _TooDeep(f"expression recursion limit exceeded: {MAX_DEPTH}")
        node = self.logical(OR)
        if self.token.kind == "?":
            at = self.next().pos
            then = self.logical(OR)
            self.expect(":")
            node = self.operator(at, CONDITIONAL, [node, then, self.expr()])
        self.depth -= 1
        return node

    def logical(self, function: str) -> Node:
        """A chain of ``||`` or ``&&``, as a balanced tree."""
        sign = "||" if function == OR else "&&"
        terms, at = [self._term(function)], list[int]()
        while self.token.kind == sign:
            at.append(self.next().pos)
            terms.append(self._term(function))

        def tree(low: int, high: int) -> Node:
            middle = (low + high + 1) // 2
            left = terms[middle] if middle == low else tree(low, middle - 1)
            right = terms[middle + 1] if middle == high else tree(middle + 1, high)
            return self.high(Call(at[middle], function, [left, right]), left, right, step=0)

        return tree(0, len(at) - 1) if at else terms[0]

    def _term(self, function: str) -> Node:
        return self.logical(AND) if function == OR else self.relation()

    def relation(self) -> Node:
        node = self.calc(1)
        while self.token.kind in _RELATIONS:
            sign = self.next()
            node = self.operator(sign.pos, BINARY[sign.text], [node, self.calc(1)])
        return node

    def calc(self, precedence: int) -> Node:
        node = self.unary()
        while _PRECEDENCE.get(self.token.kind, 0) >= precedence:
            sign = self.next()
            right = self.calc(_PRECEDENCE[sign.text] + 1)
            node = self.operator(sign.pos, BINARY[sign.text], [node, right])
        return node

    def unary(self) -> Node:
        sign = self.token
        if sign.kind not in ("!", "-"):
            return self.member()
        if sign.kind == "-" and self.tokens[self.at + 1].kind in (lexer.INT, lexer.FLOAT):
            return self.member()
        count = 0
        while self.take(sign.kind):
            count += 1
        node = self.member()
        return node if count % 2 == 0 else self.call(sign.pos, NOT if sign.kind == "!" else NEGATE, [node])

    def member(self) -> Node:
        node = self.primary()
        while self.token.kind in (".", "["):
            node = self._select(node) if self.token.kind == "." else self._index(node)
        return node

    def _select(self, operand: Node) -> Node:
        dot = self.next()
        optional = self.take("?")
        if self.token.kind == IDENTIFIER and self.tokens[self.at + 1].kind == "(" and not optional:
            name, opening = self.next(), self.next()
            return self.call(opening.pos, name.text, self.arguments(), operand)
        name = self.token
        field = self._field_name()
        if optional:
            return self.high(Call(dot.pos, OPTIONAL_SELECT, [operand, Literal(name.pos, field)]), operand)
        return self.high(Select(dot.pos, operand, field), operand)

    def _index(self, operand: Node) -> Node:
        opening = self.next()
        function = OPTIONAL_INDEX if self.take("?") else INDEX
        index = self.expr()
        self.expect("]")
        return self.call(opening.pos, function, [operand, index])

    def primary(self) -> Node:
        """A name, literal, parenthesis, list or map. Raises ``_SyntaxError``; ``explain`` finds the message."""
        kind = self.token.kind
        if kind in (IDENTIFIER, "."):
            return self._named()
        if kind in _LITERALS or kind == "-":
            return self._literal()
        if kind == "(":
            self.next()
            node = self.expr()
            self.expect(")")
            return node
        if kind == "[":
            return self._list()
        if kind == "{":
            opening = self.next()
            entries = MapNode(opening.pos, self._entries(self._map_entry))
            return self.high(entries, *entries.children(), step=0)
        raise _SyntaxError

    def _named(self) -> Node:
        start = self.token
        dot = "." if self.take(".") else ""
        if self.token.kind != IDENTIFIER:
            raise _SyntaxError
        if self._starts_message():
            return self._message(dot)
        name = self.next()
        if name.text in RESERVED:
            if self.token.kind == "(":
                self.next()
                self.arguments()
            self.problems.add(start.pos, f"reserved identifier: {name.text}")
            return Ident(start.pos, name.text)
        if self.token.kind == "(":
            opening = self.next()
            return self.call(opening.pos, dot + name.text, self.arguments())
        return Ident(name.pos, dot + name.text)

    def _starts_message(self) -> bool:
        at = self.at + 1
        while self.tokens[at].kind == "." and self.tokens[at + 1].kind == IDENTIFIER:
            at += 2
        return self.tokens[at].kind == "{"

    def _message(self, name: str) -> Node:
        name += self.next().text
        while self.take("."):
            name += "." + self.next().text
        opening = self.expect("{")
        message = StructNode(opening.pos, name, self._entries(self._field))
        return self.high(message, *message.children(), step=0)

    def arguments(self) -> list[Node]:
        """After the opening parenthesis; takes the closing one."""
        args = list[Node]()
        if self.take(")"):
            return args
        args.append(self.expr())
        while self.take(","):
            args.append(self.expr())
        self.expect(")")
        return args

    def _list(self) -> Node:
        opening = self.next()
        elements, optional = list[Node](), set[int]()
        while not self.take("]"):
            if elements or self.token.kind == ",":
                self.expect(",")
                if self.take("]"):
                    break
                if not elements:
                    raise _SyntaxError
            if self.take("?"):
                optional.add(len(elements))
            elements.append(self.expr())
        return self.high(ListNode(opening.pos, elements, frozenset(optional)), *elements, step=0)

    def _entries(self, item: Callable[[], Any]) -> list[Any]:
        """Entries up to the closing brace; a comma may follow the last, or stand alone."""
        entries = list[Any]()
        while not self.take("}"):
            if entries or self.token.kind == ",":
                self.expect(",")
                if self.take("}"):
                    break
                if not entries:
                    raise _SyntaxError
            entries.append(item())
        return entries

    def _map_entry(self) -> MapEntry:
        optional = self.take("?")
        key = self.expr()
        colon = self.expect(":")
        return MapEntry(colon.pos, key, self.expr(), optional=optional)

    def _field(self) -> FieldInit:
        optional = self.take("?")
        name = self._field_name()
        colon = self.expect(":")
        return FieldInit(colon.pos, name, self.expr(), optional=optional)

    def _field_name(self) -> str:
        if self.token.kind == ESCAPED:
            at = self.next().pos
            self.problems.add(at, "unsupported syntax: '`'")
            return ""
        return self.expect(IDENTIFIER).text

    def _literal(self) -> Node:
        start = self.token
        sign = "-" if self.take("-") else ""
        token = self.next()
        if sign and token.kind not in (lexer.INT, lexer.FLOAT):
            raise _SyntaxError
        try:
            return Literal(start.pos, literals.value(token.kind, sign + token.text))
        except literals.LiteralError as wrong:
            self.problems.add(start.pos, str(wrong))
            return Literal(start.pos, None)

    # Calls

    def operator(self, at: int, function: str, args: list[Node]) -> Node:
        return self.high(Call(at, function, args), *args)

    def call(self, at: int, function: str, args: list[Node], target: Node | None = None) -> Node:
        below = args if target is None else [target, *args]
        macro = self.macros.get((function, len(args), target is not None))
        if macro is not None:
            try:
                expanded = macro(at, target, args)
            except MacroError as wrong:
                self.problems.add(wrong.pos, str(wrong))
                return Ident(at, function)
            if expanded is not None:
                return self.high(expanded, *below, step=0)
        return self.high(Call(at, function, args, target), *below, step=0)
